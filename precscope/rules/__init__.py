"""Rules over a result: what must not happen, for ``precscope check`` and the pytest plug-in."""

from precscope.rules.judging import Hit as Hit
from precscope.rules.judging import Judgement as Judgement
from precscope.rules.judging import judge as judge
from precscope.rules.judging import judge_all as judge_all
from precscope.rules.rule import Rule as Rule
from precscope.rules.rule import needs_training as needs_training
from precscope.rules.rule import parse_rule as parse_rule
from precscope.rules.tokens import RuleError as RuleError
from precscope.rules.waivers import Outcome as Outcome
from precscope.rules.waivers import Waiver as Waiver
from precscope.rules.waivers import make_waiver as make_waiver
from precscope.rules.waivers import parse_waiver as parse_waiver
from precscope.rules.waivers import waive as waive
