"""The sweep over static loss scales: dose and response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import (
    DASH,
    count,
    counted,
    difference,
    number,
    power_of_two,
    sentence,
    share,
)
from precscope_reports.terminal.page import Page

Dose = Mapping[str, Any]


def scale_sweep(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """What each static loss scale did to the gradients and to the final loss."""
    sweep: Mapping[str, Any] | None = result.get("scale_sweep")
    if sweep is None:
        return
    yield page.heading("Scale sweep")
    yield page.text(sentence(sweep["reason"]), "bold")
    yield page.note(_setting(sweep))
    headers = ("scale", "gradient error", "of the worst", "final loss", "vs fp32", "skipped")
    yield page.table(headers, [_row(dose, page) for dose in sweep["doses"]])
    left = len(sweep["planned_log2"]) - len(sweep["doses"])
    if left:
        yield page.note(f"Interrupted: {counted(left, 'scale')} not trained.", "yellow")
    yield from (page.note(line) for line in _legend(sweep))


def _setting(sweep: Mapping[str, Any]) -> str:
    loss = number(sweep["fp32_final_loss"])
    return f"{sweep['steps']} steps each, seed {sweep['seed']}; fp32 ends at a loss of {loss}"


def _row(dose: Dose, page: Page) -> tuple[Text, ...]:
    style = "" if dose["works"] else "red"
    cells = (
        (power_of_two(dose["log2_scale"]), "bold" if dose["works"] else ""),
        (_error(dose, "gradient_error_all"), ""),
        (_error(dose, "gradient_error"), ""),
        (DASH if dose["diverged_at"] is not None else number(dose["final_loss"]), style),
        (_against(dose), style),
        (count(dose["skipped_steps"]), "yellow" if dose["skipped_steps"] else ""),
    )
    return tuple(page.text(*cell) for cell in cells)


def _error(dose: Dose, key: str) -> str:
    return "overflow" if dose["overflows"] and dose[key] is None else share(dose[key])


def _against(dose: Dose) -> str:
    if dose["diverged_at"] is not None:
        return "diverged"
    return difference(dose["relative_difference"])


def _legend(sweep: Mapping[str, Any]) -> Iterator[str]:
    floor = sweep["gradient_error_floor"]
    alone = "Floor: what FP16 rounding costs at any scale"
    costs = "" if floor is None else f" {alone}, here up to {share(floor)}."
    yield (
        "Gradient error: relative L2 of all parameters together; of the worst: of the one parameter "
        f"that exceeds its floor the most, on {counted(sweep['batches'], 'batch', 'batches')} of the "
        f"fp32 run.{costs} {sentence(sweep['recipe'])}"
    )
    if sweep["simulated"]:
        yield "Simulated: FP16 storage with FP32 arithmetic rounded at the store."
