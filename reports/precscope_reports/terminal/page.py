"""What every section is drawn with: safe text, headings, tables that fit the width.

Names and messages come from the user's program. They are never read as markup, and control
characters (escape sequences, bidirectional overrides) are made visible instead of obeyed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, JustifyMethod, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from precscope_reports.phrases import SEVERITY_WORDS

SEVERITY_STYLES = {
    "critical": "bold red",
    "warning": "yellow",
    "advice": "bright_blue",
    "ok": "green",
}
SEVERITY_WIDTH = 10
SHORTEST_NAME = 12

ASCII = str.maketrans(
    {
        "\N{EM DASH}": "-",
        "\N{EN DASH}": "-",
        "\N{MINUS SIGN}": "-",
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "\N{MIDDLE DOT}": "-",
        "\N{MULTIPLICATION SIGN}": "x",
        "\N{MICRO SIGN}": "u",
        "\N{INFINITY}": "inf",
        "\N{LESS-THAN OR EQUAL TO}": "<=",
        "\N{GREATER-THAN OR EQUAL TO}": ">=",
        "\N{RIGHTWARDS ARROW}": "->",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{BOX DRAWINGS LIGHT VERTICAL}": "|",
    }
)
"""What stands in for our own signs where the stream can only take ASCII."""


@dataclass(frozen=True, slots=True)
class Page:
    """The width and the alphabet of the terminal.

    Attributes:
        width: columns.
        ascii_only: whether the stream can only take ASCII.
    """

    width: int
    ascii_only: bool

    def text(self, raw: object, style: str = "") -> Text:
        """``raw`` on one line, as it may be shown."""
        return Text(self.spell(" ".join(str(raw).split())), style=style)

    def spell(self, raw: str) -> str:
        """``raw`` with control characters visible, in the terminal's alphabet."""
        safe = "".join(_visible(character) for character in raw)
        return _ascii(safe) if self.ascii_only else safe

    def fit(self, raw: object, width: int) -> str:
        """``raw`` on one line in at most ``width`` columns.

        Parts of a qualified name are cut to their first letter from the left, numbers kept
        (``e.l.5.mlp.fc1.weight``), since the end is what tells neighbours apart; where that is
        not enough the middle is left out.
        """
        text = self.text(raw).plain
        parts = text.split(".")
        for number, part in enumerate(parts[:-1]):
            if cell_len(".".join(parts)) > width and not part.isdigit():
                parts[number] = part[:1]
        text = ".".join(parts)
        if cell_len(text) <= width:
            return text
        gap = "..." if self.ascii_only else "…"
        head = (width - len(gap)) // 3
        return _start(text, head) + gap + _end(text, width - len(gap) - head)

    def lead(self, head: Text, raw: object, style: str = "") -> Text:
        """``head`` and a sentence behind it."""
        return Text.assemble(head, " ", self.text(raw, style))

    def heading(self, title: str) -> Rule:
        """The title of a section, with a line to the edge."""
        line = "-" if self.ascii_only else "─"
        return Rule(self.text(title, "bold"), align="left", characters=line, style="dim")

    def note(self, raw: object, style: str = "dim") -> Text:
        """A sentence below or above a table."""
        return self.text(raw, style)

    def entry(self, label: Text, *parts: RenderableType) -> Table:
        """A label in a narrow column, and beside it whatever belongs to it."""
        grid = Table.grid(padding=0)
        grid.add_column(width=SEVERITY_WIDTH)
        grid.add_column(ratio=1)
        for number, part in enumerate(parts):
            grid.add_row(label if number == 0 else "", part)
        return grid

    def severity(self, severity: str) -> Text:
        """The severity as a word in its colour."""
        word = SEVERITY_WORDS.get(severity, severity)
        return self.text(word, SEVERITY_STYLES.get(severity, ""))

    def code(self, source: str) -> Iterable[Text]:
        """Lines of code to paste. Never wrapped: the terminal may do that."""
        for line in source.splitlines():
            yield Text(" " * SEVERITY_WIDTH + self.spell(line), style="cyan", no_wrap=True)

    def table(
        self, headers: Sequence[str], rows: Sequence[Sequence[Text | str]], left: int = 1
    ) -> Table:
        """A table whose first column gives way where the width is not enough.

        Where that does not do, headers wrap, and then columns are left out and named below:
        a number that is cut is a wrong number.

        Args:
            headers: one per column.
            rows: cells; strings are names to be shortened, in the first column only.
            left: how many columns, from the first, are aligned to the left.
        """
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
        columns = self._columns(headers, rows)
        taken = sum(1 + column.width for column in columns)
        widest_first = max((r[0].cell_len for r in rows if isinstance(r[0], Text)), default=0)
        table.add_column(self.text(headers[0]), no_wrap=True, overflow="crop")
        for column in columns:
            justify: JustifyMethod = "left" if column.number < left else "right"
            header = self.text(headers[column.number])
            table.add_column(header, justify=justify, width=column.width, overflow="crop")
        names = max(SHORTEST_NAME, widest_first, self.width - taken)
        for row in rows:
            first = row[0] if isinstance(row[0], Text) else Text(self.fit(row[0], names))
            table.add_row(first, *(self._cell(row[column.number]) for column in columns))
        self._name_missing(table, headers, columns)
        return table

    def _columns(
        self, headers: Sequence[str], rows: Sequence[Sequence[Text | str]]
    ) -> list[_Column]:
        """The columns behind the first one that fit beside the shortest names, from the left."""
        room = self.width - max(map(self._shortest, [row[0] for row in rows]), default=0)
        cells = [[self._cell(row[i]).cell_len for row in rows] for i in range(len(headers))]
        words = [[cell_len(word) for word in self.text(h).plain.split()] for h in headers]
        numbers = range(1, len(headers))
        full = [
            _Column(i, max([cell_len(self.text(headers[i]).plain), *cells[i]])) for i in numbers
        ]
        if sum(1 + column.width for column in full) <= room:
            return full
        kept = []
        for column in (_Column(i, max([0, *words[i], *cells[i]])) for i in numbers):
            if 1 + column.width <= room:
                kept.append(column)
                room -= 1 + column.width
        return kept

    def _shortest(self, name: Text | str) -> int:
        if isinstance(name, Text):
            return name.cell_len
        return min(SHORTEST_NAME, cell_len(self.text(name).plain))

    def _name_missing(
        self, table: Table, headers: Sequence[str], columns: Sequence[_Column]
    ) -> None:
        shown = {0, *(column.number for column in columns)}
        missing = [self.text(h).plain for i, h in enumerate(headers) if i not in shown]
        if missing:
            named = ", ".join("bars" if set("│|") & set(name) else name for name in missing)
            table.caption = self.text(f"Too narrow for: {named}.", "dim")
            table.caption_justify = "left"

    def _cell(self, cell: Text | str) -> Text:
        made = cell if isinstance(cell, Text) else self.text(cell)
        made.no_wrap = True
        return made


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that is shown, by its place, and its width."""

    number: int
    width: int


def page_of(console: Console) -> Page:
    """The page that ``console`` prints."""
    return Page(width=console.width, ascii_only=not console.encoding.lower().startswith("utf"))


def _visible(character: str) -> str:
    if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}:
        return character.encode("unicode_escape").decode("ascii")
    return character


def _ascii(text: str) -> str:
    return text.translate(ASCII).encode("ascii", "replace").decode("ascii")


def _start(text: str, width: int) -> str:
    kept = ""
    for character in text:
        if cell_len(kept + character) > width:
            break
        kept += character
    return kept


def _end(text: str, width: int) -> str:
    return _start(text[::-1], width)[::-1]
