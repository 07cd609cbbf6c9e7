"""Draws the pictures of the documentation: ``python docs/draw_pictures.py``, into docs/pictures.

Which tap belongs to which phase, and where it lies in a window, is asked of the package itself. Each picture comes for
a light and for a dark background (``NAME.svg``, ``NAME-dark.svg``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from splitdeconv.deconv.phases import merge
from splitdeconv.deconv.spec import Axis

FOLDER = Path(__file__).parent / "pictures"
STRIDE = 2
AXIS = Axis(kernel=5, stride=STRIDE, pad_begin=2, pad_end=2, output_pad=1, in_size=4)  # 4 pixels become 8


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a picture: its ground, its text, empty places, and one for each of the four phases."""

    suffix: str
    ground: str
    ink: str
    faint: str
    empty: str
    phases: tuple[str, str, str, str]


THEMES = (
    Theme("", "#ffffff", "#1b1f24", "#8a929c", "#eceff2", ("#4c8dd6", "#f0b45b", "#7cc4a0", "#d9a3c7")),
    Theme("-dark", "#131416", "#e8eaed", "#858c96", "#2a2e33", ("#4c8dd6", "#d79a3d", "#5aa884", "#b97aa5")),
)
ON_COLOUR = "#10141a"  # text on a phase's colour, in both themes
SIGNS = ("A", "B", "C", "D")  # of the phases: even rows and columns, even rows and odd columns, and so on


def main(folder: Path) -> None:
    """Write all pictures into ``folder``."""
    mpl.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "splitdeconv",
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
        }
    )
    for name, (draw, width, height) in PICTURES.items():
        for theme in THEMES:
            figure = Figure(figsize=(width / 2.4, height / 2.4), facecolor=theme.ground)
            axes = figure.add_axes((0, 0, 1, 1))
            axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
            axes.axis("off")
            draw(axes, theme)
            figure.savefig(folder / f"{name}{theme.suffix}.svg", metadata={"Date": None}, facecolor=theme.ground)


def cell(axes: Axes, theme: Theme, x: float, y: float, text: str = "", phase: int | None = None) -> None:
    """A square of side 1 with its upper left corner at ``(x, y)``, in the colour of a phase or empty."""
    fill = theme.empty if phase is None else theme.phases[phase]
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=fill, edgecolor=theme.ground, linewidth=2))
    colour = theme.faint if phase is None else ON_COLOUR
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=colour, fontsize=10)


def label(axes: Axes, theme: Theme, x: float, y: float, text: str, size: float = 12, ha: str = "center") -> None:
    """A line of text around ``(x, y)``."""
    axes.text(x, y, text, ha=ha, va="center", color=theme.ink, fontsize=size)


def arrow(axes: Axes, theme: Theme, start: tuple[float, float], end: tuple[float, float], colour: str = "") -> None:
    """An arrow from one place to another."""
    made = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=10, linewidth=1.4, color=colour or theme.ink)
    axes.add_patch(made)


def phase_of(row: int, column: int) -> int:
    """Number of the phase that holds an output, or that a tap at these phases of its axes serves."""
    return row % STRIDE * STRIDE + column % STRIDE


def tap_phases(axis: Axis) -> list[int]:
    """For each tap of an axis, the phase that it serves."""
    return [next(phase.offset for phase in axis.phases() if tap in phase.taps) for tap in range(axis.kernel)]


