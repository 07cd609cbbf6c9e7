"""The one way in which plots are drawn: for files of their own and for pages, with one set of colours, signs and fonts.

Sizes are in pixels of the page. The colours are those of the light page; inside of a page they follow its style, and
so the reader's choice of light and dark.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from splitdeconv.errors import MissingExtraError, UsageError, one_line
from splitdeconv.files import staged

KINDS = (".svg", ".png", ".pdf")
WIDTH = 520  # of a plot; two of them stand side by side on a wide screen, and one still reads well on a phone
_UNIT = 72  # pixels of a page for one inch of matplotlib, whose SVG has 72 units for it
_FILE_DPI = 160

INK, MUTED, GRID, PAPER = "#1b1f24", "#59636e", "#d1d9e0", "#ffffff"


@dataclass(frozen=True, slots=True)
class Series:
    """How one series is drawn, so that it is told apart by colour (Okabe and Ito's palette) and without."""

    colour: str
    hatch: str
    marker: str


SERIES = (
    Series("#0072b2", "", "o"),
    Series("#d55e00", "////", "D"),
    Series("#767e87", "....", "x"),
    Series("#009e73", "\\\\\\\\", "s"),
    Series("#a2478a", "xxxx", "^"),
    Series("#8f6400", "----", "v"),
)

# The page's style sheet gives these names their values in light and dark.
_NAMES = {INK: "ink", MUTED: "muted", GRID: "grid", PAPER: "paper"} | {
    series.colour: f"series-{number}" for number, series in enumerate(SERIES, 1)
}

_STYLE = {
    "font.size": 13,
    "font.family": "sans-serif",
    "axes.labelsize": 12,
    "axes.titlesize": 13,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "legend.frameon": False,
    "text.color": INK,
    "text.parse_math": False,  # a site may be called "$w$"
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 1,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 1,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "lines.linewidth": 1.8,
    "lines.markersize": 7,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "splitdeconv",  # the same text for the same plot
}


def check(path: Path | None = None) -> None:
    """Before minutes of measuring, that a plot can be drawn, and written to ``path``.

    Raises:
        UsageError: an unknown kind of file.
        MissingExtraError: matplotlib is not installed.
    """
    if path is not None and path.suffix.lower() not in KINDS:
        raise UsageError(f"{path}: wanted a plot file that ends in {', '.join(KINDS)}")
    _matplotlib()


def _matplotlib() -> Any:
    try:
        import matplotlib as mpl  # noqa: PLC0415  # an extra, and slow to import
        import matplotlib.figure  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("a plot", error.name or "matplotlib", "report") from error
    return mpl


@contextmanager
def drawing(height: float) -> Iterator[Any]:
    """A matplotlib ``Figure`` of this height in pixels; what is drawn inside of the ``with`` has the project's style.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    mpl = _matplotlib()
    with mpl.rc_context(_STYLE):
        yield mpl.figure.Figure(figsize=(WIDTH / _UNIT, height / _UNIT), dpi=_UNIT, layout="constrained")


def shortened(name: str, longest: int) -> str:
    """A name that fits beside a plot: its beginning and its end, which tell names of one model apart."""
    if len(name) <= longest:
        return name
    return f"{name[: longest // 3]}…{name[len(name) - longest + longest // 3 + 1 :]}"


def bar_style(number: int) -> dict[str, Any]:
    """Arguments of ``bar`` and ``barh`` for series ``number``."""
    series = SERIES[number]
    return {"color": series.colour, "hatch": series.hatch, "edgecolor": PAPER, "linewidth": 0}


def save(figure: Any, path: Path) -> None:
    """Write a figure to a file of one of ``KINDS``.

    Raises:
        OutputError: it cannot be written there.
    """
    dated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with staged(path) as folder:
        _write(figure, folder / path.name, dpi=_FILE_DPI, metadata=dated.get(path.suffix.lower()))


def _write(figure: Any, file: Any, **options: Any) -> None:
    """Write a figure, with escapes in place of what is no character, as on a terminal."""
    mpl = _matplotlib()
    for text in figure.findobj(mpl.text.Text):
        text.set_text(one_line(text.get_text()))
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # of a site's name, in Chinese
        figure.savefig(file, **options)


def to_svg(figure: Any, description: str) -> str:
    """A figure for a page: text stays text, in the page's font and colours.

    Args:
        description: what can be seen on it, for those who cannot see it.
    """
    file = io.StringIO()
    _write(figure, file, format="svg", transparent=True, metadata={"Date": None})
    found = file.getvalue()
    svg = found[found.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)  # it would hold for the whole page
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r"(font: [^;\"']*?[\d.]+px) [^;\"]*", r"\1 var(--font)", svg)
    svg = re.sub("|".join(_NAMES), lambda found: f"var(--{_NAMES[found.group()]})", svg)
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert view is not None, "matplotlib writes a view box"
    opening = (
        f'<svg viewBox="{view.group()[9:-1]}" width="{float(view[1]):.0f}" height="{float(view[2]):.0f}"'
        f' role="img" aria-labelledby="description">\n<desc id="description">{escape(one_line(description))}</desc>'
    )
    return re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1).rstrip()
