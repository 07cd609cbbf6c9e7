"""How far each ratio moves when one assumed number or choice is changed at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.energy import Energies
from splitdeconv.accelerator.layers import Network
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.deconv.weights import Array
from splitdeconv.lab.simulation.network import NetworkResult, simulate

DOT_SHAPES = ((8, 8), (8, 32), (32, 8), (32, 32))
PLANE_SHAPES = ((7, 32), (14, 16), (16, 14), (16, 16), (8, 28))


@dataclass(frozen=True, slots=True)
class Variation:
    """One change of what is assumed.

    Attributes:
        label: for tables.
        factors: numbers of the architecture that are multiplied.
        choices: other choices.
        energies: energies per action that are multiplied.
        shape: another array, or None.
    """

    label: str
    factors: Mapping[str, float] = field(default_factory=dict)
    choices: Mapping[str, Any] = field(default_factory=dict)
    energies: Mapping[str, float] = field(default_factory=dict)
    shape: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A form against the baseline.

    Attributes:
        speed_up: cycles of the baseline over cycles.
        saving: share of the baseline's energy that is saved.
    """

    speed_up: float
    saving: float


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A ratio as assumed, and under every variation that can be computed."""

    assumed: Ratio
    varied: Mapping[str, Ratio]

    @property
    def speed_up_range(self) -> tuple[float, float]:
        """Lowest and highest."""
        found = [self.assumed.speed_up, *(ratio.speed_up for ratio in self.varied.values())]
        return min(found), max(found)

    @property
    def saving_range(self) -> tuple[float, float]:
        """Lowest and highest."""
        found = [self.assumed.saving, *(ratio.saving for ratio in self.varied.values())]
        return min(found), max(found)


def variations(arch: Architecture) -> list[Variation]:
    """What is varied for an architecture: every assumed number by half and double, every assumed choice."""
    found = [Variation("as assumed")]
    numbers = {"maps buffer": "maps_buffer_bytes", "weights buffer": "weights_buffer_bytes"}
    numbers["DRAM bandwidth"] = "dram_bytes_per_second"
    numbers["DRAM burst"] = "dram_granule_bytes"
    for text, name in numbers.items():
        found += [Variation(f"{text} ×{factor:g}", factors={name: factor}) for factor in (0.5, 2)]
    for text, action in {"DRAM energy": "dram", "buffer energy": "buffer"}.items():
        found += [Variation(f"{text} ×{factor:g}", energies={action: factor}) for factor in (0.5, 2)]
    shapes = {"dot-product": DOT_SHAPES, "regular-2d": PLANE_SHAPES}.get(arch.dataflow, ((16, 16), (128, 128)))
    found += [Variation(f"array {rows}×{columns}", shape=(rows, columns)) for rows, columns in shapes]
    choices: dict[str, Sequence[Any]] = {"zero_insertion": ("stored",), "rearrangement": ("free", "pass")}
    if arch.dataflow == "dot-product":
        choices["stationary"] = ("weight", "output")
    if arch.dataflow == "regular-2d":
        choices["side_by_side"] = (True, False)
    choices["overlapped"] = (True, False)
    for name, options in choices.items():
        labels = {True: "yes", False: "no"}
        found += [
            Variation(f"{name} {labels.get(option, option)}", choices={name: option})
            for option in options
            if option != getattr(arch, name)
        ]
    return found


def ratios(form: NetworkResult, baseline: NetworkResult, deconvs_only: bool = True) -> tuple[Array, Array]:
    """Speed-up and share of energy saved, for each architecture that the results hold; NaN where tiles do not fit."""
    fits = form.fits() & baseline.fits()
    speed_up = baseline.counts(deconvs_only).cycles / form.counts(deconvs_only).cycles
    saving = 1 - form.energy(deconvs_only) / baseline.energy(deconvs_only)
    return np.where(fits, speed_up, np.nan), np.where(fits, saving, np.nan)


def sensitivity(
    network: Network, arch: Architecture, energies: Energies, form: tuple[str, Skip], baseline: tuple[str, Skip]
) -> Sensitivity | str:
    """The ratio of ``form`` over ``baseline`` (each a form and its skipping) for the network's deconvs.

    Returns:
        The ranges, or the reason why the form cannot be computed as assumed.
    """
    found: dict[str, Ratio] = {}
    for labels, varied_arch, varied_energies in _batches(arch, energies):
        results = [simulate(network, varied_arch, varied_energies, *each) for each in (form, baseline)]
        first, second = results
        if isinstance(first, str) or isinstance(second, str):
            if "as assumed" in labels:
                return first if isinstance(first, str) else str(second)
            continue
        speed_ups, savings = (np.broadcast_to(each, (len(labels),)) for each in ratios(first, second))
        for label, speed_up, saving in zip(labels, speed_ups, savings, strict=True):
            if not np.isnan(speed_up):
                found[label] = Ratio(float(speed_up), float(saving))
    return Sensitivity(found.pop("as assumed"), found)


def _batches(arch: Architecture, energies: Energies) -> list[tuple[list[str], Architecture, Energies]]:
    """Variations with the same choices at once: as one architecture whose numbers are arrays."""
    every = variations(arch)
    numeric = [each for each in every if not each.choices]
    batches = [([each.label for each in numeric], _scaled(arch, numeric), _priced(energies, numeric))]
    for each in every:
        if each.choices:
            batches.append(([each.label], arch.varied(**each.choices), energies))
    return batches


def _scaled(arch: Architecture, every: Sequence[Variation]) -> Architecture:
    names = sorted({name for each in every for name in each.factors})
    fields: dict[str, Any] = {
        name: np.array([float(getattr(arch, name)) * each.factors.get(name, 1) for each in every]) for name in names
    }
    sizes = [each.shape or (int(arch.rows), int(arch.columns)) for each in every]
    fields["rows"], fields["columns"] = (np.array(side) for side in zip(*sizes, strict=True))
    return arch.varied(**fields)


def _priced(energies: Energies, every: Sequence[Variation]) -> Energies:
    names = sorted({name for each in every for name in each.energies})
    fields: dict[str, Any] = {
        name: getattr(energies, name) * np.array([each.energies.get(name, 1.0) for each in every]) for name in names
    }
    return dataclasses.replace(energies, **fields)
