"""The page: the same blocks as Markdown for the docs and as one HTML file that needs nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from paper_claims import claims
from paper_figures import figures
from paper_judge import Cells, Outcome, advice_checks, outcome, runs_of
from paper_plan import ADVISED, DOMAINS, RECIPES, Domain

STYLE = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;"
    "margin:2rem auto;padding:0 1rem}table{border-collapse:collapse;display:block;overflow-x:auto}"
    "td,th{border:1px solid #9ca3af66;padding:.3rem .6rem;text-align:left;vertical-align:top}"
    "svg{max-width:44rem;width:100%}figure{margin:1rem 0}figcaption{max-width:44rem}"
)


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, a paragraph, a table or a figure.

    Attributes:
        kind: which.
        text: of the heading, paragraph or caption.
        rows: of a table, its header first.
        svg: of a figure.
        name: of a figure.
    """

    kind: str
    text: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    svg: str = ""
    name: str = ""


def write_page(state: dict[str, Any], folder: Path, document: Path | None) -> list[Path]:
    """Write ``paper.md``, ``paper.html`` and the figures; returns what was written."""
    blocks = list(page(state))
    folder.mkdir(parents=True, exist_ok=True)
    html = folder / "paper.html"
    html.write_text(as_html(blocks), encoding="utf-8")
    written = [html]
    for target in [folder / "paper.md", *([document] if document else [])]:
        pictures = target.parent / "pictures"
        pictures.mkdir(parents=True, exist_ok=True)
        for block in blocks:
            if block.kind == "figure":
                (pictures / f"paper-{block.name}.svg").write_text(block.svg, encoding="utf-8")
        target.write_text(as_markdown(blocks), encoding="utf-8")
        written.append(target)
    return written


def page(state: dict[str, Any]) -> Iterator[Block]:
    """All blocks, for as many cells as there are."""
    cells: Cells = state["cells"]
    where = state["environment"]
    yield Block("h1", "Mixed Precision Training, reproduced")
    yield Block(
        "p",
        "Micikevicius et al., Mixed Precision Training, ICLR 2018 (arXiv 1710.03740): its six kinds"
        " of network on real data, its claims and figures, beside what the same experiments give"
        f" here. Sizes: {state['size']}; {where['device_name']}, torch {where['torch']}."
        " `make paper` runs it again. Every recipe is trained by the engine of `precscope train`;"
        " on a CPU FP16 is simulated (FP16 storage, FP32 arithmetic, as in the paper's own speech"
        " runs): numerics count, speed does not.",
    )
    yield Block(
        "p",
        "A recipe is on a par with FP32 if its mean difference on the same seeds is no larger than"
        " FP32's own range over the seeds. The networks are small and the runs short: what shows"
        " only late or at scale is said not to be testable, not passed over.",
    )
    yield Block("h2", "The claims")
    yield _claims_table(cells, where["device"])
    yield Block("h2", "The figures")
    for name, (caption, svg) in figures(cells).items():
        yield Block("figure", caption, svg=svg, name=name)
    yield Block("h2", "The domains")
    for domain in DOMAINS:
        yield from _domain(cells, domain)
    yield Block("h2", "The advice")
    yield Block("p", "What `precscope analyze --no-train` said first, and what training showed.")
    yield _advice_table(cells)
    yield from _circumstances(state)


def _claims_table(cells: Cells, device: str) -> Block:
    rows = [(c.claim, c.paper, c.ours, c.verdict) for c in claims(cells, device)]
    return Block("table", rows=(("claim", "paper", "here", "verdict"), *rows))


