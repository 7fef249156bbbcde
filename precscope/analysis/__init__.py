"""The whole flow over a workload: what ``precscope analyze`` and ``precscope train`` do."""

from precscope.analysis.flow import analyze as analyze
from precscope.analysis.flow import train_only as train_only
from precscope.analysis.options import DEFAULT_RECIPES as DEFAULT_RECIPES
from precscope.analysis.options import AnalysisOptions as AnalysisOptions
from precscope.analysis.options import Progress as Progress
from precscope.analysis.options import SweepOptions as SweepOptions
from precscope.analysis.sweep import scale_sweep as scale_sweep
