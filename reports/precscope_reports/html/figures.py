"""Small drawings beside the verdicts: each answer as a picture that needs no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from precscope_reports.html.markup import Html, esc, join
from precscope_reports.html.sparkline import FIRST_EXPONENT, HEIGHT, LAST_EXPONENT, silhouette
from precscope_reports.html.thinning import thin_line
from precscope_reports.phrases import MINUS, count, share

WIDTH = 220
LOWEST_LOG2_SCALE, HIGHEST_LOG2_SCALE = -12, 24
LINE_POINTS = 60

Result = dict[str, Any]


def figure(question: str, result: Result) -> Html:
    """The drawing for a question, nothing where there is nothing to draw."""
    draw = {
        "range": _range,
        "loss_scale": _loss_scale,
        "master_weights": _master_weights,
        "training": _training,
        "accumulation": _accumulation,
    }.get(question)
    return draw(result) if draw else Html("")


def _drawing(height: int, inside: Html, label: str, caption: str) -> Html:
    return Html(
        f'<figure class="glance"><svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{esc(label)}">{inside}</svg>'
        f"<figcaption>{esc(caption)}</figcaption></figure>"
    )


def _text(x: float, y: float, text: str, anchor: str = "middle", css_class: str = "") -> Html:
    return Html(
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{css_class}">'
        f"{esc(text)}</text>"
    )


def merged(histograms: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The sum of histograms, with the keys that a silhouette needs."""
    totals: dict[int, int] = {}
    for histogram in histograms:
        for offset, value in enumerate(histogram["counts"]):
            exponent = histogram["first_exponent"] + offset
            totals[exponent] = totals.get(exponent, 0) + value
    first, last = min(totals, default=0), max(totals, default=-1)
    return {
        "first_exponent": first,
        "counts": [totals.get(exponent, 0) for exponent in range(first, last + 1)],
    }


def _range(result: Result) -> Html:
    """All activations and weights that are stored in half, over FP16's regions."""
    kinds = ("activation", "weight")
    sites = [s for s in result["sites"] if s["kind"] in kinds and s["at_risk"]]
    histogram = merged(site["histogram"] for site in sites)
    if not any(histogram["counts"]):
        return Html("")
    width = LAST_EXPONENT - FIRST_EXPONENT + 1
    stretch = f"scale({WIDTH / width:.4f} {44 / HEIGHT:g})"
    bars = f'<g transform="{stretch}"><path d="{silhouette(histogram)}" fill="url(#regions)"/></g>'
    edges = join(_edge(_place(e, FIRST_EXPONENT, LAST_EXPONENT + 1), 44) for e in (-25, -14, 16))
    words = join(
        _text(_place(at, FIRST_EXPONENT, LAST_EXPONENT + 1), 58, text)
        for at, text in ((-32.5, "flushed"), (-19.5, "subn."), (1, "normal"), (18.6, "∞"))
    )
    label = "All activations and weights stored in half precision, by power of two, in FP16"
    caption = "activations and weights, by power of two"
    return _drawing(62, Html(bars + edges + words), label, caption)


def _edge(x: float, height: float) -> Html:
    return Html(f'<path class="edge" d="M{x:.1f} 0V{height}"/>')


def _place(value: float, low: float, high: float) -> float:
    return (min(max(value, low), high) - low) / (high - low) * WIDTH


def _power(exponent: float) -> str:
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return "2" + f"{exponent:g}".translate(raised).replace(".", "·")


def _loss_scale(result: Result) -> Html:
    """The scale from 2^-12 to 2^24 as a ruler, the safe window and the recommended scale on it."""
    advice = result["loss_scale"]
    low, high, chosen = (
        advice[key] for key in ("minimum_log2", "maximum_log2", "recommended_log2")
    )
    if low is None and high is None:
        return Html("")
    start = _scale_place(LOWEST_LOG2_SCALE if low is None else low)
    stop = _scale_place(HIGHEST_LOG2_SCALE if high is None else high)
    parts = [Html('<path class="ruler" d="M4 24H216"/>')]
    if start <= stop:
        parts.append(
            Html(
                f'<rect class="safe" x="{start:.1f}" y="19" width="{stop - start:.1f}" height="10"/>'
            )
        )
    parts += [_tick(k) for k in range(LOWEST_LOG2_SCALE, HIGHEST_LOG2_SCALE + 1, 4)]
    if chosen is not None:
        x = _scale_place(chosen)
        parts.append(Html(f'<path class="pointer" d="M{x:.1f} 19l-5-7h10z"/>'))
        parts.append(_text(x, 9, _power(chosen), css_class="strong"))
    label = "Safe window of the loss scale between 2^-12 and 2^24"
    return _drawing(52, join(parts), label, "safe window of the loss scale")