def _domain(cells: Cells, domain: Domain) -> Iterator[Block]:
    yield Block("h3", domain.title)
    yield Block("p", f"The paper: {domain.paper}.")
    failed = sorted(
        {
            c["error"]
            for key, c in cells.items()
            if key.startswith(f"{domain.name}/") and "error" in c
        }
    )
    if failed:
        yield Block("p", f"Not run: {'; '.join(failed)}.")
    fp32 = runs_of(cells, domain.name, "fp32")
    if not fp32:
        return
    found = [(recipe, outcome(cells, domain, recipe)) for recipe in (*RECIPES, ADVISED)]
    rows = [_row(cells, domain, recipe, one) for recipe, one in found if one is not None]
    metric = next(iter(next(iter(fp32.values()))["metrics"]), "metric").replace("_", " ")
    header = (
        "recipe",
        "seeds",
        "final loss",
        metric,
        "- FP32",
        "FP32's spread",
        "verdict",
        "skipped",
    )
    yield Block("table", rows=(header, *rows))


def _row(cells: Cells, domain: Domain, recipe: str, found: Outcome) -> tuple[str, ...]:
    runs = list(runs_of(cells, domain.name, recipe).values())
    losses = [run["final_loss"] for run in runs if run["final_loss"] is not None]
    metrics = [next(iter(r["metrics"].values()), None) for r in runs]
    judged = found.judged
    is_base = recipe == "fp32"
    return (
        recipe,
        str(len(runs)),
        _mean(losses),
        _mean([m for m in metrics if m is not None]),
        "" if is_base or judged.mean_difference is None else f"{judged.mean_difference:+.2g}",
        "" if judged.fp32_range is None else f"{judged.fp32_range:.2g}",
        "" if is_base else found.verdict,
        f"{found.skipped} of {found.steps}",
    )


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.4g}" if values else "none"


def _advice_table(cells: Cells) -> Block:
    rows = [
        (domain.title if not i else "", check.what, check.advised, check.happened, check.right)
        for domain in DOMAINS
        for i, check in enumerate(advice_checks(cells, domain))
    ]
    return Block("table", rows=(("domain", "about", "advised", "happened", "advice was"), *rows))


def _circumstances(state: dict[str, Any]) -> Iterator[Block]:
    cells = state["cells"].values()
    cpu_minutes = sum(cell.get("cpu_seconds", 0.0) for cell in cells) / 60
    largest = max((cell.get("memory_bytes", 0) for cell in cells), default=0)
    yield Block("h2", "What it took")
    yield Block(
        "p",
        f"{len(cells)} cells in {state['wall_seconds'] / 60:.0f} minutes:"
        f" {cpu_minutes:.0f} minutes of one core. Memory: at most {_gib(largest)} in one process,"
        f" {_gib(state['peak_memory_bytes'])} in all of them together (resident, sampled every"
        " second or two; what they share counts in each).",
    )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"


def as_markdown(blocks: Sequence[Block]) -> str:
    """The document; figures lie in ``pictures/`` beside it."""
    parts = []
    for block in blocks:
        if block.kind == "table":
            header, *rows = block.rows
            lines = [header, ("---",) * len(header), *rows]
            parts.append("\n".join(f"| {' | '.join(_cell(c) for c in row)} |" for row in lines))
        elif block.kind == "figure":
            parts.append(f"![figure {block.name}](pictures/paper-{block.name}.svg)\n\n{block.text}")
        else:
            mark = "#" * int(block.kind[1]) + " " if block.kind.startswith("h") else ""
            parts.append(mark + block.text)
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def as_html(blocks: Sequence[Block]) -> str:
    """One file, no script, no network."""
    title = escape(blocks[0].text)
    body = os.linesep.join(_element(block) for block in blocks)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style><body>{body}</body></html>\n"
    )


def _element(block: Block) -> str:
    if block.kind == "figure":
        return f"<figure>{block.svg}<figcaption>{escape(block.text)}</figcaption></figure>"
    if block.kind == "table":
        header, *rows = block.rows
        head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
        lines = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        return f"<table><tr>{head}</tr>{lines}</table>"
    return f"<{block.kind}>{escape(block.text)}</{block.kind}>"
