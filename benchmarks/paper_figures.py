"""The figures, as small SVG pictures that need no script."""

from __future__ import annotations

from paper_claims import needed_dose
from paper_judge import Cells
from paper_plan import DOMAINS, DOSE_DOMAIN, SLOW_DOMAIN, SLOW_LOG2_RATE, SLOW_RECIPES
from paper_svg import Axis, lines

LEAST_PERCENT = 1e-4
"""Smaller shares are not drawn."""


def figures(cells: Cells) -> dict[str, tuple[str, str]]:
    """Caption and SVG by name, of the figures that there are cells for."""
    made = {
        "2a": _master_copy(cells),
        "2b": _exponents(cells, "weight_gradient", [d.name for d in DOMAINS]),
        "3": _exponents(cells, "activation_gradient", [DOSE_DOMAIN]),
        "dose": _doses(cells),
    }
    return {name: figure for name, figure in made.items() if figure is not None}


def _master_copy(cells: Cells) -> tuple[str, str] | None:
    found = {r: cells.get(f"{SLOW_DOMAIN}/slow/{r}/0", {}).get("curve") for r in SLOW_RECIPES}
    curves = {
        recipe: [(x, y) for x, y in curve if y is not None]
        for recipe, curve in found.items()
        if curve
    }
    if not curves:
        return None
    caption = (
        f"Figure 2a: training loss of the {SLOW_DOMAIN} network at its learning rate times"
        f" 2^{SLOW_LOG2_RATE}, in FP32, in FP16 with a master copy, and without one."
    )
    return caption, lines(curves, Axis("step"), Axis("loss"))


def _exponents(cells: Cells, kind: str, names: list[str]) -> tuple[str, str] | None:
    series: dict[str, list[tuple[float, float]]] = {}
    zeros: dict[str, float] = {}
    for name in names:
        found = cells.get(f"{name}/histograms/fp32/0", {}).get(kind)
        if not found:
            continue
        total = found["zeros"] + sum(found["counts"].values())
        shares = {float(e): c / total * 100 for e, c in found["counts"].items()}
        series[name] = [(e, share) for e, share in shares.items() if share >= LEAST_PERCENT]
        zeros[name] = found["zeros"] / total * 100
    if not series:
        return None
    told = ", ".join(f"{name} {share:.1f} %" for name, share in zeros.items())
    what = "weight gradients (figure 2b)" if kind == "weight_gradient" else (
        "activation gradients of the detector (figure 3)"
    )  # fmt: skip
    caption = (
        f"Exponents of {what}, whole FP32 runs. Exact zeros have the bars at the left: {told}."
        " FP16 flushes what lies left of the first line; subnormal up to the second."
    )
    across, up = Axis("magnitude", is_log2=True), Axis("% of values", is_log10=True)
    bars = {name: max(share, LEAST_PERCENT) for name, share in zeros.items() if share > 0}
    return caption, lines(series, across, up, marks=(-25.0, -14.0), bars=bars)


def _doses(cells: Cells) -> tuple[str, str] | None:
    errors = cells.get(f"{DOSE_DOMAIN}/probe/fp32/0", {}).get("errors")
    if not errors:
        return None
    points = [(float(k), max(e, 1e-6)) for k, e in errors.items() if e is not None]
    start = f"{DOSE_DOMAIN}/dose/"
    fp32 = cells.get(f"{DOSE_DOMAIN}/train/fp32/0", {}).get("final_loss")
    trained = sorted(
        (float(key.split("/")[2]), max(abs(cell["final_loss"] / fp32 - 1), 1e-6))
        for key, cell in cells.items()
        if key.startswith(start) and cell.get("final_loss") and fp32
    )
    series = {"relative error of the FP16 gradient": points, "relative excess of the loss": trained}
    dose = needed_dose(errors)
    caption = (
        f"Dose and response of the {DOSE_DOMAIN} network: a constant loss scale, the error of its"
        " FP16 gradients, and how far the loss of a run at that scale ends from FP32's."
        f" Good from 2^{dose} on."
    )
    series = {name: values for name, values in series.items() if values}
    return caption, lines(series, Axis("loss scale", is_log2=True), Axis("relative", is_log10=True))
