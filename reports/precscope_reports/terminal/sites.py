"""The sites that FP16 hurts most, each as a bar of exponents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType

from precscope_reports.phrases import counted, magnitude, share
from precscope_reports.terminal.bars import bar_header, exponent_bar
from precscope_reports.terminal.page import Page

SHOWN = 8
NOTABLE_L1_FRACTION = 1e-3
KINDS = {
    "activation": "act",
    "activation_gradient": "act grad",
    "weight": "weight",
    "weight_gradient": "wgt grad",
}

Site = Mapping[str, Any]


def riskiest_sites(result: Mapping[str, Any], page: Page) -> Iterator[RenderableType]:
    """A table of the riskiest sites; a sentence where no site is at risk."""
    sites: list[Site] = result["sites"]
    if not sites:
        return
    yield page.heading("Riskiest sites")
    risky = ranked(result)
    if not risky:
        yield page.note("No value observed leaves the normal range of FP16.", "green")
        return
    yield page.table(
        ("site", "kind", bar_header(page.ascii_only).plain, "amax", "L1 lost"),
        [_row(site, page) for site in risky[:SHOWN]],
        left=3,
    )
    yield page.note(_legend(len(risky)))


def ranked(result: Mapping[str, Any]) -> list[Site]:
    """The sites at risk that FP16 changes, the worst first."""
    return sorted((site for site in result["sites"] if _hurt(site)), key=_risk, reverse=True)


def _hurt(site: Site) -> bool:
    return bool(site["at_risk"]) and any(_risk(site))


def _risk(site: Site) -> tuple[float, ...]:
    broken = site["histogram"]["infinities"] + site["histogram"]["nans"]
    shares = ("overflow_fp16", "l1_flushed_fp16", "flushed_fp16", "subnormal_fp16")
    return (float(broken > 0), *(float(site[name] or 0.0) for name in shares))


def _row(site: Site, page: Page) -> tuple[Any, ...]:
    return (
        site["name"],
        page.text(KINDS.get(site["kind"], site["kind"])),
        exponent_bar(site["histogram"], page.ascii_only),
        page.text(magnitude(site["amax"])),
        page.text(*lost_cell(site)),
    )


def lost_cell(site: Site) -> tuple[str, str]:
    """What FP16 loses at a site, in a word or as its share of the L1 mass, and its style."""
    if site["histogram"]["nans"]:
        return "NaN", "red"
    if site["histogram"]["infinities"]:
        return "infinite", "red"
    if site["overflow_fp16"]:
        return "overflow", "red"
    lost = site["l1_flushed_fp16"]
    return share(lost), "red" if (lost or 0.0) > NOTABLE_L1_FRACTION else ""


def _legend(risky: int) -> str:
    more = f" {counted(risky - SHOWN, 'more site')} in the page." if risky > SHOWN else ""
    return (
        "Values by binary exponent, unscaled, two octaves per cell, heights logarithmic. "
        f"L1 lost: share of the sum of |x| that FP16 makes zero.{more}"
    )
