"""What the reader of the what-if view chooses: kind, rows, module, search, format, loss scale."""

from __future__ import annotations

from collections import Counter
from typing import Any

from precscope_reports.html.markup import Html, esc, join, typeset
from precscope_reports.html.payload import WHAT_IF_FORMATS
from precscope_reports.phrases import counted, power_of_two

LOWEST_LOG2_SCALE, HIGHEST_LOG2_SCALE = -12, 24
MOST_LEVELS = 4

_FILTERS = (
    ("gradients", "Gradients", ("activation_gradient", "weight_gradient")),
    ("activation_gradient", "Activation gradients", ("activation_gradient",)),
    ("weight_gradient", "Weight gradients", ("weight_gradient",)),
    ("activation", "Activations", ("activation",)),
    ("weight", "Weights", ("weight",)),
)


_NAMED_SCALES = (
    ("minimum_log2", "smallest that works"),
    ("recommended_log2", "recommended"),
    ("maximum_log2", "largest that is safe"),
)


def controls(sites: list[dict[str, Any]], advice: dict[str, Any]) -> Html:
    """The form above the map; scripts fill in the modules and read every choice."""
    found = Counter(site["kind"] for site in sites)
    sizes = [(key, label, sum(found[kind] for kind in kinds)) for key, label, kinds in _FILTERS]
    chosen = next(key for key, _, size in sizes if size)
    radios = join(_radio(key, label, size, key == chosen) for key, label, size in sizes)
    formats = join(
        Html(f'<option value="{esc(fmt.name)}">{esc(fmt.name.upper())}</option>')
        for fmt in WHAT_IF_FORMATS
    )
    return Html(
        '<form class="controls" id="controls" autocomplete="off">'
        f'<fieldset class="segmented"><legend class="sr">Kind of site</legend>{radios}</fieldset>'
        f'<label class="field">Rows<select id="site-level">{_levels()}</select></label>'
        '<label class="field">Module<select id="site-module"><option value="">every module'
        "</option></select></label>"
        '<label class="field">Search<input type="search" id="site-search" '
        'placeholder="name or module type"></label>'
        f'<label class="field">Stored as<select id="site-format">{formats}</select></label>'
        '<label class="field slider"><span>Loss scale <output id="scale-output">2<sup>0</sup>'
        f'</output></span><input type="range" id="scale-slider" min="{LOWEST_LOG2_SCALE}" '
        f'max="{HIGHEST_LOG2_SCALE}" step="1" value="0" aria-describedby="scale-note">'
        f"{_window(advice)}</label>{_presets(advice)}</form>"
        '<p class="totals" id="totals" aria-live="polite"></p>'
        '<p class="note" id="scale-note"></p>'
    )


def _radio(key: str, label: str, size: int, checked: bool) -> Html:
    state = " checked" if checked else ""
    state += "" if size else " disabled"
    return Html(
        f'<label><input type="radio" name="kind" value="{key}"{state}>'
        f"<span>{esc(label)} <small>{size:,}</small></span></label>"
    )


def _levels() -> Html:
    words = (
        "every site",
        *(f"modules, {counted(level, 'level')}" for level in range(1, MOST_LEVELS + 1)),
    )
    return join(
        Html(f'<option value="{level}">{esc(text)}</option>') for level, text in enumerate(words)
    )


def _presets(advice: dict[str, Any]) -> Html:
    """Buttons that set the slider to the scales that the advice names, smallest first."""
    words: dict[int, list[str]] = {0: ["unscaled"]}
    for key, word in _NAMED_SCALES:
        exponent = advice[key]
        if exponent is not None and LOWEST_LOG2_SCALE <= exponent <= HIGHEST_LOG2_SCALE:
            words.setdefault(round(exponent), []).append(word)
    buttons = join(_preset(exponent, words[exponent]) for exponent in sorted(words))
    label = "Loss scales to try"
    return Html(f'<div class="presets" role="group" aria-label="{label}">{buttons}</div>')


def _preset(exponent: int, words: list[str]) -> Html:
    return Html(
        f'<button type="button" data-scale="{exponent}" aria-pressed="false">'
        f"{typeset(power_of_two(exponent))} <small>{esc(', '.join(words))}</small></button>"
    )


def _window(advice: dict[str, Any]) -> Html:
    """The safe window, drawn under the slider: both ends as shares of the slider's length."""
    low, high = advice["minimum_log2"], advice["maximum_log2"]
    if low is None or high is None or low > high:
        return Html("")
    ends = (min(max(end, LOWEST_LOG2_SCALE), HIGHEST_LOG2_SCALE) for end in (low, high))
    length = HIGHEST_LOG2_SCALE - LOWEST_LOG2_SCALE
    start, stop = ((end - LOWEST_LOG2_SCALE) / length for end in ends)
    return Html(
        f'<span class="track" style="--from:{start:.4f};--to:{stop:.4f}"><span>safe window</span>'
        "</span>"
    )
