"""A report as values, and its writing as one self-contained HTML file (extra ``report``).

Whoever has something to report builds a :class:`Page` of sections and blocks; this module alone knows HTML. The file
asks for nothing from anywhere: style, plots and pictures are inside, and there is no script.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeAlias

from splitdeconv.errors import MissingExtraError
from splitdeconv.files import write_text
from splitdeconv.report.numbers import NO_NUMBER
from splitdeconv.version import __version__

Kind: TypeAlias = Literal["measured", "estimated", "counted"]
Tone: TypeAlias = Literal["good", "bad", "warn", "plain"]

MARKS = {"good": "✓", "bad": "✗", "warn": "!", "plain": ""}  # what a tone looks like without colour


@dataclass(frozen=True, slots=True)
class Badge:
    """A verdict in a few words; its tone has a sign besides its colour."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Code:
    """What stands in a terminal or in a file: a command, a name, a version."""

    text: str


@dataclass(frozen=True, slots=True)
class Unbroken:
    """Words that stay on one line."""

    text: str


Cell: TypeAlias = str | int | float | Badge | Code | Unbroken | None


@dataclass(frozen=True, slots=True)
class Column:
    """The header of a column of numbers.

    Attributes:
        title: heading.
        unit: behind each number of the page; in a CSV file it stands in the heading.
        digits: after the point, on the page; a CSV file has all of them.
    """

    title: str
    unit: str = ""
    digits: int = 2

    def text(self, cell: Cell) -> Cell:
        """A number as the page shows it; what is none, as it is."""
        if not isinstance(cell, int | float):
            return cell
        unit = self.unit if self.unit in ("×", "") else f" {self.unit}"
        return f"{cell:,}{unit}" if isinstance(cell, int) else f"{cell:.{self.digits}f}{unit}"


Header: TypeAlias = str | Column


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row names the row.

    Attributes:
        caption: what it shows, in one sentence.
        headers: one for each column; a :class:`Column` rounds its numbers and writes their unit.
        rows: as many cells in each as there are headers, None where there is nothing. Columns of numbers, with or
            without units, align right.
        notes: under the table, one sentence each.
        kind: where the numbers come from; shown as a label. Measured and estimated numbers never share a table.
        marked: numbers of the rows that stand out, such as the chosen one; say so in a cell too.
    """

    caption: str
    headers: tuple[Header, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    kind: Kind | None = None
    marked: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.headers):
                wanted = f"{len(self.headers)} as in {self.headers}"
                raise ValueError(f"table '{self.caption}': row {row} has {len(row)} cells, wanted {wanted}")

    def titles(self) -> tuple[str, ...]:
        """The headings."""
        return tuple(each.title if isinstance(each, Column) else each for each in self.headers)

    def texts(self) -> tuple[tuple[Cell, ...], ...]:
        """The rows as the page shows them."""
        return tuple(tuple(map(_shown_in, self.headers, row)) for row in self.rows)

    def csv(self) -> str:
        """The numbers in full; a cell without one is empty."""
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        units = (each.unit if isinstance(each, Column) else "" for each in self.headers)
        heads = zip(self.titles(), units, strict=True)
        table.writerow([f"{title} [{unit}]" if unit else title for title, unit in heads])
        table.writerows(self.rows)
        return out.getvalue()


def _shown_in(header: Header, cell: Cell) -> Cell:
    if cell is None:
        return NO_NUMBER
    return header.text(cell) if isinstance(header, Column) else cell


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing.

    Attributes:
        caption: what it shows; it is read out in place of the drawing.
        svg: as :func:`splitdeconv.report.plots.to_svg` gives it.
        kind: as for a table.
    """

    caption: str
    svg: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: what it is, and the bytes of its PNG file. Small ones are enlarged without smoothing."""

    label: str
    png: bytes


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures side by side."""

    caption: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence that stands by itself."""

    text: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values: an environment, a command, a setting."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number or word to be seen first.

    Attributes:
        label: what it is.
        value: short.
        detail: what belongs to it, such as the spread; may be empty.
        tone: of the value.
        kind: as for a table.
    """

    label: str
    value: str
    detail: str = ""
    tone: Tone = "plain"
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """The few figures that a reader looks for first, large and side by side."""

    figures: tuple[Figure, ...]


