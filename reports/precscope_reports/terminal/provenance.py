"""Where the numbers come from: the setting, the cost, what was not seen, the definitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import byte_size, counted, duration, missing, ratio
from precscope_reports.terminal.page import Page

NAMED = 5


def title(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """What was looked at, where."""
    setting, coverage = result["environment"], result["coverage"]
    yield page.lead(page.text("precscope", "bold"), result["title"], "bold cyan")
    where = setting["device_name"] or setting["device"]
    seed = "no seed known" if setting["seed"] is None else f"seed {setting['seed']}"
    setting_told = f"{seed}; {where}, torch {setting['torch']}"
    if coverage["sites"]:
        steps = counted(coverage["observed_steps"], "step")
        setting_told = f"{steps} observed at {counted(coverage['sites'], 'site')}; {setting_told}"
    yield page.note(setting_told)


def cost_and_coverage(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """What observing cost, and what it did not see."""
    yield page.heading("Cost and coverage")
    yield page.text(_cost(result["timing"]))
    yield page.text(_seen(result["coverage"]))
    for line in _unseen(result["coverage"]):
        yield page.note(line)
    for error in result["coverage"]["observer_errors"]:
        times = counted(error["count"], "time")
        yield page.text(
            f"Observer failed at {error['where']}, {times}: {error['message']}", "yellow"
        )
    yield from _unmeasured(result["timing"], page)


def definitions(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """The terms used above."""
    if not result["definitions"]:
        return
    yield page.heading("Definitions")
    for entry in result["definitions"]:
        yield page.lead(page.text(f"{entry['term']}:"), entry["definition"], "dim")


def _cost(timing: Mapping[str, Any]) -> str:
    if timing["overhead_ratio"] is None:
        return f"Cost of observing: {missing(timing['overhead_reason'])}"
    plain, observed = duration(timing["plain_step_ms"]), duration(timing["observed_step_ms"])
    memory = byte_size(timing["observer_memory_bytes"])
    told = f"made a step {ratio(timing['overhead_ratio'])} as long"
    if timing["overhead_ratio"] < 1.0:
        told = "cost less than the steps vary"
    return f"Observing {told} ({plain} without, {observed} with) and took {memory} of memory."


def _seen(coverage: Mapping[str, Any]) -> str:
    unseen = len(coverage["modules_not_seen"])
    without = f", {unseen} not" if unseen else ", none missed"
    return f"{counted(coverage['modules_seen'], 'module')} seen{without}."


def _unseen(coverage: Mapping[str, Any]) -> Iterator[str]:
    modules = coverage["modules_not_seen"]
    for module in modules[:NAMED]:
        yield f"not seen: {module['name']} ({module['module_type']}): {module['reason']}"
    if len(modules) > NAMED:
        yield f"and {counted(len(modules) - NAMED, 'more module')}, listed in the page"
    for skipped in coverage["tensors_skipped"][:NAMED]:
        tensors = counted(skipped["count"], "tensor")
        yield f"skipped: {tensors}, {skipped['what']}: {skipped['reason']}"


def _unmeasured(timing: Mapping[str, Any], page: Page) -> Iterator[Text]:
    reasons: dict[str, list[str]] = {}
    parts = (("modules", "time per module"), ("tensor_cores", "tensor cores"), ("nvml", "NVML"))
    for key, what in parts:
        if not timing[key] and timing[f"{key}_reason"]:
            reasons.setdefault(timing[f"{key}_reason"], []).append(what)
    for reason, unmeasured in reasons.items():
        yield page.note(f"not measured: {', '.join(unmeasured)}: {reason}")
