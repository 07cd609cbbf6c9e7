"""Estimated speed-up and energy on the modelled arrays: SD with each kind of skipping, NZP and FCN-Engine."""

from __future__ import annotations

from collections.abc import Mapping

from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.accelerator.sparsity import SKIPS, Skip
from splitdeconv.lab.paper.networks import ARTGAN, NAMES, TITLES, network
from splitdeconv.lab.paper.part import PaperPart, Progress, single
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Chart, Result, grouped
from splitdeconv.lab.simulation.forms import CROPPED, FULL, NATIVE, ZERO_INSERT
from splitdeconv.lab.simulation.records import Row, SimulatedGain, paper_name, rows
from splitdeconv.report.page import Cell, Column, Header, Table

ARRAYS = {"dot-product-16x16": "fcn-engine-16x16", "regular-2d-32x7": "fcn-engine-32x7"}
ENGINE = "FCN-Engine (our model)"
WHOLE = "whole network, SD-WAsparse"
FORMS = tuple((form, skip) for form in (FULL, CROPPED) for skip in SKIPS.values())
_CHARTED = ("SD", "SD-Asparse", "SD-Wsparse", "SD-WAsparse", "SD cropped-WAsparse", ENGINE)


Gains = Mapping[str, Mapping[str, SimulatedGain]]  # form → network → its gain; absent where the array refuses the form


def simulated(progress: Progress) -> dict[str, Gains]:
    """Of both arrays, by name."""
    return {array: _of_array(array, progress, number) for number, array in enumerate(ARRAYS)}


def _of_array(array: str, progress: Progress, number: int) -> Gains:
    found: dict[str, dict[str, SimulatedGain]] = {paper_name(*form): {} for form in ((ZERO_INSERT, Skip()), *FORMS)}
    found[ENGINE] = {}
    for place, name in enumerate(NAMES):
        progress(f"{TITLES[name]} on {array}", (number + place / len(NAMES)) / len(ARRAYS))
        named = [(row.name(), row) for row in _rows(array, name, ((ZERO_INSERT, Skip()), *FORMS))]
        named += [(ENGINE, row) for row in _rows(ARRAYS[array], name, ((NATIVE, Skip()),))]
        for form, row in named:
            if row.gain is not None:
                found[form][name] = row.gain
    return found


def _rows(array: str, name: str, forms: tuple[tuple[str, Skip], ...]) -> list[Row]:
    arch = load_architecture(array)
    return rows(network(name), arch, load_energies(arch.energy), forms, spread=True)


def shown(found: Mapping[str, Gains]) -> Result:
    """Tables and charts of both arrays."""
    tables = {}
    for array, gains in found.items():
        tables[f"simulated-speed-up-{array}"] = _speed_ups(array, gains)
        tables[f"simulated-energy-{array}"] = _savings(array, gains)
    charts = {f"simulated-{array}": _chart(array, gains) for array, gains in found.items()}
    files = {f"simulated-ranges-{array}": _ranges(array, gains) for array, gains in found.items()}
    return Result(tables, charts, notes=_NOTES, files=files)


def _speed_ups(array: str, found: Gains) -> Table:
    low, high = published("speed-up").values.values()
    note = f"The paper's range over its networks and variants, both arrays: {low:g}–{high:g}×."
    rows = _by_network(found, "speed_up", 1.0)
    columns: tuple[Header, ...] = ("form", *(Column(TITLES[name], "×") for name in NAMES))
    return Table(f"Speed-up over NZP, deconv layers, {array}", columns, rows, (note,), "estimated")


def _savings(array: str, found: Gains) -> Table:
    low, high = published("energy-saving").values.values()
    energies = load_architecture(array).energy
    note = f"The paper's range: {low:g}–{high:g} %. Energies per action: {energies}."
    rows = _by_network(found, "energy_saving", 100.0)
    columns: tuple[Header, ...] = ("form", *(Column(TITLES[name], "%", 1) for name in NAMES))
    return Table(f"Energy saved against NZP, deconv layers, {array}", columns, rows, (note,), "estimated")


def _by_network(found: Gains, key: str, factor: float) -> tuple[tuple[Cell, ...], ...]:
    """A row for each form, and one for whole networks."""
    rows = {form: _numbers(of, key, factor) for form, of in found.items()}
    rows[WHOLE] = _numbers(found["SD-WAsparse"], f"whole_{key}", factor)
    return tuple((form, *numbers) for form, numbers in rows.items())


def _numbers(of: Mapping[str, SimulatedGain], key: str, factor: float = 1.0) -> list[float | None]:
    return [factor * getattr(of[name], key) if name in of else None for name in NAMES]


def _ranges(array: str, found: Gains) -> Table:
    """Every ratio with its range when one assumption changes at a time."""
    body: list[tuple[Cell, ...]] = []
    for form, of in found.items():
        for name, gain in of.items():
            if gain.spread is not None:
                fast, saved = gain.spread.speed_up_range, gain.spread.saving_range
                body.append((form, TITLES[name], gain.speed_up, *fast, gain.energy_saving, *saved))
    heads = ("form", "network", "speed-up", "lowest", "highest", "energy saved", "lowest saved", "highest saved")
    caption = f"Ratios with their ranges under one changed assumption at a time, {array}"
    return Table(caption, heads, tuple(body), kind="estimated")


def _chart(array: str, found: Gains) -> Chart:
    series = {form: _numbers(found[form], "speed_up") for form in _CHARTED}
    groups = grouped([TITLES[name] for name in NAMES], series, published("speed-up").values)
    return Chart(f"Estimated speed-up over NZP, {array}", "estimated", groups, "times NZP's speed")


_NOTES = (
    "The arrays' configuration (16×16 multipliers, 32×7 PEs, 8 bits, 256 KB and 416 KB, 800 MHz) is recollected, not "
    "confirmed; the CSV files have the range of each ratio when one assumption changes at a time.",
    "Dot-production array: dense SD lies below the paper's range where 5×5 and 3×3 filters are extended with "
    "zeros; with "
    "these zeros skipped it lies inside. Above the range are networks whose last layer has 3 output channels, of which "
    "NZP fills 3 of 16 columns and SD 12.",
    "Regular 2-D array: most ratios lie below the range, because 32×7 PEs hold one channel of one map and the "
    "split makes "
    "the maps smaller; mapping several small maps side by side brings them up.",
    "FCN-Engine is our model of it: only its abstract is known.",
    ARTGAN,
)

PART: PaperPart = single(
    "simulated",
    "Simulated speed-up and energy",
    "The deconv layers on models of the two processors that the paper simulates, against NZP on the same processor. "
    "Nothing here was run; the assumptions page of the documentation has every number that the models rest on.",
    "estimated",
    simulated,
    Mapping[str, Gains],
    shown,
)
