"""A benchmark as a picture: for each layer, how much faster each kind of form is than native."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from splitdeconv.comparison import EQUAL_WORK, NATIVE, ZERO_INSERT, BenchRecord, LayerTimes
from splitdeconv.errors import OutputError
from splitdeconv.report import load_pyplot

# Bars of one layer: legend and colour (of Okabe and Ito's palette, which the colour-blind can tell apart).
_BARS = {"zero_insert": "#999999", "best lowering": "#0072b2", "equal-work convolution": "#e69f00"}
_WIDTH = 0.27  # of a bar; three of them and a gap make one layer


def draw(records: Sequence[BenchRecord], path: Path) -> None:
    """One panel for each record: native's time over that of each form, on a logarithmic axis; native is the line at 1.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the file cannot be written.
    """
    pyplot = load_pyplot()
    widest = max((len(record.layers) for record in records), default=1)
    size = (max(6.0, 0.75 * widest + 2.0), 3.6 * len(records))
    figure, panels = pyplot.subplots(len(records), 1, figsize=size, squeeze=False, layout="constrained")
    for panel, record in zip(panels[:, 0], records, strict=True):
        _panel(panel, record)
    try:
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        pyplot.close(figure)


def _panel(panel: Any, record: BenchRecord) -> None:
    for number, (label, colour) in enumerate(_BARS.items()):
        heights = [speed_ups(layer)[label] for layer in record.layers]
        places = [index + (number - 1) * _WIDTH for index in range(len(heights))]
        known = [(place, height) for place, height in zip(places, heights, strict=True) if height is not None]
        if known:
            middles, tops = zip(*known, strict=True)
            panel.bar(middles, [top - 1 for top in tops], _WIDTH, bottom=1, label=label, color=colour)
    panel.axhline(1.0, color="black", linewidth=1)
    panel.set_yscale("log")
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    panel.set_yticks(ticks, [f"{tick:g}×" for tick in ticks])
    panel.minorticks_off()
    panel.set_ylabel("speed, native = 1")
    names = [f"{layer.name}\n{layer.deconv.describe()}" for layer in record.layers]
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    versions = ", ".join(f"{name} {version}" for name, version in record.environment.versions.items())
    panel.set_title(f"{record.environment.target} ({versions}), {record.environment.processor}", fontsize=9)
    panel.legend(fontsize=7)


def speed_ups(layer: LayerTimes) -> dict[str, float | None]:
    """Native's time over that of each kind of form; None where one of them does not run."""
    best = layer.best
    found = [
        layer.ratio(NATIVE, ZERO_INSERT),
        None if best is None else layer.ratio(NATIVE, best),
        layer.ratio(NATIVE, EQUAL_WORK),
    ]
    return dict(zip(_BARS, found, strict=True))
