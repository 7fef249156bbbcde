"""The pictures of the README and docs, from a Recording: what a user sees, and nothing else.

    precscope analyze examples/vocab_lm.py --output /tmp/run
    python benchmarks/pictures.py /tmp/run/run.precscope

Writes ``docs/pictures/terminal.svg`` and, where Chromium is installed, ``report-light.png`` and
``report-dark.png``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from precscope import Recording, build_result
from precscope_reports import html
from precscope_reports.terminal import print_report

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH_COLUMNS = 100
LINES = 66
PAGE_SIZE = "1280,1750"
CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--virtual-time-budget=15000",
)  # fmt: skip


def terminal_svg(result: dict[str, Any]) -> str:
    """The first lines of the terminal report, drawn by rich."""
    wide = Console(file=StringIO(), record=True, width=WIDTH_COLUMNS, force_terminal=True)
    print_report(result, wide)
    lines = wide.export_text(styles=True).splitlines()[:LINES]
    shown = Console(file=StringIO(), record=True, width=WIDTH_COLUMNS, force_terminal=True)
    from rich.text import Text

    for line in lines:
        shown.print(Text.from_ansi(line), soft_wrap=True)
    return shown.export_svg(title=f"precscope analyze {result['title']}.py")


def page_pictures(result: dict[str, Any]) -> None:
    """Screenshots of the head of the HTML report in both themes."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        print("no Chromium here: the page was not photographed")
        return
    with tempfile.TemporaryDirectory() as folder:
        page = html.write(result, Path(folder) / "report.html")
        for theme, dark in (("light", False), ("dark", True)):
            target = PICTURES / f"report-{theme}.png"
            scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
            command = [
                browser, *CHROMIUM, scheme, f"--window-size={PAGE_SIZE}",
                f"--user-data-dir={folder}/{theme}", f"--screenshot={target}", page.as_uri(),
            ]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True)
            print(target)


def main() -> None:
    """Draw all pictures of one Recording."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recording", type=Path)
    result = build_result(Recording.open(parser.parse_args().recording))
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / "terminal.svg").write_text(terminal_svg(result), encoding="utf-8")
    print(PICTURES / "terminal.svg")
    page_pictures(result)


if __name__ == "__main__":
    main()
