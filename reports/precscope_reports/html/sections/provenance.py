"""Where the numbers come from: cost, coverage, environment, definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from precscope_reports.html.markup import Html, dash, esc, facts, join, name, table, typeset
from precscope_reports.html.sections.section import Section, nothing
from precscope_reports.phrases import byte_size, count, counted, duration, missing, moment, ratio

_ENVIRONMENT = (
    ("Device", "device_name"),
    ("Device kind", "device"),
    ("Threads", "threads"),
    ("torch", "torch"),
    ("Python", "python"),
    ("numpy", "numpy"),
    ("precscope", "precscope"),
    ("Platform", "platform"),
    ("Seed", "seed"),
    ("Target format", "target_format"),
)


def render(result: dict[str, Any]) -> Section:
    """Cost of observation, what was and was not seen, the machine, and every term used."""
    body = join(
        [
            Html(f'<h3 class="sub">Cost of observing</h3>{_cost(result["timing"])}'),
            Html(f'<h3 class="sub">Coverage</h3>{_coverage(result["coverage"])}'),
            Html(f'<h3 class="sub">Environment</h3>{_environment(result["environment"])}'),
            Html(f'<h3 class="sub" id="definitions">Definitions</h3>{_definitions(result)}'),
        ]
    )
    return Section("provenance", "Provenance", "Where these numbers come from", body)


def _cost(timing: dict[str, Any]) -> Html:
    why = timing["overhead_reason"]
    return facts(
        [
            (
                "Observed step / plain step",
                _or_reason(ratio(timing["overhead_ratio"]), why, timing, "overhead_ratio"),
            ),
            (
                "Plain step",
                _or_reason(duration(timing["plain_step_ms"]), why, timing, "plain_step_ms"),
            ),
            (
                "Observed step",
                _or_reason(duration(timing["observed_step_ms"]), why, timing, "observed_step_ms"),
            ),
            ("Memory of the observers", esc(byte_size(timing["observer_memory_bytes"]))),
            ("Clock", esc(timing["clock"])),
            ("Tensor cores", _speed(timing, "tensor_cores")),
            ("NVML", _speed(timing, "nvml")),
            ("Time per module", _speed(timing, "modules")),
        ]
    )


def _speed(timing: dict[str, Any], key: str) -> Html:
    if timing.get(key) and timing.get("modules"):
        return Html('<a href="#speed">measured</a>')
    return esc(missing(timing.get(f"{key}_reason")))


def _or_reason(text: str, reason: str | None, timing: dict[str, Any], key: str) -> Html:
    return esc(missing(reason)) if timing[key] is None else esc(text)


def _coverage(coverage: dict[str, Any]) -> Html:
    summary = facts(
        [
            ("Modules seen", esc(count(coverage["modules_seen"]))),
            ("Modules not seen", esc(count(len(coverage["modules_not_seen"])))),
            ("Sites", esc(count(coverage["sites"]))),
            ("Observed steps", esc(count(coverage["observed_steps"]))),
        ]
    )
    return join([summary, _not_seen(coverage), _skipped(coverage), _errors(coverage)])


def _not_seen(coverage: dict[str, Any]) -> Html:
    rows = [
        [name(module["name"]), esc(module["module_type"]), typeset(module["reason"])]
        for module in coverage["modules_not_seen"]
    ]
    return _folded("module not seen", "modules not seen", ("Module", "Type", "Reason"), rows)


def _skipped(coverage: dict[str, Any]) -> Html:
    rows = [
        [name(item["what"]), typeset(item["reason"]), esc(count(item["count"]))]
        for item in coverage["tensors_skipped"]
    ]
    headers = ("What", "Reason", "#Tensors")
    return _folded("sort of tensor skipped", "sorts of tensor skipped", headers, rows)


def _errors(coverage: dict[str, Any]) -> Html:
    rows = [
        [name(error["where"]), esc(error["message"]), esc(count(error["count"]))]
        for error in coverage["observer_errors"]
    ]
    return _folded("observer error", "observer errors", ("Where", "Message", "#Times"), rows)


def _folded(one: str, many: str, headers: Sequence[str], rows: list[list[Html]]) -> Html:
    if not rows:
        return Html("")
    title = counted(len(rows), one, many)
    return Html(f"<details><summary>{title}</summary>{table(title, headers, rows)}</details>")


def _environment(environment: dict[str, Any]) -> Html:
    pairs = [(label, _fact(environment, key)) for label, key in _ENVIRONMENT]
    pairs.append(("Created", esc(moment(environment.get("created")))))
    command = Html(f'<code class="command">{_text(environment.get("command"))}</code>')
    return facts([*pairs, ("Command", command)])


def _fact(environment: dict[str, Any], key: str) -> Html:
    reason = environment.get(f"{key}_reason")
    return typeset(missing(reason)) if reason else _text(environment.get(key))


def _text(value: Any) -> Html:
    return dash() if value is None else esc(value)


def _definitions(result: dict[str, Any]) -> Html:
    entries = join(
        Html(f"<div><dt>{typeset(item['term'])}</dt><dd>{typeset(item['definition'])}</dd></div>")
        for item in result["definitions"]
    )
    return Html(f'<dl class="definitions">{entries}</dl>') if entries else nothing("None given.")
