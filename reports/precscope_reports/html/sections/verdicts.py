"""One sentence for each question, with the code to paste."""

from __future__ import annotations

from typing import Any

from precscope_reports.html.figures import figure
from precscope_reports.html.markup import Html, badge, code_block, esc, join, typeset
from precscope_reports.html.sections.section import Section
from precscope_reports.phrases import QUESTION_WORDS

_EVIDENCE = {
    "range": "sites",
    "loss_scale": "loss-scale",
    "master_weights": "master-weights",
    "training": "runs",
    "accumulation": "accumulation",
}


def render(result: dict[str, Any]) -> Section:
    """The verdicts, then the advised recipe as code."""
    verdicts = join(_verdict(verdict, result) for verdict in result["verdicts"])
    body = Html(f'<div class="verdicts">{verdicts}</div>{_recipe(result)}')
    return Section("verdicts", "Verdicts", "What half precision does to this model", body)


def _verdict(verdict: dict[str, Any], result: dict[str, Any]) -> Html:
    question, severity = verdict["question"], verdict["severity"]
    return Html(
        f'<article class="verdict {esc(severity)}"><header><h3>{esc(QUESTION_WORDS[question])}</h3>'
        f"{badge(severity)}</header>"
        f'<div><p class="sentence">{typeset(verdict["sentence"])}</p>'
        f"{code_block(verdict['code'])}"
        f'<a class="evidence" href="#{_EVIDENCE[question]}">See the evidence<span class="sr">'
        f" on {esc(QUESTION_WORDS[question].lower())}</span></a>"
        f"</div>{figure(question, result)}</article>"
    )


def _recipe(result: dict[str, Any]) -> Html:
    code = result["recipe"]["code"]
    if not code.strip():
        return Html("")
    return Html(
        f'<h3 class="sub">The advised recipe, ready to paste</h3><div class="wide">{code_block(code)}</div>'
    )