def _scale_place(exponent: float) -> float:
    return 8 + _place(exponent, LOWEST_LOG2_SCALE, HIGHEST_LOG2_SCALE) * (WIDTH - 16) / WIDTH


def _tick(exponent: int) -> Html:
    x = _scale_place(exponent)
    words = _text(x, 46, _power(exponent)) if exponent % 12 == 0 else Html("")
    return Html(f'<path class="ruler" d="M{x:.1f} 29v4"/>{words}')


def _master_weights(result: Result) -> Html:
    """Retention of the worst parameter now, at a tenth and at a hundredth of its learning rate."""
    found = result["master_weights"]["parameters"]
    parameters = [p for p in found if p["verdict"] != "stays_fp32" and not p.get("is_noise")]
    rows = []
    for key, word in (("retention", "now"), ("retention_0_1", "÷ 10"), ("retention_0_01", "÷ 100")):
        found = [p[key] for p in parameters if p[key] is not None]
        if found:
            rows.append((word, min(found)))
    if not rows:
        return Html("")
    bars = join(_bar(index, word, part) for index, (word, part) in enumerate(rows))
    label = "Part of the update that FP16 weights keep: " + ", ".join(
        f"{word} {share(part)}" for word, part in rows
    )
    return _drawing(
        18 * len(rows),
        bars,
        label,
        "kept of the update that loses most, as the learning rate falls",
    )


def _bar(index: int, word: str, part: float) -> Html:
    y, width = 18 * index, max(0.0, min(1.0, part)) * 110
    return Html(
        f'{_text(40, y + 12, word, "end")}<rect class="room" x="46" y="{y + 3}" width="110" '
        f'height="11"/><rect class="kept" x="46" y="{y + 3}" width="{width:.1f}" height="11"/>'
        f"{_text(162, y + 12, share(part).replace('-', MINUS), 'start', 'strong')}"
    )


def _training(result: Result) -> Html:
    """Loss against step of fp32 and of the recipe under test."""
    name = (result.get("parity") or {}).get("recipe") or "advised"
    first = {run["recipe"]: run for run in reversed(result["runs"])}
    chosen = [first[recipe] for recipe in dict.fromkeys(("fp32", name)) if recipe in first]
    lines = [[v if isinstance(v, int | float) else None for v in r["losses"]] for r in chosen]
    values = [value for line in lines for value in line if value is not None]
    if len(values) < 2:
        return Html("")
    longest = max(len(line) for line in lines)
    bounds = (min(values), max(values))
    paths = join(
        Html(f'<path class="loss loss-{index}" d="{_polyline(line, longest, bounds)}"/>')
        for index, line in enumerate(lines)
    )
    caption = "loss of " + " and ".join(run["recipe"] for run in chosen)
    return _drawing(52, paths, caption, caption)


def _polyline(line: Sequence[float | None], longest: int, bounds: tuple[float, float]) -> str:
    low, high = bounds
    path, pen = [], "M"
    for step, value in thin_line(line, LINE_POINTS):
        if value is None:
            pen = "M"
            continue
        x = step / max(1, longest - 1) * (WIDTH - 4) + 2
        y = 49 - (value - low) / ((high - low) or 1) * 46
        path.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(path)


def _accumulation(result: Result) -> Html:
    """Sums by verdict as one bar."""
    verdicts = [site["verdict"] for site in result["accumulation"]["sites"]]
    if not verdicts:
        return Html("")
    kinds = (("fp32_required", "required"), ("fp32_advised", "better"), ("fp16_ok", "not needed"))
    at, parts = 0.0, []
    for key, _ in kinds:
        width = verdicts.count(key) / len(verdicts) * WIDTH
        parts.append(
            Html(f'<rect class="{key}" x="{at:.1f}" y="2" width="{width:.1f}" height="12"/>')
        )
        at += width
    words = ", ".join(f"{count(verdicts.count(key))} {word}" for key, word in kinds)
    return _drawing(16, join(parts), f"FP32 accumulators: {words}", f"FP32 sums: {words}")
