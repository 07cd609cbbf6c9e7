"""Charts as figures, in the style that all plots of the project share (extra ``report``)."""

from __future__ import annotations

from typing import Any

from splitdeconv.lab.paper.result import Chart
from splitdeconv.report import plots

_HEIGHT, _BAND = 300, 22  # pixels: of the axes with their title, and of one line of the legend
_GROUP = 0.84  # of the distance between two groups of bars
_IN_LINE = 3  # names of a legend's line


def figure(chart: Chart) -> Any:
    """The chart as a matplotlib figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    lines = -(-len(chart.series) // _IN_LINE)
    with plots.drawing(_HEIGHT + _BAND * lines) as made:
        panel = made.subplots()
        (_bars if chart.shape == "bars" else _lines)(panel, chart)
        if chart.logarithmic:
            panel.set_yscale("log")
        panel.set_xticks(range(len(chart.ticks)), chart.ticks)
        panel.set_ylabel(chart.y_label)
        _marks(panel, chart)
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=_IN_LINE, borderpad=0.2, columnspacing=1.2)
    return made


def _bars(panel: Any, chart: Chart) -> None:
    width = _GROUP / len(chart.series)
    for number, (label, heights) in enumerate(chart.series.items()):
        places = [tick + (number - (len(chart.series) - 1) / 2) * width for tick in range(len(heights))]
        known = [(place, height) for place, height in zip(places, heights, strict=True) if height is not None]
        if known:
            panel.bar(*zip(*known, strict=True), width, label=label, **plots.bar_style(number))
    panel.grid(visible=False, axis="x")


def _lines(panel: Any, chart: Chart) -> None:
    for number, (label, heights) in enumerate(chart.series.items()):
        style = plots.SERIES[number]
        known = [(tick, height) for tick, height in enumerate(heights) if height is not None]
        panel.plot(*zip(*known, strict=True), label=label, color=style.colour, marker=style.marker)
    panel.set_ylim(bottom=0)


def _marks(panel: Any, chart: Chart) -> None:
    """What the paper publishes, as horizontal lines with their names."""
    for label, height in chart.marks.items():
        panel.axhline(height, color=plots.INK, linewidth=1, linestyle="--")
        panel.annotate(
            f"{label} {height:g}",
            (1, height),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=11,
            bbox={"facecolor": plots.PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1},
        )


def description(chart: Chart) -> str:
    """What the chart shows, in words, for those who cannot see it."""
    parts = []
    for label, heights in chart.series.items():
        known = [
            f"{tick} {height:.2f}" for tick, height in zip(chart.ticks, heights, strict=True) if height is not None
        ]
        parts.append(f"{label}: {', '.join(known)}")
    return f"{chart.caption}. {'; '.join(parts)}"
