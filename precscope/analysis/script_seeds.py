"""Seeds of the runs of a script: on how many, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from precscope.analysis.seeds import SECONDS_PER_RECIPE, SEVERAL, SeedPlan

UNMOVED = (
    "another seed changes nothing in this script, not even where the seeds that it sets are "
    "shifted: two FP32 runs are bit-identical, so there is no spread to judge a difference by"
)


def plan_script_seeds(
    asked: int | None,
    seconds: Sequence[float],
    is_proof: bool,
    failed: Mapping[str, str],
) -> SeedPlan:
    """As many seeds as asked for; else three where runs of the script are quick, else one.

    Three if three runs of the slower recipe, start of the script included, take at most 20 s.

    Args:
        asked: what the user said, None if nothing.
        seconds: of FP32 and of the recipe under test.
        is_proof: whether that recipe is the advised one.
        failed: recipes that the script cannot be run with.
    """
    if len(seconds) < 2 or failed:
        return SeedPlan(1, False, "no recipe was trained beside FP32")
    if asked is not None:
        return SeedPlan(asked, True, f"{asked} asked for")
    if not is_proof:
        return SeedPlan(1, False, "the advised recipe is not among the recipes; --seeds compares")
    slowest = max(seconds)
    if SEVERAL * slowest <= SECONDS_PER_RECIPE:
        quick = f"{SEVERAL} runs take no more than {SECONDS_PER_RECIPE:.0f} s"
        return SeedPlan(SEVERAL, False, quick)
    return SeedPlan(
        1,
        False,
        f"one run of the script takes {slowest:.1f} s, {SEVERAL} would take more than "
        f"{SECONDS_PER_RECIPE:.0f} s: --seeds {SEVERAL} does it",
    )


def seeds_in_words(own: Sequence[Mapping[str, int]], seed: int, count: int) -> str:
    """What the runs were seeded with.

    Args:
        own: of each run, the first seed that the script gave each function, before any shift.
        seed: what was set before the first run.
        count: how many seeds FP32 was run on.
    """
    if not any(own):
        others = f", {seed + 1} and so on before the others" if count > 1 else ""
        return f"the script sets none itself: {seed} is set before it starts{others}"
    named = ", ".join(f"{name}({value})" for name, value in own[0].items())
    if any(one != own[0] for one in own):
        return (
            f"the script seeds itself differently each time ({named} in the first run), so that "
            "its runs are not on the same batches"
        )
    shifted = ", shifted by 1 for each further seed" if count > 1 else ""
    return f"the script sets its own, {named}{shifted}"
