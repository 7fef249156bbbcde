"""Quantities of training runs: loss, skipped steps, divergence, metrics, parity, cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from precscope.rules.quantity import (
    QualifierKind,
    Quantity,
    Reading,
    Readings,
    Result,
    Selection,
    none_meant,
    number,
)

Run = dict[str, Any]
RECIPE: frozenset[QualifierKind] = frozenset({"recipe", "all"})

BASELINE = "fp32"
ADVISED = "advised"
PARITY_WORDS = ("parity", "better", "worse", "unknown")
PROMISE_WORDS = ("kept", "broken")


def _runs(result: Result, selection: Selection) -> tuple[list[Run], str]:
    known: list[Run] = result["runs"]
    if not known:
        return [], "nothing was trained"
    if selection.everything:
        return known, ""
    recipe = selection.recipe or result["parity"]["recipe"]
    trained = ", ".join(dict.fromkeys(str(run["recipe"]) for run in known))
    if recipe is None:
        return [], f"no recipe was trained beside FP32 (trained: {trained})"
    meant = [run for run in known if run["recipe"] == recipe]
    return meant, "" if meant else f"recipe {recipe} was not trained (trained: {trained})"


def _reader(reading: Callable[[Run], Reading | str]) -> Callable[[Result, Selection], Readings]:
    """A reader of one value per run; a string says why a run has none."""

    def read(result: Result, selection: Selection) -> Readings:
        runs, absent = _runs(result, selection)
        made = [reading(run) for run in runs]
        found = tuple(m for m in made if isinstance(m, Reading))
        missing = [m for m in made if isinstance(m, str)]
        return Readings(found, absent or (missing[0] if missing else ""))

    return read


def _label(run: Run) -> str:
    seed = run.get("seed")
    return str(run["recipe"]) if seed is None else f"{run['recipe']}, seed {seed}"


def _at(run: Run, value: Any, detail: str = "") -> Reading:
    return Reading(str(run["recipe"]), _label(run), number(value), (), detail)


def _diverged_words(run: Run) -> str:
    if run.get("diverged_at") is None:
        return ""
    return f"diverged at step {run['diverged_at']}"


def _final_loss(run: Run) -> Reading:
    return _at(run, run["final_loss"], _diverged_words(run))


def _skipped(run: Run) -> Reading:
    return _at(run, run["skipped_steps"], f"of {run['steps']}")


def _skipped_share(run: Run) -> Reading | str:
    if not run["steps"]:
        return f"{_label(run)} trained no step"
    return _at(run, number(run["skipped_steps"]) / number(run["steps"]))


def _diverged(run: Run) -> Reading:
    return _at(run, 0 if run["diverged_at"] is None else 1, _diverged_words(run))


def _step_ms(run: Run) -> Reading | str:
    times = run.get("step_ms")
    if run["simulated"]:
        return f"{_label(run)} is simulated on a CPU: its step times mean nothing"
    return f"{_label(run)} was not timed" if not times else _at(run, times["median"])


def _peak_memory(run: Run) -> Reading | str:
    if run["peak_memory_bytes"] is None:
        return str(run.get("peak_memory_reason") or "it was not measured")
    return _at(run, run["peak_memory_bytes"])


def _read_gap(result: Result, selection: Selection) -> Readings:
    runs, absent = _runs(result, selection)
    baselines = {r.get("seed"): r for r in result["runs"] if r["recipe"] == BASELINE}
    found = [_gap(run, baselines[run.get("seed")]) for run in runs if run.get("seed") in baselines]
    if len(found) < len(runs):
        absent = absent or "FP32 was not trained on the same seed"
    return Readings(tuple(found), absent)


def _gap(run: Run, baseline: Run) -> Reading:
    final, reference = number(run["final_loss"]), number(baseline["final_loss"])
    detail = f"final loss {final:.6g}, FP32 {reference:.6g}"
    return _at(run, _relative(final - reference, reference), detail)


def _relative(difference: float, reference: float) -> float:
    if reference == 0.0 and not math.isnan(difference):
        return 0.0 if difference == 0.0 else math.copysign(math.inf, difference)
    return difference / abs(reference)


def _read_metric(result: Result, selection: Selection) -> Readings:
    runs, absent = _runs(result, selection)
    if not runs:
        return Readings(absent=absent)
    known = list(dict.fromkeys(name for run in result["runs"] for name in run["metrics"] or {}))
    names = [name for name in known if selection.names(name)]
    if not names:
        return none_meant(selection, "metric", known)
    found = [_metric(run, name) for run in runs for name in names]
    missing = [m for m in found if isinstance(m, str)]
    kept = tuple(m for m in found if isinstance(m, Reading))
    return Readings(kept, missing[0] if missing else "")


def _metric(run: Run, name: str) -> Reading | str:
    """Its value; no number where the run diverged and was not evaluated."""
    metrics = run["metrics"] or {}
    if name not in metrics and run["diverged_at"] is None:
        return f"{_label(run)} has no {name}"
    label = f"{name} of {_label(run)}"
    return Reading(name, label, number(metrics.get(name)), (), _diverged_words(run))


def _read_parity(result: Result, selection: Selection) -> Readings:
    found = result["parity"]
    if found["recipe"] is None:
        return Readings(absent=str(found["reason"]))
    label = f"{found['recipe']} beside {BASELINE}"
    reading = Reading("", label, math.nan, (str(found["verdict"]),), str(found["reason"]))
    return Readings((reading,))


def _read_promise(result: Result, selection: Selection) -> Readings:
    found = result["parity"]
    if found["recipe"] != ADVISED:
        return Readings(absent="the advised recipe was not trained beside FP32")
    breaches = found["breaches"]
    if not breaches and not found["loss"]["seeds"]:
        return Readings(absent=f"it was not put to the test, {found['reason']}")
    word = "broken" if breaches else "kept"
    told = "; it ".join(str(breach["what"]) for breach in breaches)
    return Readings((Reading("", "the advised recipe", math.nan, (word,), told),))


def run_quantities() -> Iterable[Quantity]:
    """Every quantity of training runs."""
    for name, unit, definition, read in (
        (
            "final_loss",
            "",
            "mean of the last tenth of the losses; no number, and a hit, where a run diverged",
            _reader(_final_loss),
        ),
        (
            "loss_gap",
            "of FP32's final loss",
            "(final loss - FP32's) / abs(FP32's), on the same seed",
            _read_gap,
        ),
    ):
        yield _number(name, unit, definition, read)
    for name, unit, definition, read in (
        ("skipped_steps", "steps", "updates that the loss scaler skipped", _reader(_skipped)),
        ("step_ms", "ms", "median time of a step; not of simulated runs", _reader(_step_ms)),
        ("peak_memory_bytes", "bytes", "peak memory of the device", _reader(_peak_memory)),
    ):
        yield _number(name, unit, definition, read, lower=0.0)
    share, steps = _reader(_skipped_share), "of the steps"
    yield _number(
        "skipped_share", steps, "skipped steps over all steps", share, lower=0.0, upper=1.0
    )
    metric = "metrics of evaluate(); @ selects by the name of the metric"
    yield _number("metric", "", metric, _read_metric, over="metrics")
    yield Quantity(
        "diverged",
        "flag",
        "runs",
        "",
        "the run ended in a loss that is no number",
        _reader(_diverged),
        qualifiers=RECIPE,
        trained=True,
    )
    yield _word(
        "parity", "the recipe under test beside FP32's own spread", _read_parity, PARITY_WORDS
    )
    yield _word(
        "promise", "whether the advised recipe trains like FP32", _read_promise, PROMISE_WORDS
    )


def _number(
    name: str,
    unit: str,
    definition: str,
    read: Callable[[Result, Selection], Readings],
    **more: Any,
) -> Quantity:
    settings = {"over": "runs", "qualifiers": RECIPE, "trained": True, **more}
    return Quantity(
        name=name, sort="number", unit=unit, definition=definition, read=read, **settings
    )


def _word(
    name: str,
    definition: str,
    read: Callable[[Result, Selection], Readings],
    words: tuple[str, ...],
) -> Quantity:
    return Quantity(name, "word", "model", "", definition, read, words, trained=True)
