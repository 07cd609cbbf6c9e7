"""The Pareto plot of a sweep: time against energy, one panel for each network (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from splitdeconv.lab.simulation.points import Columns
from splitdeconv.lab.simulation.tables import pareto
from splitdeconv.report import plots

SHOWN = 4000
PLOTTED = ("network", "form", "skip", "ms", "energy", "energy_unit")


def plot_pareto(parts: Iterable[Columns], path: Path) -> None:
    """Write the plot; at most ``SHOWN`` points of each form are drawn, of the front all.

    Args:
        parts: the points.
        path: its suffix names the format (``.svg``, ``.png``, ``.pdf``).

    Raises:
        OutputError: it cannot be written there.
    """
    columns: Columns = {name: [] for name in PLOTTED}
    for part in parts:
        for name in PLOTTED:
            columns[name] += part[name]
    networks = list(dict.fromkeys(columns["network"]))
    done = np.array([value is not None for value in columns["ms"]])
    figure = Figure(figsize=(5 * len(networks), 4.2), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(networks)))
    for network, panel in zip(networks, panels, strict=True):
        here = done & (np.array(columns["network"]) == network)
        _panel(panel, columns, np.flatnonzero(here))
        panel.set_title(f"{network} (estimated)", parse_math=False)  # a file may be called "$w$"
    panels[0].legend(fontsize="small")
    plots.save(figure, path)


def _panel(panel: Any, columns: Mapping[str, list[Any]], here: Any) -> None:
    ms, energy = (np.array([columns[name][number] for number in here], float) for name in ("ms", "energy"))
    units = sorted({columns["energy_unit"][number] for number in here})
    labels = np.array([f"{columns['form'][number]}, skips {columns['skip'][number]}" for number in here])
    for label in dict.fromkeys(labels.tolist()):
        mine = np.flatnonzero(labels == label)
        shown = mine[:: max(1, len(mine) // SHOWN)]
        panel.scatter(ms[shown], energy[shown], s=6, label=label, rasterized=True)
    if len(units) == 1:  # energies of different sources are not compared
        front = pareto(ms, energy)
        panel.plot(ms[front], energy[front], color="black", linewidth=1, label="Pareto front")
    panel.set(xlabel="deconvs, ms", ylabel=f"energy of the deconvs, {' and '.join(units)}", xscale="log", yscale="log")