def spread(axes: Axes, theme: Theme) -> None:
    """One axis: each input pixel meets every tap, and lands on outputs two apart from its neighbour's."""
    assert AXIS.in_size is not None
    assert AXIS.out_size is not None
    left = (AXIS.out_size - STRIDE * AXIS.in_size) / 2 + 2.5
    served = tap_phases(AXIS)
    for i in range(AXIS.in_size):
        x = left + STRIDE * i + 0.5
        cell(axes, theme, x, 1, f"x{i}", 0 if i == 1 else None)
        for tap in range(AXIS.kernel):
            o = i * STRIDE + tap - AXIS.pad_begin
            if 0 <= o < AXIS.out_size:
                chosen = i == 1
                colour = theme.phases[served[tap]] if chosen else theme.faint
                line = FancyArrowPatch(
                    (x + 0.5, 2.05),
                    (left + o + 0.5, 4.95),
                    arrowstyle="-|>",
                    mutation_scale=8,
                    linewidth=2 if chosen else 0.5,
                    color=colour,
                    zorder=2 if chosen else 1,
                )
                axes.add_patch(line)
                if chosen:
                    middle = (x + 0.5 + 3 * (left + o + 0.5)) / 4
                    axes.text(
                        middle, 4.3, f"w{tap}", ha="center", va="center", color=theme.ink, fontsize=9, zorder=3,
                        bbox={"facecolor": theme.ground, "edgecolor": "none", "pad": 1},
                    )  # fmt: skip
    for o in range(AXIS.out_size):
        reached = 0 <= o - STRIDE + AXIS.pad_begin < AXIS.kernel
        cell(axes, theme, left + o, 5, f"y{o}", o % STRIDE if reached else None)
    label(axes, theme, 1.2, 1.5, "input")
    label(axes, theme, 1.2, 5.5, "output")


def zero_insertion(axes: Axes, theme: Theme) -> None:
    """Two axes: the stretched input, and one output's 25 products of which only 9 or 4 are not with a zero."""
    assert AXIS.in_size is not None
    size = AXIS.in_size
    for row, column in product(range(size), repeat=2):
        cell(axes, theme, 1 + column, 4.5 + row, "x", 0)
    label(axes, theme, 1 + size / 2, 3.6, f"input, {size}×{size}")
    arrow(axes, theme, (5.4, 6.5), (6.8, 6.5))
    side = STRIDE * size - 1
    for number, (window_row, window_column) in enumerate(((2, 2), (1, 1))):
        left, top = 7.2 + number * 9.2, 2.5
        for row, column in product(range(side), repeat=2):
            real = row % STRIDE == 0 and column % STRIDE == 0
            inside = 0 <= row - window_row < AXIS.kernel and 0 <= column - window_column < AXIS.kernel
            cell(axes, theme, left + column, top + row, "x" if real else "0", (0 if inside else 3) if real else None)
        rows = sum(row % STRIDE == 0 for row in range(window_row, window_row + AXIS.kernel))
        columns = sum(column % STRIDE == 0 for column in range(window_column, window_column + AXIS.kernel))
        box = Rectangle(
            (left + window_column, top + window_row),
            AXIS.kernel, AXIS.kernel,
            fill=False, edgecolor=theme.ink, linewidth=2.5, zorder=4,
        )  # fmt: skip
        axes.add_patch(box)
        label(axes, theme, left + side / 2, 1.6, f"{rows * columns} of 25 products are not with a zero")


def sub_filters(axes: Axes, theme: Theme) -> None:
    """The 25 taps of a 5×5 filter fall to four smaller filters, one for each phase of the output."""
    served = tap_phases(AXIS)
    for row, column in product(range(AXIS.kernel), repeat=2):
        cell(axes, theme, 1 + column, 2.5 + row, f"{row}{column}", phase_of(served[row], served[column]))
    label(axes, theme, 3.5, 1.6, "the filter, 5×5")
    arrow(axes, theme, (6.4, 5), (7.8, 5))
    places = ((8.4, 2), (13.4, 2), (8.4, 6.6), (13.4, 6.6))
    phases = AXIS.phases()
    for number, (rows, columns) in enumerate(product(phases, repeat=2)):
        left, top = places[number]
        for y, tap_row in enumerate(rows.taps):
            for x, tap_column in enumerate(columns.taps):
                cell(axes, theme, left + x, top + y, f"{tap_row}{tap_column}", number)
        text = f"{SIGNS[number]}: {len(rows.taps)}×{len(columns.taps)}"
        label(axes, theme, left + len(columns.taps) / 2, top - 0.5, text)


