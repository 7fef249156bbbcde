"""All pictures of the README and of ``docs/gallery.md``, from one analysis of each example.

    python benchmarks/pictures.py [--runs DIR] [EXAMPLE.py …]

Analyzes every file of ``examples/`` (or those named) into ``DIR/<name>``, unless it holds a
``run.precscope`` already, and writes into ``docs/pictures/``: of each example the verdicts, the
what-if view at the scale that the advice recommends, the loss scale's curve and the training; of
``vocab_lm`` the head of the page in both themes, a site's page, the folded what-if view, the page
on a phone, and the terminal's report. Needs Chromium, and Pillow to make the files small.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

# The browser's driver.
sys.path.insert(0, str(Path(__file__).parents[1]))

from precscope import Recording, build_result
from precscope_reports import html
from precscope_reports.terminal import print_report
from tests.reports.chromium import Chromium, executable

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
FRONT = "vocab_lm"
WIDTH_COLUMNS = 100
LINES = 66
WIDTH_PX, HEAD_PX, PHONE = 1280, 1100, (390, 1500)
PARTS = {
    "verdicts": "#verdicts .verdicts",
    "loss-scale": "#scale-curve",
    "training": "#run-losses",
}


def terminal_svg(result: dict[str, Any]) -> str:
    """The first lines of the terminal report, drawn by rich."""
    wide = Console(file=StringIO(), record=True, width=WIDTH_COLUMNS, force_terminal=True)
    print_report(result, wide)
    lines = wide.export_text(styles=True).splitlines()[:LINES]
    shown = Console(file=StringIO(), record=True, width=WIDTH_COLUMNS, force_terminal=True)
    for line in lines:
        shown.print(Text.from_ansi(line), soft_wrap=True)
    return shown.export_svg(title=f"precscope analyze {result['title']}.py")


def analyzed(example: Path, runs: Path) -> Path:
    """The Recording of an example, made now if it is not there."""
    folder = runs / example.stem
    if not (folder / "run.precscope").exists():
        command = [sys.executable, "-m", "precscope", "analyze", example, "--output", folder]
        subprocess.run([str(part) for part in command], check=True, cwd=ROOT)
    return folder / "run.precscope"


def box(browser: Chromium, first: str, last: str | None = None) -> dict[str, float] | None:
    """Where the elements lie on the page, from the first to the last, with a little around them."""
    found = browser.evaluate(
        f"(() => {{ const [a, b] = ['{first}', '{last or first}'].map(s => document.querySelector(s));"
        " if (!a || !b) return null; const [p, q] = [a, b].map(e => e.getBoundingClientRect());"
        " return {x: Math.max(0, p.x + scrollX - 12), y: p.y + scrollY - 12,"
        " width: Math.max(p.width, q.width) + 24, height: q.bottom - p.top + 24, scale: 1}; })()"
    )
    return dict(found) if found else None


def shoot(
    browser: Chromium, name: str, clip: dict[str, float] | None, palette: bool = True
) -> None:
    """Photograph a part of the page; without a palette what has soft colours in it."""
    if clip is None:
        return
    shot = browser.photograph(clip)
    target = PICTURES / f"{name}.png"
    target.write_bytes(small(shot, palette))
    print(f"{target.relative_to(ROOT)}  {target.stat().st_size / 1000:.0f} kB")


def small(png: bytes, palette: bool) -> bytes:
    """The picture packed well, with a palette that keeps every colour to a few of 256 levels."""
    try:
        from PIL import Image
    except ImportError:
        return png
    packed = BytesIO()
    picture = Image.open(BytesIO(png)).convert("RGB")
    if palette:
        # The default method gives small coloured areas away; this one covers every colour.
        method = Image.Quantize.MAXCOVERAGE
        picture = picture.quantize(256, method, dither=Image.Dither.NONE)
    picture.save(packed, "PNG", optimize=True)
    return packed.getvalue()


def set_control(browser: Chromium, control: str, value: object) -> None:
    """As a reader would, then wait until the page shows it."""
    browser.evaluate(
        f"(() => {{ const e = document.getElementById('{control}'); if (!e) return;"
        f" e.value = '{value}'; e.dispatchEvent(new Event('input', {{bubbles: true}})); }})()"
    )
    browser.evaluate("new Promise(done => setTimeout(done, 400))")


def example_pictures(browser: Chromium, page: Path, name: str, result: dict[str, Any]) -> None:
    """Verdicts, what-if view, curve and training of one analysis."""
    browser.open(page, WIDTH_PX)
    browser.settle()
    for part, selector in PARTS.items():
        shoot(browser, f"{name}-{part}", box(browser, selector), part != "verdicts")
    recommended = result["loss_scale"]["recommended_log2"]
    set_control(browser, "scale-slider", 0 if recommended is None else recommended)
    shoot(browser, f"{name}-range", box(browser, "#controls", "#site-map"))


def front_pictures(browser: Chromium, page: Path) -> None:
    """The head of the page in both themes, a site's page, the folded view, and a phone."""
    whole = {"x": 0, "y": 0, "width": WIDTH_PX, "height": HEAD_PX, "scale": 1}
    for theme in ("light", "dark"):
        browser.open(page, WIDTH_PX, dark=theme == "dark")
        browser.settle()
        shoot(browser, f"report-{theme}", whole, palette=False)
    browser.evaluate("document.querySelector('.site-link').click()")
    browser.settle()
    shoot(browser, "site", box(browser, "#site-dialog"))
    browser.open(page, WIDTH_PX)
    set_control(browser, "site-level", 1)
    shoot(browser, "modules", box(browser, "#controls", "#site-table"))
    browser.open(page, *PHONE)
    browser.settle()
    shoot(browser, "phone", {"x": 0, "y": 0, "width": 390, "height": 1500, "scale": 1}, False)


def main() -> int:
    """Analyze what was not analyzed yet, and photograph all of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("examples", type=Path, nargs="*", metavar="EXAMPLE.py")
    parser.add_argument("--runs", type=Path, default=ROOT / "precscope-runs" / "pictures")
    options = parser.parse_args()
    if executable() is None:
        sys.exit("no Chromium here: install chromium to photograph the report")
    PICTURES.mkdir(parents=True, exist_ok=True)
    examples = options.examples or sorted((ROOT / "examples").glob("*.py"))
    recordings = {example.stem: analyzed(example, options.runs) for example in examples}
    with tempfile.TemporaryDirectory() as folder:
        browser = Chromium(Path(folder) / "profile")
        try:
            for name, path in recordings.items():
                result = build_result(Recording.open(path))
                page = html.write(result, Path(folder) / f"{name}.html")
                example_pictures(browser, page, name, result)
                if name == FRONT:
                    front_pictures(browser, page)
                    (PICTURES / "terminal.svg").write_text(terminal_svg(result), encoding="utf-8")
        finally:
            browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
