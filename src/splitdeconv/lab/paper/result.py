"""What a part of the reproduction shows: blocks of its page, by the names of the files that have the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from splitdeconv.report import bars
from splitdeconv.report.bars import Bar, BarGroup
from splitdeconv.report.page import Kind, Plot, Table
from splitdeconv.results.bench import geometric_mean

Series = Mapping[str, Sequence[float | None]]
_PAPER = 2  # series of the published bars


@dataclass(frozen=True, slots=True)
class Chart:
    """Groups of bars, for the page and for a file.

    Attributes:
        caption: what it shows.
        kind: of its numbers.
        groups, axis: as ``report.bars`` takes them.
    """

    caption: str
    kind: Kind
    groups: tuple[BarGroup, ...]
    axis: str

    def plot(self) -> Plot:
        """The block of the page."""
        return bars.plot(self.caption, self.groups, self.kind, self.axis)


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that a part shows.

    Attributes:
        tables, charts: by the names of their CSV and SVG files, without the ending, in the order of the page.
        pictures: caption → label → PNG file in the report's folder; those of one caption stand side by side.
        notes: differences from the paper and their reasons, and what was left out; one sentence each.
        files: long tables that are written as CSV only.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    charts: Mapping[str, Chart] = field(default_factory=dict)
    pictures: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    files: Mapping[str, Table] = field(default_factory=dict)


def grouped(
    titles: Sequence[str], series: Series, published: Mapping[str, float] | None = None
) -> tuple[BarGroup, ...]:
    """A group of bars for each title, with one bar of each series that has a number there.

    Args:
        titles: of the groups.
        series: label → a length for each group, or None.
        published: label → what the paper publishes, as a last group.
    """
    found = [
        BarGroup(title, tuple(_bars({label: lengths[place] for label, lengths in series.items()})))
        for place, title in enumerate(titles)
    ]
    if published:
        found.append(
            BarGroup("the paper", tuple(Bar(label, each, f"{each:g}", _PAPER) for label, each in published.items()))
        )
    return tuple(found)


def _bars(lengths: Mapping[str, float | None]) -> list[Bar]:
    return [
        Bar(label, length, f"{length:.2f}", number)
        for number, (label, length) in enumerate(lengths.items())
        if length is not None
    ]


def geometric(ratios: Sequence[float | None]) -> float | None:
    """Geometric mean of the known ratios, None without any."""
    known = [ratio for ratio in ratios if ratio is not None]
    return geometric_mean(known) if known else None
