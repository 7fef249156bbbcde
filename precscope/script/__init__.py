"""An unmodified training script, run in a process of its own and observed from inside."""

from precscope.script.target import Script as Script
