"""A benchmark as a picture: for each layer, how much faster each kind of form is than native."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splitdeconv.report import plots
from splitdeconv.results.bench import EQUAL_WORK, NATIVE, ZERO_INSERT, BenchRecord, LayerTimes

KINDS_OF_FORM = ("best lowering", "zero insertion", "convolution of equal work")
_ROW, _AROUND = 46, 92  # pixels: of a layer, and of axis, title and legend
_NAME_LENGTH = 58
_BACKGROUND = {"facecolor": plots.PAPER, "edgecolor": "none", "pad": 1}  # no line crosses a name
_TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def figure(records: Sequence[BenchRecord], *, titled: bool = False) -> Any:
    """One panel for each record: native's time over that of each form, on a logarithmic axis; native is the line at 1.

    Args:
        titled: write above each panel where it was measured.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    heights = [_AROUND + _ROW * len(record.layers) for record in records]
    with plots.drawing(sum(heights)) as made:
        panels = made.subplots(len(records), 1, squeeze=False, height_ratios=heights)[:, 0]
        for panel, record in zip(panels, records, strict=True):
            _panel(panel, record)
            if titled:
                panel.set_title(_where(record), loc="left", pad=30)
    return made


def speed_ups(layer: LayerTimes) -> dict[str, float | None]:
    """Native's time over that of each kind of form; None where one of them does not run."""
    best = layer.best
    found = [
        None if best is None else layer.ratio(NATIVE, best),
        layer.ratio(NATIVE, ZERO_INSERT),
        layer.ratio(NATIVE, EQUAL_WORK),
    ]
    return dict(zip(KINDS_OF_FORM, found, strict=True))


def _panel(panel: Any, record: BenchRecord) -> None:
    ratios = [speed_ups(layer) for layer in record.layers]
    for kind, series in zip(KINDS_OF_FORM, (plots.SERIES[0], plots.SERIES[2], plots.SERIES[1]), strict=True):
        known = [(ratio, row) for row, found in enumerate(ratios) if (ratio := found[kind]) is not None]
        hollow = "none" if series.marker == "D" else series.colour
        panel.scatter(
            [ratio for ratio, _ in known],
            [row for _, row in known],
            label=kind,
            marker=series.marker,
            s=60,
            facecolor=hollow if series.marker != "x" else series.colour,
            **({} if series.marker == "x" else {"edgecolor": series.colour}),
            zorder=3,
        )
    for row, (layer, found) in enumerate(zip(record.layers, ratios, strict=True)):
        place = {"xycoords": ("axes fraction", "data"), "va": "bottom", "bbox": _BACKGROUND}
        panel.annotate(_row_title(layer, found), (0, row - 0.24), **place)
    panel.axvline(1.0, color=plots.INK, linewidth=1.2)
    panel.set_xscale("log")
    low, high = _limits(ratios)
    ticks = [tick for tick in _TICKS if low <= tick <= high]
    panel.set_xticks(ticks, [f"{tick:g}×" for tick in ticks])
    panel.set_xlim(low, high)
    panel.minorticks_off()
    panel.set_xlabel("speed, native = 1")
    panel.set_yticks(range(len(ratios)), [""] * len(ratios))
    panel.tick_params(axis="y", length=0)
    panel.set_ylim(len(ratios) - 0.5, -0.85)
    panel.spines["left"].set_visible(False)
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, handletextpad=0.2, columnspacing=1.2)


def _row_title(layer: LayerTimes, found: dict[str, float | None]) -> str:
    best = found[KINDS_OF_FORM[0]]
    name = plots.shortened(f"{layer.name}  {layer.deconv.describe()}", _NAME_LENGTH)
    return f"{name}: {best:.2f}×" if best is not None else f"{name}: no lowering runs"


def _limits(ratios: Sequence[dict[str, float | None]]) -> tuple[float, float]:
    """The axis, with all ratios and 1 in it."""
    known = [ratio for found in ratios for ratio in found.values() if ratio is not None]
    return min([0.8, *known]) / 1.15, max([1.25, *known]) * 1.15


def _where(record: BenchRecord) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record.environment.versions.items())
    return f"{record.environment.target} ({versions}), {record.environment.processor}"
