"""The figures, as small SVG pictures that need no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import log10
from typing import Any

from paper_claims import needed_dose
from paper_judge import Cells
from paper_plan import DOMAINS, DOSE_DOMAIN, SLOW_DOMAIN, SLOW_LOG2_RATE, SLOW_RECIPES

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 46
COLOURS = ("#4269d0", "#ef8b1f", "#d0342c", "#3a9b5c", "#8a5cc4", "#6b7280")
INK, FAINT = "#6b7280", "#9ca3af"

Points = Sequence[tuple[float, float]]


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
    return caption, lines(curves, "step", "loss", from_zero=False)


def _exponents(cells: Cells, kind: str, names: list[str]) -> tuple[str, str] | None:
    series: dict[str, list[tuple[float, float]]] = {}
    zeros: dict[str, float] = {}
    for name in names:
        found = cells.get(f"{name}/histograms/fp32/0", {}).get(kind)
        if not found:
            continue
        total = found["zeros"] + sum(found["counts"].values())
        series[name] = [(float(e), c / total * 100) for e, c in found["counts"].items()]
        zeros[name] = found["zeros"] / total
    if not series:
        return None
    told = ", ".join(f"{name} {share:.1%}" for name, share in zeros.items())
    what = "weight gradients (figure 2b)" if kind == "weight_gradient" else (
        "activation gradients of the detector (figure 3)"
    )  # fmt: skip
    caption = (
        f"Exponents of {what}, whole FP32 runs; share of all values, zeros in a bin of their own:"
        f" {told}. FP16 flushes what lies left of the first line; subnormal up to the second."
    )
    return caption, lines(series, "exponent of two", "% of values", marks=(-25.0, -14.0))


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
    return caption, lines(series, "log2 of the loss scale", "relative", log_y=True)


def lines(
    series: Mapping[str, Points],
    x_name: str,
    y_name: str,
    log_y: bool = False,
    marks: Sequence[float] = (),
    from_zero: bool = True,
) -> str:
    """Lines with a legend; ``marks`` are vertical lines."""
    if log_y:
        series = {name: [(x, log10(y)) for x, y in points] for name, points in series.items()}
    xs = [x for points in series.values() for x, _ in points] + list(marks)
    ys = [y for points in series.values() for _, y in points]
    plot = _Plot(
        (min(xs), max(xs)), (min(0.0, *ys) if from_zero and not log_y else min(ys), max(ys)), log_y
    )
    body = [plot.axes(x_name, y_name), *(plot.mark(x) for x in marks)]
    for index, (name, points) in enumerate(series.items()):
        body.append(plot.line(name, points, COLOURS[index % len(COLOURS)], index))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="11" fill="{INK}">'
        f"<title>{escape(y_name)} by {escape(x_name)}</title>{''.join(body)}</svg>"
    )


class _Plot:
    def __init__(self, x: tuple[float, float], y: tuple[float, float], log_y: bool) -> None:
        self._x = x if x[1] > x[0] else (x[0], x[0] + 1)
        self._y = y if y[1] > y[0] else (y[0], y[0] + 1)
        self._log_y = log_y

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Place of a point in the picture."""
        across = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    def axes(self, x_name: str, y_name: str) -> str:
        """Ticks, faint lines and names."""
        made: list[Any] = []
        for i in range(5):
            y = self._y[0] + (self._y[1] - self._y[0]) * i / 4
            left, height = self.at(self._x[0], y)
            right, _ = self.at(self._x[1], y)
            told = f"{10**y:.1g}" if self._log_y else f"{y:.3g}"
            made.append(
                f'<path d="M{left} {height}H{right}" stroke="{FAINT}" stroke-opacity=".35"/>'
                f'<text x="{left - 6}" y="{height + 4}" text-anchor="end">{told}</text>'
            )
            x = self._x[0] + (self._x[1] - self._x[0]) * i / 4
            across, bottom = self.at(x, self._y[0])
            made.append(f'<text x="{across}" y="{bottom + 16}" text-anchor="middle">{x:.4g}</text>')
        made.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
            f'{escape(x_name)}</text><text x="8" y="{TOP - 8}">{escape(y_name)}</text>'
        )
        return "".join(made)

    def mark(self, x: float) -> str:
        """A dashed vertical line."""
        across, bottom = self.at(x, self._y[0])
        return (
            f'<path d="M{across} {TOP}V{bottom}" stroke="{INK}" stroke-dasharray="4 3"/>'
            f'<text x="{across + 3}" y="{TOP + 22}">2^{x:.0f}</text>'
        )

    def line(self, name: str, points: Points, colour: str, index: int) -> str:
        """A line and its entry in the legend."""
        path = "L".join(f"{x} {y}" for x, y in (self.at(*point) for point in points))
        across = LEFT + 60 + index * 95 if len(name) < 16 else LEFT + 60 + index * 240
        return (
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8">'
            f"<title>{escape(name)}</title></path>"
            f'<text x="{across}" y="{TOP - 20}" fill="{colour}">{escape(name)}</text>'
        )
