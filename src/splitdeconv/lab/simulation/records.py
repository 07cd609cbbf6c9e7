"""Results as plain dictionaries: for ``--json``, for tables, for the rows of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from splitdeconv import codec
from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.counts import Counts
from splitdeconv.accelerator.energy import Energies
from splitdeconv.accelerator.layers import Network
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.lab.simulation.forms import CROPPED, FULL, NATIVE, ZERO_INSERT
from splitdeconv.lab.simulation.network import NetworkResult, simulate
from splitdeconv.lab.simulation.sensitivity import Sensitivity, ratios, sensitivity

BASELINE = (ZERO_INSERT, Skip())


@dataclass(frozen=True, slots=True)
class SimulatedGain:
    """What a form gains over the baseline.

    Attributes:
        speed_up, energy_saving: of the deconvs only; ``whole_speed_up``, ``whole_energy_saving``: of all layers.
        spread: of the deconvs under varied assumptions, if asked for.
    """

    speed_up: float
    energy_saving: float
    whole_speed_up: float
    whole_energy_saving: float
    spread: Sensitivity | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One form with one kind of skipping, against the baseline.

    Attributes:
        form, skip: which.
        result: counts, or the reason why there are none.
        gain: over the baseline; None where there are no counts.
    """

    form: str
    skip: Skip
    result: NetworkResult | str
    gain: SimulatedGain | None = None

    def name(self) -> str:
        """The paper's name where it has one."""
        return paper_name(self.form, self.skip)


def paper_name(form: str, skip: Skip) -> str:
    """``NZP``, ``SD-WAsparse`` and so on; forms that the paper does not have keep their own names."""
    suffix = {"none": "", "activations": "-Asparse", "weights": "-Wsparse", "both": "-WAsparse"}[str(skip)]
    known = {ZERO_INSERT: "NZP", FULL: "SD", CROPPED: "SD cropped", NATIVE: "native deconv"}
    return known.get(form, form) + suffix


def rows(
    network: Network, arch: Architecture, energies: Energies, wanted: Sequence[tuple[str, Skip]], spread: bool
) -> list[Row]:
    """Every wanted form against zero insertion without skipping, on the same architecture."""
    baseline = simulate(network, arch, energies, *BASELINE)
    found = []
    for form, skip in wanted:
        result = simulate(network, arch, energies, form, skip)
        if isinstance(result, str) or isinstance(baseline, str):
            found.append(Row(form, skip, result))
            continue
        (speed_up, saving), (whole_speed_up, whole_saving) = (ratios(result, baseline, only) for only in (True, False))
        moved = sensitivity(network, arch, energies, (form, skip), BASELINE) if spread else None
        numbers = float(speed_up), float(saving), float(whole_speed_up), float(whole_saving)
        gain = SimulatedGain(*numbers, None if isinstance(moved, str) else moved)
        found.append(Row(form, skip, result, gain))
    return found


def network_record(network: Network, arch: Architecture, energies: Energies, found: Sequence[Row]) -> dict[str, Any]:
    """Everything about one network on one architecture."""
    return {
        "network": network.name,
        "title": network.title,
        "source": network.source,
        "notes": list(network.notes),
        "architecture": architecture_record(arch, energies),
        "kind": "estimated",
        "baseline": paper_name(*BASELINE),
        "rows": [_row(row, energies) for row in found],
    }


def architecture_record(arch: Architecture, energies: Energies) -> dict[str, Any]:
    """Every number and choice with its source."""
    stated = {key: {"value": each.text, "source": each.source} for key, each in arch.stated.items()}
    priced = {key: {"value": each.text, "source": each.source} for key, each in energies.stated.items()}
    return {"name": arch.name, "title": arch.title, "dataflow": arch.dataflow, "stated": stated, "energy": priced}


def _row(row: Row, energies: Energies) -> dict[str, Any]:
    base: dict[str, Any] = {"form": row.form, "skip": str(row.skip), "name": row.name()}
    if isinstance(row.result, str):
        return {**base, "refused": row.result}
    gain = codec.to_object(row.gain)
    spread = gain.pop("spread")
    if row.gain is not None and row.gain.spread is not None:
        ranges = {"speed_up_range": row.gain.spread.speed_up_range, "saving_range": row.gain.spread.saving_range}
        gain |= {**ranges, "varied": spread["varied"]}
    return {
        **base,
        **gain,
        "deconvs": _totals(row.result, energies, deconvs_only=True),
        "whole": _totals(row.result, energies, deconvs_only=False),
        "layers": [_layer(row.result, number) for number in range(len(row.result.layers))],
    }


def _totals(result: NetworkResult, energies: Energies, deconvs_only: bool) -> dict[str, Any]:
    counts = result.counts(deconvs_only)
    return {
        **counts_record(counts, result.arch),
        "energy": float(result.energy(deconvs_only)),
        "energy_unit": energies.unit,
    }


def counts_record(counts: Counts, arch: Architecture) -> dict[str, Any]:
    """Counts of a single architecture, with time and utilisation."""
    cycles = int(counts.cycles)
    multipliers = int(arch.rows * arch.columns)
    return {
        **counts.as_integers(),
        "cycles": cycles,
        "ms": cycles / float(arch.clock_hz) * 1e3,
        "utilisation": float(counts.macs_useful) / (cycles * multipliers) if cycles else 0.0,
    }


def _layer(result: NetworkResult, number: int) -> dict[str, Any]:
    found = result.layers[number]
    reason = {"reason": found.reason} if found.reason else {}
    return {
        "name": found.layer.name,
        "kind": found.layer.kind,
        "what": found.layer.spec.describe(),
        "form": found.form,
        **reason,
        **counts_record(found.evaluation.counts, result.arch),
        "energy": float(found.energy),
    }
