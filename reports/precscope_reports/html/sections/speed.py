"""Speed: modules by time beside their numeric risk; where there was a GPU, NVML and cross-checks.

Reads ``result["timing"]``; every key is optional but ``modules``:

- ``modules``: records of ``module``, ``module_type``, ``forward_ms``, ``backward_ms``, ``total_ms``,
  ``share`` (of the step), ``tensor_cores`` (``yes``, ``no``, ``unknown``), ``tensor_core_share``,
  ``eligible`` and ``advice``;
- ``tensor_cores``: facts by name, with ``checks [{name, passed, message}]``;
- ``nvml``: facts by name, with ``traces {name: {unit, seconds [], values []}}``.
"""

from __future__ import annotations

from typing import Any

from precscope_reports.html.markup import Html, dash, esc, facts, join, name, table, typeset
from precscope_reports.html.sections.section import Section, chart
from precscope_reports.phrases import counted, duration, number, sentence, share

TABLE_ROWS = 50
_STATES = {"yes": "used", "no": "not used", "unknown": "unknown", True: "used", False: "not used"}
_HEADERS = (
    "Module",
    "#Time",
    "#Of the step",
    "Tensor cores",
    "#Lost L1, worst",
    "#Overflow",
    "Advice",
)


def is_measured(result: dict[str, Any]) -> bool:
    """Whether any module was timed."""
    return bool(result["timing"].get("modules"))


def render(result: dict[str, Any]) -> Section:
    """The table of modules, their chart, what NVML read, and the cross-checks."""
    timing = result["timing"]
    modules = sorted(timing["modules"], key=total_ms, reverse=True)
    parts = [
        _facts(timing.get("tensor_cores")),
        chart("module-times", "Time of each module, coloured by tensor-core state", 220),
        _table(modules, _risks(result["sites"])),
        _nvml(timing),
        _checks(timing.get("tensor_cores")),
    ]
    lead = typeset(f"Timed without observers, by {_clock(str(timing['clock']))}")
    return Section("speed", "Speed", "Where the time goes", join(parts), lead)


def _clock(clock: str) -> str:
    if clock == "cpu":
        return "the CPU's clock, in FP32. Tensor cores, clock rates and energy take a GPU."
    return sentence(clock)


def total_ms(module: dict[str, Any]) -> float:
    """Forward and backward together."""
    if module.get("total_ms") is not None:
        return float(module["total_ms"])
    return sum(float(module.get(key) or 0.0) for key in ("forward_ms", "backward_ms"))


def _facts(found: Any) -> Html:
    if not isinstance(found, dict):
        return Html("")
    plain = [(k, v) for k, v in found.items() if isinstance(v, str | int | float)]
    return facts([(key.replace("_", " "), _value(value)) for key, value in plain])


def _value(value: str | float) -> Html:
    return typeset(value) if isinstance(value, str | bool) else esc(number(value))


def _risks(sites: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Worst lost L1 mass and overflow of any half precision site, by module."""
    worst: dict[str, tuple[float, float]] = {}
    for site in sites:
        if not site["at_risk"]:
            continue
        weight = site["kind"] in ("weight", "weight_gradient")
        module = site["name"].rpartition(".")[0] if weight else site["name"]
        lost, over = worst.get(module, (0.0, 0.0))
        found = (site["l1_flushed_fp16"] or 0.0, site["overflow_fp16"] or 0.0)
        worst[module] = (max(lost, found[0]), max(over, found[1]))
    return worst


def _table(modules: list[dict[str, Any]], risks: dict[str, tuple[float, float]]) -> Html:
    shown = modules[:TABLE_ROWS]
    cut = len(shown) < len(modules)
    caption = f"The slowest {len(shown):,} of {counted(len(modules), 'module')}" * cut
    caption = caption or f"{counted(len(modules), 'module')}, slowest first"
    rows = (_row(module, risks.get(str(module.get("module")))) for module in shown)
    return Html(
        f'<h3 class="sub">{esc(caption)}</h3>{table(caption, _HEADERS, rows, "modules")}'
        '<p class="note">Numeric risk is that of the values as recorded, without a loss scale.</p>'
    )


def _row(module: dict[str, Any], risk: tuple[float, float] | None) -> list[Html]:
    apart = [
        f"{word} {duration(module[key])}"
        for word, key in (("forward", "forward_ms"), ("backward", "backward_ms"))
        if module.get(key) is not None
    ]
    part, state = module.get("share"), module.get("tensor_cores")
    used = module.get("tensor_core_share")
    beside = f"<small>{esc(share(used))} of its time</small>" if used is not None else ""
    kind = f'<small class="under">{esc(module.get("module_type") or "")}</small>'
    return [
        Html(f"{name(module.get('module') or '(root)')}{kind}"),
        Html(f"{esc(duration(total_ms(module)))}<small>{esc(', '.join(apart))}</small>"),
        dash() if part is None else esc(share(part)),
        dash() if state is None else Html(f"{esc(_STATES.get(state, state))}{beside}"),
        dash("no site observed") if risk is None else esc(share(risk[0])),
        dash("no site observed") if risk is None else esc(share(risk[1])),
        typeset(module.get("advice") or ""),
    ]


def _nvml(timing: dict[str, Any]) -> Html:
    found = timing.get("nvml")
    if not isinstance(found, dict):
        return Html(
            f'<p class="note">NVML: {typeset(sentence(timing.get("nvml_reason") or ""))}</p>'
        )
    drawn = chart("nvml-traces", "Readings of NVML over the timed window", 260)
    return Html(
        f'<h3 class="sub">NVML</h3>{_facts(found)}{drawn if found.get("traces") else Html("")}'
    )


def _checks(found: Any) -> Html:
    checks = found.get("checks") if isinstance(found, dict) else None
    if not checks:
        return Html("")
    rows = (
        [esc(c.get("name")), esc("pass" if c.get("passed") else "warn"), typeset(c.get("message"))]
        for c in checks
    )
    headers = ("Cross-check", "Result", "What was compared")
    return Html(f'<h3 class="sub">Cross-checks</h3>{table("Cross-checks", headers, rows)}')
