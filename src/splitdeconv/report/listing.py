"""Tables on the terminal that no width breaks: names and numbers stay whole.

Without a terminal each row is one line of any length. On a terminal the column of text is folded between words; where
that is not enough, the name of each row gets a line of its own; and where that is not enough either, the cells follow
each other with their headers.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitdeconv.errors import one_line
from splitdeconv.report.numbers import NO_NUMBER

FOLDED = 24  # narrowest column of text that still reads well
_GAP = 2  # between columns
_INDENT = "  "
_UNIT = re.compile(r"(?<=\d) (?=(?:[kMG]|[kMG]?B|ms|s|%)(?!\w))")
_GLUE = "\0"  # which no text holds: `one_line` escapes it


@dataclass(frozen=True, slots=True)
class Listing:
    """A table of plain text.

    Attributes:
        headers: one for each column; the first column names the row.
        rows: as many cells in each.
        numbers: headers of the columns that align to the right.
        text: header of the column that may be folded, or empty.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Collection[str] = ()
    text: str = ""

    def side(self, header: str) -> Literal["left", "right"]:
        """To which side a column aligns."""
        return "right" if header in self.numbers else "left"

    def widths(self) -> dict[str, int]:
        """What each column needs to stay whole."""
        columns = zip(self.headers, zip(*self.rows, strict=True), strict=True)
        return {header: max(map(cell_len, (header, *cells))) for header, cells in columns}

    def without_empty_columns(self) -> Listing:
        """The same without columns that say nothing."""
        kept = [number for number in range(len(self.headers)) if any(row[number] for row in self.rows)]
        rows = [[row[number] for number in kept] for row in self.rows]
        return Listing([self.headers[number] for number in kept], rows, self.numbers, self.text)

    def printable(self) -> Listing:
        """The same with each cell on one line, whatever names of models and files hold."""
        return replace(self, rows=[[one_line(cell) for cell in row] for row in self.rows])


def show(out: Console, given: Listing) -> None:
    """Print a table of at least one row in the first layout for which there is room."""
    listing = given.without_empty_columns().printable()
    widths = listing.widths()
    natural = _total(widths.values())
    folded = _total(min(width, FOLDED) if header == listing.text else width for header, width in widths.items())
    beneath = [header for header in listing.headers[1:] if header != listing.text]
    if not out.is_terminal:
        Console(file=out.file, width=natural, highlight=False).print(_table(listing))
    elif folded <= out.width:
        out.print(_table(listing))
    elif len(_INDENT) + _total(widths[header] for header in beneath) <= out.width:
        _under_names(out, listing, {header: widths[header] for header in beneath})
    else:
        _in_pairs(out, listing, beneath)


def say(out: Console, line: str) -> None:
    """Print one line of plain text, folded between words on a terminal."""
    text = one_line(line)
    out.print(Text("\n".join(_folded(text, out.width)) if out.is_terminal else text), soft_wrap=True)


def _folded(text: str, width: int) -> list[str]:
    """Lines of whole words; a number and its unit are one word."""
    glued = _UNIT.sub(_GLUE, text)
    lines = textwrap.wrap(glued, width, break_long_words=False, break_on_hyphens=False)
    return [line.replace(_GLUE, " ") for line in lines]


def _total(widths: Iterable[int]) -> int:
    found = list(widths)
    return sum(found) + _GAP * (len(found) - 1)


def _table(listing: Listing) -> Table:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for header in listing.headers:
        made.add_column(Text(header, justify=listing.side(header)), overflow="fold", no_wrap=header != listing.text)
    for row in listing.rows:
        cells = zip(listing.headers, row, strict=True)
        made.add_row(*(Text(cell, justify=listing.side(header)) for header, cell in cells))
    return made


def _under_names(out: Console, listing: Listing, widths: dict[str, int]) -> None:
    """Each row beneath its name, in columns."""

    def line(cells: dict[str, str]) -> str:
        parts = (_aligned(cells[header], width, right=header in listing.numbers) for header, width in widths.items())
        return (_INDENT + (" " * _GAP).join(parts)).rstrip()

    out.print(Text(listing.headers[0], style="bold"))
    out.print(Text(line({header: header for header in widths}), style="bold"))
    for row in listing.rows:
        cells = dict(zip(listing.headers, row, strict=True))
        out.print(Text(row[0], style="bold"), soft_wrap=True)
        out.print(Text(line(cells)), soft_wrap=True)
        _text(out, listing, cells)


def _aligned(cell: str, width: int, *, right: bool) -> str:
    return " " * (width - cell_len(cell)) + cell if right else set_cell_size(cell, width)


def _in_pairs(out: Console, listing: Listing, beneath: Sequence[str]) -> None:
    """Each row beneath its name; headers and cells in pairs, as many on a line as fit."""
    for row in listing.rows:
        cells = dict(zip(listing.headers, row, strict=True))
        out.print(Text(row[0], style="bold"), soft_wrap=True)
        lines: list[str] = []
        for pair in (f"{header} {cells[header]}" for header in beneath if cells[header] not in ("", NO_NUMBER)):
            if lines and cell_len(f"{lines[-1]} · {pair}") <= out.width:
                lines[-1] += f" · {pair}"
            else:
                lines.append(_INDENT + pair)
        for line in lines:
            out.print(Text(line), soft_wrap=True)
        _text(out, listing, cells)


def _text(out: Console, listing: Listing, cells: dict[str, str]) -> None:
    """The column of text on lines of its own."""
    if words := cells.get(listing.text):
        folded = _folded(f"{listing.text}: {words}", out.width - len(_INDENT))
        out.print(Text("\n".join(_INDENT + line for line in folded)), soft_wrap=True)
