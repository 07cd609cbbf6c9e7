"""What a part of the reproduction returns: tables, charts and pictures as plain values, for JSON, CSV and the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from splitdeconv.results.bench import geometric_mean

Kind = Literal["counted", "estimated", "measured"]
Cell = str | int | float | None
ABSENT = "–"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        title: heading.
        unit: behind each number of the page; in the CSV it stands in the heading.
        digits: after the point, on the page; the CSV has all of them.
    """

    title: str
    unit: str = ""
    digits: int = 2

    def text(self, cell: Cell) -> str:
        """The cell as the page shows it."""
        if cell is None:
            return ABSENT
        if isinstance(cell, str):
            return cell
        unit = self.unit if self.unit in ("×", "") else f" {self.unit}"
        return f"{cell:,}{unit}" if isinstance(cell, int) else f"{cell:.{self.digits}f}{unit}"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table whose numbers are all of one kind, but for the published ones beside them, which say so.

    Attributes:
        name: of its CSV file, without the ending.
        caption: what is in it.
        kind: whether ours were counted, estimated or measured.
        columns: the first one names the rows.
        rows: one cell for each column.
        notes: below it, one sentence each.
        on_page: False for a long table that is written as CSV only.
    """

    name: str
    caption: str
    kind: Kind
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    on_page: bool = True

    def csv(self) -> str:
        """The numbers in full; a cell without one is empty."""
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow([f"{each.title} [{each.unit}]" if each.unit else each.title for each in self.columns])
        table.writerows([["" if cell is None else cell for cell in row] for row in self.rows])
        return out.getvalue()


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines or groups of bars.

    Attributes:
        name: of its SVG file, without the ending.
        caption: what it shows.
        kind: of its numbers.
        shape: ``bars`` or ``lines``.
        ticks: labels of the horizontal axis.
        series: label → a height for each tick, or None.
        y_label: of the vertical axis.
        marks: label → height of a horizontal line: what the paper publishes.
        logarithmic: the vertical axis.
    """

    name: str
    caption: str
    kind: Kind
    shape: Literal["bars", "lines"]
    ticks: tuple[str, ...]
    series: Mapping[str, tuple[float | None, ...]]
    y_label: str
    marks: Mapping[str, float]
    logarithmic: bool = False


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures side by side.

    Attributes:
        caption: what they show.
        pictures: label and PNG file, relative to the report's folder.
    """

    caption: str
    pictures: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that a part found.

    Attributes:
        sheets, charts, galleries: in the order of the page.
        notes: differences from the paper and their reasons, and what was left out; one sentence each.
    """

    sheets: tuple[Sheet, ...] = ()
    charts: tuple[Chart, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    notes: tuple[str, ...] = ()


def geometric(ratios: Sequence[float | None]) -> float | None:
    """Geometric mean of the known ratios, None without any."""
    known = [ratio for ratio in ratios if ratio is not None]
    return geometric_mean(known) if known else None
