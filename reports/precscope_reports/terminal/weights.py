"""Master weights: the parameters whose updates FP16 weights would swallow most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from precscope_reports.phrases import DASH, counted, number, share, verdict_word
from precscope_reports.terminal.page import Page

SHOWN = 8
STYLES = {"required": "red", "advised": "yellow"}

Parameter = Mapping[str, Any]


def master_weights(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """The worst parameters by the share of their updates that FP16 weights keep."""
    found: Mapping[str, Any] = result["master_weights"]
    yield page.heading("Master weights")
    word = verdict_word(found["verdict"])
    yield page.text(f"{word[:1].upper()}{word[1:]}: {found['reason']}")
    if found["verdict"] in STYLES and found["alternatives"]:
        yield page.note(f"Instead: {'; '.join(found['alternatives'])}")
    parameters = sorted(found["parameters"], key=_kept)
    if not parameters:
        return
    yield page.table(
        ("parameter", "kept", "at lr/10", "at lr/100", "lost", "lr", "FP32 copy"),
        [_row(parameter, page) for parameter in parameters[:SHOWN]],
    )
    yield page.note(_legend(len(parameters)))


def _kept(parameter: Parameter) -> tuple[bool, float]:
    """Sorting key: what is not judged last, otherwise the least retention first."""
    retention = parameter["retention"]
    is_last = parameter["verdict"] == "stays_fp32" or bool(parameter.get("is_noise"))
    return is_last, float("inf") if retention is None else float(retention)


def _row(parameter: Parameter, page: Page) -> tuple[Text | str, ...]:
    verdict = str(parameter["verdict"])
    return (
        str(parameter["name"]),
        page.text(_retention(parameter["retention"]), STYLES.get(verdict, "")),
        page.text(_retention(parameter["retention_0_1"])),
        page.text(_retention(parameter["retention_0_01"])),
        page.text(share(parameter["lost_updates_fraction"])),
        page.text(number(parameter["learning_rate"])),
        page.text(verdict_word(verdict), STYLES.get(verdict, "")),
    )


def _retention(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _legend(parameters: int) -> str:
    hidden = parameters - SHOWN
    more = f" {counted(hidden, 'more parameter')} in the page." if hidden > 0 else ""
    return (
        "Kept: share of an update that weights stored in FP16 take on (1 is all of it), now and "
        f"at a later learning rate. Lost: updates that change nothing.{more}"
    )
