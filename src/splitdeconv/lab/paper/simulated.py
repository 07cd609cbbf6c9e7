"""Estimated speed-up and energy on the modelled arrays: SD with each kind of skipping, NZP and FCN-Engine."""

from __future__ import annotations

from collections.abc import Mapping

from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.accelerator.sparsity import SKIPS, Skip
from splitdeconv.lab.paper.networks import ARTGAN, NAMES, TITLES, network
from splitdeconv.lab.paper.part import PaperPart, Progress, single
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Cell, Chart, Column, Result, Sheet
from splitdeconv.lab.simulation.forms import CROPPED, FULL, NATIVE, ZERO_INSERT
from splitdeconv.lab.simulation.records import Row, paper_name, rows

ARRAYS = {"dot-product-16x16": "fcn-engine-16x16", "regular-2d-32x7": "fcn-engine-32x7"}
ENGINE = "FCN-Engine (our model)"
WHOLE = "whole network, SD-WAsparse"
FORMS = tuple((form, skip) for form in (FULL, CROPPED) for skip in SKIPS.values())
_CHARTED = ("SD", "SD-Asparse", "SD-Wsparse", "SD-WAsparse", "SD cropped-WAsparse", ENGINE)
_PERCENT = 100.0

Found = Mapping[str, Mapping[str, Row]]  # form → network → its row


def simulated(progress: Progress) -> Result:
    """Tables and charts of both arrays."""
    sheets: list[Sheet] = []
    charts: list[Chart] = []
    for number, array in enumerate(ARRAYS):
        found = _of_array(array, progress, number)
        sheets += [_speed_ups(array, found), _savings(array, found), _ranges(array, found)]
        charts += [_chart(array, found)]
    return Result(tuple(sheets), tuple(charts), notes=_NOTES)


def _of_array(array: str, progress: Progress, number: int) -> Found:
    found: dict[str, dict[str, Row]] = {paper_name(*form): {} for form in ((ZERO_INSERT, Skip()), *FORMS)}
    found[ENGINE] = {}
    for place, name in enumerate(NAMES):
        progress(f"{TITLES[name]} on {array}", (number + place / len(NAMES)) / len(ARRAYS))
        for row in _rows(array, name, ((ZERO_INSERT, Skip()), *FORMS)):
            found[row.name()][name] = row
        (found[ENGINE][name],) = _rows(ARRAYS[array], name, ((NATIVE, Skip()),))
    return found


def _rows(array: str, name: str, forms: tuple[tuple[str, Skip], ...]) -> list[Row]:
    arch = load_architecture(array)
    return rows(network(name), arch, load_energies(arch.energy), forms, spread=True)


def _speed_ups(array: str, found: Found) -> Sheet:
    body: list[tuple[Cell, ...]] = [
        (form, *(_known(of[name], of[name].speed_up) for name in NAMES)) for form, of in found.items()
    ]
    body.append((WHOLE, *(found["SD-WAsparse"][name].whole_speed_up for name in NAMES)))
    low, high = _bounds("speed-up")
    note = f"The paper's range over its networks and variants, both arrays: {low:g}–{high:g}×."
    columns = (Column("form"), *(Column(TITLES[name], "×") for name in NAMES))
    caption = f"Speed-up over NZP, deconv layers, {array}"
    return Sheet(f"simulated-speed-up-{array}", caption, "estimated", columns, tuple(body), (note,))


def _savings(array: str, found: Found) -> Sheet:
    body: list[tuple[Cell, ...]] = [
        (form, *(_known(of[name], _PERCENT * of[name].saving) for name in NAMES)) for form, of in found.items()
    ]
    body.append((WHOLE, *(_PERCENT * found["SD-WAsparse"][name].whole_saving for name in NAMES)))
    low, high = _bounds("energy-saving")
    table = load_architecture(array).energy
    note = f"The paper's range: {low:g}–{high:g} %. Energies per action: {table}."
    columns = (Column("form"), *(Column(TITLES[name], "%", 1) for name in NAMES))
    caption = f"Energy saved against NZP, deconv layers, {array}"
    return Sheet(f"simulated-energy-{array}", caption, "estimated", columns, tuple(body), (note,))


def _ranges(array: str, found: Found) -> Sheet:
    """Every ratio with its range when one assumption changes at a time."""
    body: list[tuple[Cell, ...]] = []
    for form, of in found.items():
        for name, row in of.items():
            if row.spread is not None:
                fast, saved = row.spread.speed_up_range, row.spread.saving_range
                body.append((form, TITLES[name], row.speed_up, *fast, row.saving, *saved))
    heads = ("speed-up", "lowest", "highest", "energy saved", "lowest saved", "highest saved")
    columns = (Column("form"), Column("network"), *(Column(head) for head in heads))
    caption = f"Ratios with their ranges under one changed assumption at a time, {array}"
    return Sheet(f"simulated-ranges-{array}", caption, "estimated", columns, tuple(body), on_page=False)


def _chart(array: str, found: Found) -> Chart:
    series = {form: tuple(_known(found[form][name], found[form][name].speed_up) for name in NAMES) for form in _CHARTED}
    low, high = _bounds("speed-up")
    return Chart(
        f"simulated-{array}",
        f"Estimated speed-up over NZP, {array}",
        "estimated",
        "bars",
        tuple(TITLES[name] for name in NAMES),
        series,
        "times NZP's speed",
        {"the paper, lowest": low, "the paper, highest": high},
    )


def _known(row: Row, number: float) -> float | None:
    return None if isinstance(row.result, str) else number


def _bounds(name: str) -> tuple[float, float]:
    values = published(name).values
    return values["low"], values["high"]


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
)
