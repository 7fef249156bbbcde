"""Where a training step adds numbers up, and what FP16 accumulators would make of it."""

from __future__ import annotations

from precscope.probes.accumulation.probe import measure_accumulation

__all__ = ["measure_accumulation"]