def rearrangement(axes: Axes, theme: Theme) -> None:
    """Four convolutions of the input as it is; their outputs interleave."""
    assert AXIS.in_size is not None
    assert AXIS.out_size is not None
    size = AXIS.in_size
    for row, column in product(range(size), repeat=2):
        cell(axes, theme, 0.6 + column, 4.5 + row, "x")
    label(axes, theme, 0.6 + size / 2, 3.8, f"input, {size}×{size}")
    for number in range(STRIDE**2):
        top = 0.3 + number * 3.2
        half = 0.7
        for row, column in product(range(size), repeat=2):
            x, y = 8.6 + column * half, top + row * half
            axes.add_patch(
                Rectangle((x, y), half, half, facecolor=theme.phases[number], edgecolor=theme.ground, linewidth=1.5)
            )
            text = SIGNS[number]
            axes.text(x + half / 2, y + half / 2, text, ha="center", va="center", color=ON_COLOUR, fontsize=7)
        arrow(axes, theme, (4.8, 6.5), (8.4, top + 1.4), theme.phases[number])
        arrow(axes, theme, (11.6, top + 1.4), (14.2, 6.5), theme.phases[number])
    label(axes, theme, 6.2, 0.6, "four small")
    label(axes, theme, 6.2, 1.3, "convolutions")
    label(axes, theme, 13.2, 0.6, "pixels put")
    label(axes, theme, 13.2, 1.3, "in place")
    for row, column in product(range(AXIS.out_size), repeat=2):
        number = phase_of(row, column)
        cell(axes, theme, 14.6 + column, 2.5 + row, SIGNS[number], number)
    label(axes, theme, 14.6 + AXIS.out_size / 2, 1.8, f"output, {AXIS.out_size}×{AXIS.out_size}")


def wasted_taps(axes: Axes, theme: Theme) -> None:
    """One axis of three kernels: the places of the windows that each form computes; empty ones multiply by zero."""
    forms: tuple[tuple[str, Callable[[Axis], list[Sequence[int | None]]]], ...] = (
        ("one for each phase", lambda axis: [phase.taps for phase in axis.phases()]),
        ("split:union", lambda axis: list(merge(axis.phases()).taps)),
        ("split:full (SD)", lambda axis: list(merge(axis.phases(axis.full_shift)).taps)),
        ("zero insertion (NZP)", lambda axis: [inserted(axis, offset) for offset in range(axis.stride)]),
    )
    kernels = ((3, 1), (4, 1), (5, 2))
    for column, (kernel, pad) in enumerate(kernels):
        label(axes, theme, 7.4 + column * 6, 0.8, f"kernel {kernel}, stride 2", 13)
        for row, (name, windows) in enumerate(forms):
            top = 1.6 + row * 3
            if column == 0:
                label(axes, theme, 4.6, top + 1, name, 13, "right")
            axis = Axis(kernel, STRIDE, pad_begin=pad, pad_end=pad, in_size=8)
            served = tap_phases(axis)
            for number, taps in enumerate(windows(axis)):
                for place, tap in enumerate(taps):
                    text = "0" if tap is None else f"w{tap}"
                    cell(axes, theme, 5 + column * 6 + place, top + number, text, None if tap is None else served[tap])


def inserted(axis: Axis, offset: int) -> list[int | None]:
    """The taps of the flipped filter over the stretched input at an output of one phase; None where a zero lies."""
    taps = next(phase.taps for phase in axis.phases() if phase.offset == offset)
    return [tap if tap in taps else None for tap in reversed(range(axis.kernel))]


PICTURES: dict[str, tuple[Callable[[Axes, Theme], None], float, float]] = {
    "spread": (spread, 13, 6.6),
    "zero-insertion": (zero_insertion, 24, 10.2),
    "sub-filters": (sub_filters, 17, 9.4),
    "rearrangement": (rearrangement, 23.2, 13.2),
    "wasted-taps": (wasted_taps, 23, 13.2),
}

if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
