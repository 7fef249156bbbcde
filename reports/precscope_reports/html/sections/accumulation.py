"""Accumulation: where a sum in FP16 would lose what FP32 keeps, and which format suits a module."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import (
    Html,
    code_block,
    dash,
    esc,
    facts,
    join,
    name,
    table,
    typeset,
)
from precscope_reports.html.sections.section import Section, chart, nothing, worst_of
from precscope_reports.phrases import (
    VERDICT_WORDS,
    count,
    counted,
    duration,
    number,
    power_of_two,
    sentence,
    share,
    verdict_word,
)

TABLE_ROWS = 50
NEEDS = ("fp32_required", "fp32_advised", "fp16_ok")
TONES = {"fp32_required": "required", "fp32_advised": "advised"}
FORMATS = {"fp16": "FP16", "bf16": "BF16", "fp32": "FP32"}

_HEADERS = (
    "Sum",
    "Verdict",
    "#Terms",
    "#Error in FP16",
    "#expected",
    "#Error in FP32",
    "#Largest partial sum",
    "#Swamped",
    "#Real half kernel",
)


def render(result: dict[str, Any]) -> Section:
    """Counts, policy and the worst sums as a table; then a format for each module."""
    accumulation = result["accumulation"]
    reason = accumulation.get("reason") or "No accumulation was measured."
    body = _sums(accumulation) if accumulation["sites"] else nothing(sentence(reason))
    formats = _formats(result.get("format_choice") or [])
    return Section(
        "accumulation", "Accumulation", "Sums in FP16 and in FP32", join([body, formats])
    )


def _sums(accumulation: dict[str, Any]) -> Html:
    sites = sorted(accumulation["sites"], key=_urgency)
    caption = worst_of(len(sites), TABLE_ROWS, "sum")
    return join(
        (
            _facts(accumulation, len(sites)),
            _policy(accumulation),
            _errors_chart(),
            Html(f'<h3 class="sub">{esc(caption)}</h3>'),
            table(caption, _HEADERS, map(_row, sites[:TABLE_ROWS]), "sums"),
            _note(),
            _skipped(accumulation.get("skipped") or []),
        )
    )


def _facts(accumulation: dict[str, Any], sums: int) -> Html:
    counts = accumulation.get("counts") or {}
    pairs = [("Sums", esc(count(sums)))]
    pairs += [(VERDICT_WORDS[need], esc(count(counts.get(need, 0)))) for need in NEEDS]
    pairs.append(("Gradients at scale", typeset(power_of_two(accumulation.get("log2_scale")))))
    cost, steps = accumulation.get("probe_ms"), accumulation.get("probe_plain_steps")
    beside = f"<small>{esc(f'{steps:.1f}')} plain steps</small>" if steps else ""
    pairs.append(("Cost of the probe", Html(f"{esc(duration(cost))}{beside}")))
    return facts(pairs)


def _errors_chart() -> Html:
    label = (
        "Measured error of each sum against its length, with the predicted line; a table follows"
    )
    note = (
        "Lines: a random walk of roundings, sqrt(terms / at once) 2^-11, for sums whose terms do not "
        "cancel. An open mark is what the partial sums of that very sum let expect; a filled one well "
        "above it lost more than roundings: small terms swamped, or bias."
    )
    return Html(
        f'<h3 class="sub scripted">Error against length</h3>{chart("sum-errors", label, 380)}'
        f'<p class="note scripted">{typeset(note)}</p>'
    )


def _policy(accumulation: dict[str, Any]) -> Html:
    code = accumulation.get("code") or ""
    if not code:
        return Html("")
    return Html(f'<h3 class="sub">If accumulators are to be FP16</h3>{code_block(code)}')


def _urgency(site: dict[str, Any]) -> tuple[int, float]:
    error = site["error_fp16"]
    verdict = NEEDS.index(site["verdict"]) if site["verdict"] in NEEDS else len(NEEDS)
    return verdict, -float("inf") if error is None else -float(error)


def _row(site: dict[str, Any]) -> list[Html]:
    verdict = str(site["verdict"])
    word = verdict_word(verdict)
    return [
        Html(f'{name(site["site"])}<small class="under">{esc(site["operation"])}</small>'),
        Html(
            f'<span class="verdict-{TONES.get(verdict, "not_needed")}">{esc(word)}</span>'
            f'<small class="under">{typeset(sentence(site["reason"] or ""))}</small>'
        ),
        _length(site),
        _number(site["error_fp16"]),
        Html(
            f"{_number(site.get('expected_error'))}"
            f"<small>formula {_number(site.get('predicted_error'))}</small>"
        ),
        _number(site["error_fp32"]),
        _number(site.get("peak")),
        dash() if site.get("swamped_fraction") is None else esc(share(site["swamped_fraction"])),
        _number(site.get("error_native_fp16")),
    ]


def _length(site: dict[str, Any]) -> Html:
    looked_at = site.get("sampled_length")
    cut = looked_at is not None and looked_at < site["length"]
    at_once = f"<small>{esc(count(site.get('block')))} at once</small>"
    seen = f"<small>{esc(count(looked_at))} looked at</small>" if cut else ""
    return Html(f"{esc(count(site['length']))}{at_once}{seen}")


def _number(value: float | None) -> Html:
    return dash() if value is None else esc(number(float(f"{value:.2g}")))


def _note() -> Html:
    text = (
        "Errors are RMS over up to 64 sampled results, relative to the results. At once: terms added "
        "exactly before each rounding, 16 for products and 1 for other sums. Expected: from the "
        "size of the partial sums; measured errors above it are swamped or biased. Formula: "
        "sqrt(terms / at once) 2^-11 times sum |p| / |sum p|. Swamped: share of the terms' energy "
        "below half a place of the sum. Real half kernel: the operator itself in half on this device."
    )
    return Html(f'<p class="note">{typeset(text)}</p>')


def _skipped(skipped: list[dict[str, Any]]) -> Html:
    if not skipped:
        return Html("")
    items = ", ".join(f"{s['operator']} ({s['reason']})" for s in skipped)
    return Html(f'<p class="note">Not measured: {esc(items)}.</p>')


def _formats(choices: list[dict[str, Any]]) -> Html:
    if not choices:
        return Html("")
    tally = {f: sum(c["choice"] == f for c in choices) for f in FORMATS}
    words = ", ".join(f"{FORMATS[f]} for {n}" for f, n in tally.items() if n)
    rows = ([name(c["module"]), esc(FORMATS[c["choice"]]), typeset(c["reason"])] for c in choices)
    listed = table("Format of each module", ("Module", "Format", "Why"), rows)
    return Html(
        f'<h3 class="sub">Which format</h3><p class="note">{esc(words)} of '
        f"{esc(counted(len(choices), 'module'))}.</p>"
        f"<details><summary>Every module</summary>{listed}</details>"
    )
