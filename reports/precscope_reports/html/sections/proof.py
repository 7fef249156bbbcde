"""The proof below the runs: parity seed by seed, residual gradient error, drift of the scale."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import Html, dash, esc, join, name, table, typeset
from precscope_reports.phrases import counted, number, power_of_two, sentence, share

Comparison = dict[str, Any]


def proof(result: dict[str, Any]) -> Html:
    """Everything that says whether the recipe under test trains like FP32; nothing without one."""
    parity = result.get("parity") or {}
    if not parity.get("recipe"):
        return Html("")
    title = f'<h3 class="sub">{esc(parity["recipe"])} beside fp32</h3>'
    tone = "bad" if parity["verdict"] == "worse" else "parity"
    line = f'<p class="{tone}">{typeset(sentence(parity["reason"]))}</p>'
    why = parity.get("seeds_reason")
    seeds = f'<p class="note">Seeds: {typeset(sentence(why))}</p>' if why else ""
    parts = [_seeds(parity), _residual(result.get("residual") or {}), _drift(result)]
    return Html(title + line + join(parts[:1]) + seeds + join(parts[1:]))


def _seeds(parity: dict[str, Any]) -> Html:
    compared = [parity["loss"], *parity["metrics"]]
    if not parity["loss"]["seeds"]:
        return Html("")
    headers = ["Seed"]
    for comparison in compared:
        what = comparison["name"].replace("_", " ")
        headers += [f"#{what}, fp32", f"#{what}, {parity['recipe']}", "#difference"]
    rows = [_seed(index, compared) for index in range(len(parity["loss"]["seeds"]))]
    summary = [_summary(label, key, compared) for label, key in _SUMMARIES]
    return table("The recipe beside FP32, seed by seed", headers, [*rows, *summary])


_SUMMARIES = (
    ("mean", ("fp32_mean", "mean_difference")),
    ("range of fp32", ("fp32_range", None)),
    ("standard deviation of fp32", ("fp32_sd", None)),
)


def _seed(index: int, compared: list[Comparison]) -> list[Html]:
    cells = [esc(compared[0]["seeds"][index])]
    for comparison in compared:
        cells += [esc(number(comparison[key][index])) for key in ("fp32", "recipe")]
        cells.append(_signed(comparison["differences"][index]))
    return cells


def _summary(label: str, keys: tuple[str, str | None], compared: list[Comparison]) -> list[Html]:
    fp32, difference = keys
    cells = [esc(label)]
    for comparison in compared:
        mine = comparison[fp32]
        cells.append(dash("one seed") if mine is None else esc(number(mine)))
        cells.append(Html(""))
        cells.append(_signed(comparison[difference]) if difference else Html(""))
    return cells


def _signed(value: float | None) -> Html:
    if not value:
        return dash() if value is None else esc("0")
    return esc(f"{value:+.3g}".replace("-", "\u2212"))


def _residual(residual: dict[str, Any]) -> Html:
    points = residual.get("points") or []
    title = '<h4 class="sub">Gradient error during the advised run</h4>'
    if not points:
        reason = residual.get("reason")
        return Html(f'{title}<p class="note">{typeset(sentence(reason))}</p>' if reason else "")
    headers = ("After step", "Loss scale", "#Gradient error", "#Tolerated", "Worst parameter")
    note = (
        "The gradient of the run's own weights and batch at its own loss scale, beside FP32. "
        "Tolerated is twice the error at larger scales, or 1 %."
    )
    rows = table("Gradient error during the advised run", headers, map(_point, points))
    return Html(f'{title}{rows}<p class="note">{typeset(note)}</p>')


def _point(point: dict[str, Any]) -> list[Html]:
    overflow = Html('<strong class="bad">overflow</strong>')
    error = overflow if point["error"] is None else esc(share(point["error"]))
    parameter = point["parameter"]
    return [
        esc(point["step"] + 1),
        typeset(power_of_two(point["log2_scale"])),
        Html(f'<strong class="bad">{error}</strong>') if point["breaks"] else error,
        esc(share(point["tolerated"])),
        name(parameter) if parameter else dash(),
    ]


def _drift(result: dict[str, Any]) -> Html:
    drift = result.get("drift") or {}
    needs = drift.get("needs") or []
    if not needs:
        return Html("")
    title = '<h4 class="sub">Drift of the smallest loss scale that is enough</h4>'
    text = f"<p>{typeset(sentence(drift['reason']))}</p>"
    headers = ("Steps", "#Smallest scale", "Set by")
    rows = table("The smallest loss scale that is enough, over the run", headers, map(_need, needs))
    folded = f"<details><summary>{counted(len(needs), 'window')}</summary>{rows}</details>"
    return Html(title + text + folded)


def _need(need: dict[str, Any]) -> list[Html]:
    return [
        esc(f"{need['first_step']} to {need['last_step']}"),
        typeset(power_of_two(need["needed_log2"])),
        name(need["site"]),
    ]
