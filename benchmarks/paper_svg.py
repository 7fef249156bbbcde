"""Line charts as small SVG pictures: axes with round ticks, a legend, marks, bars at the left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 640, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 52, 46
COLOURS = ("#4269d0", "#ef8b1f", "#d0342c", "#3a9b5c", "#8a5cc4", "#6b7280")
INK, FAINT = "#6b7280", "#9ca3af"
LETTER = 6.2
"""Width of a letter of the legend, nearly."""

BAR = 5
ASIDE = 52
"""Room for the bars, at least: for the word below them, too."""

MOST_TICKS = 8

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """What is drawn along an axis.

    Attributes:
        name: in words.
        is_log2: values are exponents of two already.
        is_log10: values are drawn by their decimal logarithm.
    """

    name: str
    is_log2: bool = False
    is_log10: bool = False

    def place(self, value: float) -> float:
        """Where a value lies on the axis."""
        return log10(value) if self.is_log10 else value

    def told(self, place: float) -> str:
        """The label of a tick."""
        if self.is_log2:
            return f"2^{place:.0f}"
        return f"{10**place:g}" if self.is_log10 else f"{place:g}"


def ticks(low: float, high: float, whole: bool) -> list[float]:
    """At most eight round numbers between two: steps of 1, 2 or 5 times a power of ten."""
    rough = max((high - low) / MOST_TICKS, 1e-9)
    power = 10.0 ** floor(log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    step = max(step, 1.0) if whole else step
    return [round(i * step, 10) for i in range(ceil(low / step), floor(high / step) + 1)]


def lines(
    series: Mapping[str, Points],
    across: Axis,
    up: Axis,
    marks: Sequence[float] = (),
    bars: Mapping[str, float] | None = None,
) -> str:
    """The series in their colours.

    Args:
        series: points by name.
        across: the horizontal axis.
        up: the vertical one.
        marks: places of vertical lines, with their label.
        bars: a value of each series that has no place on the horizontal axis.
    """
    bars = bars or {}
    placed = {n: [(across.place(x), up.place(y)) for x, y in p] for n, p in series.items()}
    xs = [x for points in placed.values() for x, _ in points] + list(marks)
    ys = [y for points in placed.values() for _, y in points] + [up.place(b) for b in bars.values()]
    plot = _Plot(
        (min(xs), max(xs)), (min(ys), max(ys)), max(BAR * (len(series) + 3), ASIDE) if bars else 0
    )
    body = [plot.axes(across, up), *(plot.mark(x, across) for x in marks)]
    room = LEFT
    for index, (name, points) in enumerate(placed.items()):
        colour = COLOURS[index % len(COLOURS)]
        body += [plot.line(name, points, colour), _legend(name, colour, room)]
        room += round(LETTER * len(name)) + 26
        if name in bars:
            body.append(plot.bar(up.place(bars[name]), index, colour))
    title = f"{escape(up.name)} by {escape(across.name)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
        f' font-family="system-ui, sans-serif" font-size="11" fill="{INK}">'
        f"<title>{title}</title>{''.join(body)}</svg>"
    )


def _legend(name: str, colour: str, across: int) -> str:
    return (
        f'<path d="M{across} 14h12" stroke="{colour}" stroke-width="3"/>'
        f'<text x="{across + 16}" y="18">{escape(name)}</text>'
    )


class _Plot:
    """Where a point lies in the picture."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float], aside: int) -> None:
        self._x = x if x[1] > x[0] else (x[0], x[0] + 1)
        self._y = y if y[1] > y[0] else (y[0], y[0] + 1)
        self._left = LEFT + aside

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Place of a point."""
        along = (x - self._x[0]) / (self._x[1] - self._x[0])
        up = (y - self._y[0]) / (self._y[1] - self._y[0])
        return (
            round(self._left + along * (WIDTH - self._left - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    def axes(self, across: Axis, up: Axis) -> str:
        """Ticks, faint lines and names."""
        made = []
        for y in ticks(*self._y, whole=up.is_log10):
            _, height = self.at(self._x[0], y)
            made.append(
                f'<path d="M{LEFT} {height}H{WIDTH - RIGHT}" stroke="{FAINT}" stroke-opacity=".35"/>'
                f'<text x="{LEFT - 6}" y="{height + 4}" text-anchor="end">{up.told(y)}</text>'
            )
        for x in ticks(*self._x, whole=across.is_log2):
            along, bottom = self.at(x, self._y[0])
            label = across.told(x)
            made.append(f'<text x="{along}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
        made.append(
            f'<text x="{(self._left + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
            f'{escape(across.name)}</text><text x="8" y="{TOP - 12}">{escape(up.name)}</text>'
        )
        if self._left > LEFT:
            made.append(f'<text x="{LEFT}" y="{HEIGHT - BOTTOM + 16}">zeros</text>')
        return "".join(made)

    def mark(self, x: float, across: Axis) -> str:
        """A dashed vertical line."""
        along, bottom = self.at(x, self._y[0])
        return (
            f'<path d="M{along} {TOP}V{bottom}" stroke="{INK}" stroke-dasharray="4 3"/>'
            f'<text x="{along}" y="{TOP - 4}" text-anchor="middle">{across.told(x)}</text>'
        )

    def line(self, name: str, points: Points, colour: str) -> str:
        """A series."""
        path = "L".join(f"{x} {y}" for x, y in (self.at(*point) for point in points))
        return (
            f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8">'
            f"<title>{escape(name)}</title></path>"
        )

    def bar(self, y: float, index: int, colour: str) -> str:
        """A bar beside the others, left of the axis."""
        _, top = self.at(self._x[0], y)
        left, bottom = LEFT + 2 + index * BAR, HEIGHT - BOTTOM
        return f'<path d="M{left} {bottom}V{top}h{BAR - 1}V{bottom}z" fill="{colour}"/>'
