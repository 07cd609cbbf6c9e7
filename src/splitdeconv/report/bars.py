"""Groups of bars, each with its name and number written at its end, so that neither legend nor colour is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from splitdeconv.report import plots
from splitdeconv.report.page import Kind, Plot

MILLISECONDS = "milliseconds; shorter is better"  # an axis
_BAR, _TITLE, _GAP, _AXIS = 19, 21, 10, 44  # pixels: of a bar, its group's title, between groups, of the axis
_ROOM = 478  # pixels for bars and what is written at their ends
_LETTER = 6.6  # pixels, on the average
_LONGEST_TITLE = 66  # letters


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        name: of what it shows, such as ``before``.
        value: its length.
        text: the number as it is written.
        series: which of ``plots.SERIES``; the same name has the same one everywhere.
        spread: low and high, drawn as a whisker; None without.
    """

    name: str
    value: float
    text: str
    series: int
    spread: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class BarGroup:
    """Bars that are compared with each other."""

    title: str
    bars: tuple[Bar, ...]


def plot(caption: str, groups: Sequence[BarGroup], kind: Kind | None, axis: str) -> Plot:
    """The bars as a block of a page, with a description in words; arguments and errors as :func:`figure`."""
    described = "; ".join(
        f"{group.title}: " + ", ".join(f"{bar.name} {bar.text}" for bar in group.bars) for group in groups
    )
    return Plot(caption, plots.to_svg(figure(groups, axis), described), kind)


def figure(groups: Sequence[BarGroup], axis: str) -> Any:
    """All groups on one scale that starts at zero.

    Args:
        axis: what the bars' lengths are, with its unit.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    height = sum(_TITLE + _BAR * len(group.bars) + _GAP for group in groups)
    with plots.drawing(height + _AXIS) as made:
        panel = made.subplots()
        top = 0
        for group in groups:
            _group(panel, group, top)
            top += _TITLE + _BAR * len(group.bars) + _GAP
        panel.set_ylim(height, 0)
        panel.set_xlim(0, _longest(groups))
        panel.set_xlabel(axis)
        panel.set_yticks([])
        panel.locator_params(axis="x", nbins=6)
    return made


def _group(panel: Any, group: BarGroup, top: int) -> None:
    title = plots.shortened(group.title, _LONGEST_TITLE)
    panel.text(0, top + _TITLE - 4, f" {title}", va="bottom", color=plots.INK, fontweight="bold", fontsize=12)
    for number, bar in enumerate(group.bars):
        middle = top + _TITLE + _BAR * (number + 0.5)
        panel.barh(middle, bar.value, height=_BAR - 5, **plots.bar_style(bar.series))
        reach = bar.value
        if bar.spread is not None and bar.spread[1] > bar.spread[0]:
            panel.plot(bar.spread, (middle, middle), color=plots.INK, linewidth=1.4, marker="|", markersize=6)
            reach = max(reach, bar.spread[1])
        words = {"xytext": (6, 0), "textcoords": "offset points", "va": "center_baseline", "fontsize": 12}
        panel.annotate(_words(bar), (reach, middle), color=plots.INK, **words)


def _words(bar: Bar) -> str:
    return f"{bar.name}: {bar.text}"


def _longest(groups: Sequence[BarGroup]) -> float:
    """Where the axis ends, so that there is room for what is written at the end of each bar."""
    bars = [bar for group in groups for bar in group.bars]
    reach = [
        max(bar.value, bar.spread[1] if bar.spread else 0.0) / (_ROOM - 8 - _LETTER * len(_words(bar))) for bar in bars
    ]
    return max(reach, default=0.0) * _ROOM or 1.0