@dataclass(frozen=True, slots=True)
class Columns:
    """Blocks side by side where there is room."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Details:
    """Blocks behind one line to open; printed open."""

    summary: str
    blocks: tuple[Block, ...]


Block: TypeAlias = Table | Plot | Pictures | Note | Facts | Figures | Columns | Details


@dataclass(frozen=True, slots=True)
class Section:
    """A headed part of a page.

    Attributes:
        title: also its line in the list of contents.
        text: paragraphs, separated by empty lines.
        blocks: in their order.
    """

    title: str
    text: str = ""
    blocks: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Attributes:
        title: what it is about.
        lead: the result in a sentence or two.
        sections: in their order.
        blocks: between the lead and the first section.
    """

    title: str
    lead: str
    sections: tuple[Section, ...]
    blocks: tuple[Block, ...] = ()


def write_page(page: Page, path: Path) -> None:
    """Write ``page`` as one HTML file, whole or not at all.

    Raises:
        MissingExtraError: jinja2 is not installed.
        OutputError: it cannot be written there.
    """
    write_text(path, html(page))


def html(page: Page) -> str:
    """The page as the text of an HTML file; the same text for the same page.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    templates = _templates()
    style = resources.files(__package__).joinpath("templates").joinpath("style.css").read_text(encoding="utf-8")
    sections = list(zip(_anchors(page.sections), page.sections, strict=True))
    text: str = templates.get_template("page.html").render(
        page=page, sections=sections, style=style, version=__version__
    )
    return text


def check() -> None:
    """Before minutes of measuring, that a page can be written.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    _templates()


def _templates() -> Any:
    """The templates, with what they call."""
    try:
        import jinja2  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError("a report", error.name or "jinja2", "report") from error
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("splitdeconv.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update(type_of=lambda found: type(found).__name__, number=_counter(), MARKS=MARKS)
    found.filters.update(
        paragraphs=_paragraphs,
        breakable=_breakable,
        code=_code,
        numeric=_numeric_columns,
        shown=shown,
        data_uri=_data_uri,
        with_own_ids=with_own_ids,
    )
    return found


def _counter() -> Callable[[], int]:
    """A function that counts up: blocks get their ids from it."""
    numbers = iter(range(1, 1 << 30))
    return lambda: next(numbers)


def _anchors(sections: Iterable[Section]) -> list[str]:
    """An id for each section, from its title."""
    found: list[str] = []
    for section in sections:
        slug = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-") or "section"
        same = sum(name == slug or name.startswith(f"{slug}--") for name in found)
        found.append(f"{slug}--{same + 1}" if same else slug)
    return found


def _paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]


# A number with an optional sign, unit, spread or range: 12, −3.1, 52.43 M, 1.2 ms ±3%, 2.41×, 1.9–2.2, ≤ 4.
_NUMBER = re.compile(r"[-−+±<>≤≥~≈]? ?\d[\d.,]*(e[-+]?\d+)?( ?[×%]| [^\W\d]{1,4})?( ?[±–(].*)?")
_BLANK = ("", NO_NUMBER, "—", "?")


def _numeric_columns(table: Table) -> list[bool]:
    """Which columns hold numbers only; one without any word or number is as the one before it."""
    found: list[bool] = []
    rows = table.texts()
    for number in range(len(table.headers)):
        cells = [row[number] for row in rows if row[number] not in _BLANK]
        found.append(all(_is_number(cell) for cell in cells) if cells else found[-1:] == [True])
    return found


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) or (isinstance(cell, str) and _NUMBER.fullmatch(cell) is not None)


def shown(cell: str | float) -> str:
    """A number as people read it: at most four digits that count, and thousands apart."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int) or abs(cell) >= 10_000:
        return f"{cell:,.0f}".replace(",", "\u202f")
    return f"{cell:.4g}"


def _breakable(name: str) -> Any:
    """A name that may be broken after the signs between its parts."""
    from markupsafe import Markup, escape  # noqa: PLC0415  # comes with jinja2

    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/:._])(?=[^\W\d_])", name))


def _code(text: str) -> Any:
    """Words of a terminal, broken between words before it is inside of one."""
    from markupsafe import Markup  # noqa: PLC0415  # comes with jinja2

    words = [_breakable(word) for word in text.split(" ")]
    return Markup(" ").join(Markup("<span>{}</span>").format(word) for word in words) if len(words) > 1 else words[0]


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def with_own_ids(svg: str, prefix: str) -> str:
    """The drawing with ``prefix`` before all of its ids and what refers to them, so that several share a page."""
    named = re.sub(r'\bid="', f'id="{prefix}-', svg)
    return re.sub(r'(url\(#|href="#|aria-labelledby=")', rf"\g<1>{prefix}-", named)
