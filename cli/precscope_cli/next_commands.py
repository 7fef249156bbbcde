"""What to type next: the commands at the end of a report, by what the run showed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONGER = 10
"""How many times more steps a command offered at the end takes."""

PROOF_SEEDS = 3
"""Seeds on which another recipe is held against FP32."""

OFFERED = ("bf16", "fp16", "paper")
"""Recipes to turn to when the advised one fails, the least delicate first; no ablation."""


@dataclass(frozen=True, slots=True)
class Commands:
    """The commands about a model file.

    Attributes:
        file: the model file, as it was named.
        observed_steps: steps that the analysis watched.
        trained_steps: steps that each recipe was trained for.
    """

    file: str
    observed_steps: int
    trained_steps: int

    def train_longer(self) -> str:
        """Train FP32 and the advice for ten times as many steps."""
        longer = ("--recipes", "fp32,advised", "--recipe-steps", str(LONGER * self.trained_steps))
        return self._line(("analyze", self.file, *longer), "train longer with the advice")

    def what_to_set(self) -> str:
        """Analyze, after a training that nothing has advised."""
        return self._line(("analyze", self.file), "what to set")

    def which_scale(self) -> str:
        """Analyze, after a sweep has shown the doses."""
        return self._line(("analyze", self.file), "which scale to set")

    def after_breach(self, result: Mapping[str, Any]) -> tuple[str, ...]:
        """What to do where the advised recipe did not train like FP32; () where it did.

        Where FP32 itself diverged there is nothing to hold a recipe against, and nothing to
        train longer. Else first another recipe that did, then what mends the breach: the loss in FP32 where it
        overflows, a sweep of the loss scales where gradients are lost or steps skipped, else a
        longer look before advising again.

        Args:
            result: a dict of schema 1, see ``docs/json.md``.
        """
        if _fp32_diverged(result["runs"]):
            return (self._line(("analyze", self.file), "once FP32 itself trains"),)
        breaches = result["parity"]["breaches"]
        if not breaches:
            return ()
        other = _other_recipe(result["runs"])
        return (*([self._proof_of(other)] if other else []), self._mending(breaches, result))

    def _proof_of(self, recipe: str) -> str:
        steps, seeds = str(LONGER * self.trained_steps), str(PROOF_SEEDS)
        asked = ("--recipes", f"fp32,{recipe}", "--steps", steps, "--seeds", seeds)
        return self._line(("train", self.file, *asked), f"{recipe} did train like FP32: prove it")

    def _mending(self, breaches: Sequence[Mapping[str, Any]], result: Mapping[str, Any]) -> str:
        if any("fp32_loss" in breach["numbers"] for breach in breaches):
            return self._line(("analyze", self.file), "once the loss is computed in FP32")
        is_fp16 = result["recipe"]["compute_dtype"] == "float16"
        if is_fp16 and any(breach["kind"] != "behind" for breach in breaches):
            return self._line(("scale-sweep", self.file), "which loss scales train like FP32")
        longer = ("--steps", str(LONGER * self.observed_steps))
        return self._line(("analyze", self.file, *longer), "observe longer, and advise again")

    def _line(self, words: Sequence[str], purpose: str) -> str:
        return f"{shlex.join(('precscope', *words))}  # {purpose}"


def _fp32_diverged(runs: Sequence[Mapping[str, Any]]) -> bool:
    return any(run["recipe"] == "fp32" and run["diverged_at"] is not None for run in runs)


def _other_recipe(runs: Sequence[Mapping[str, Any]]) -> str | None:
    from precscope.advice.promise import trains_like_fp32

    return next((recipe for recipe in OFFERED if trains_like_fp32(runs, recipe)), None)
