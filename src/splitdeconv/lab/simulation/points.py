"""One chunk of a sweep evaluated: columns of results, a reason in the place of numbers where a point fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.energy import Energies
from splitdeconv.lab.simulation.grid import ENERGIES, Chunk
from splitdeconv.lab.simulation.network import NetworkResult, simulate

Columns = dict[str, list[Any]]

COUNTS = ("compute_cycles", "stall_cycles", "move_cycles", "macs_issued", "macs_useful")
ACCESSES = ("registers", "links", "buffer_reads", "buffer_writes", "dram_reads", "dram_writes")
RESULTS = ("cycles", "ms", *COUNTS, *ACCESSES, "energy", "whole_cycles", "whole_ms", "whole_energy")
NO_ROOM = "no tile of some layer fits the buffers"


def evaluate_chunk(chunk: Chunk) -> Columns:
    """All points of a chunk. Never raises for what a point is: its row then says why.

    Points are evaluated at once; if that fails, one by one, so that a bad point costs only itself.
    """
    try:
        return _evaluate(chunk)
    except Exception as error:  # whatever a point raises is its result
        if chunk.points == 1:
            return failed(chunk, f"{type(error).__name__}: {error}")
    rows = []
    for number in range(chunk.points):
        one = {name: (found[number],) for name, found in chunk.numbers.items()}
        rows.append(evaluate_chunk(dataclasses.replace(chunk, numbers=one)))
    return {name: [value for row in rows for value in row[name]] for name in rows[0]}


def _evaluate(chunk: Chunk) -> Columns:
    arch, energies = _varied(chunk.arch, chunk.energies, chunk.choices, chunk.numbers)
    result = simulate(chunk.network, arch, energies, chunk.form, chunk.skip)
    if isinstance(result, str):
        return failed(chunk, result)
    numbers = {name: np.broadcast_to(found, (chunk.points,)) for name, found in _numbers(result).items()}
    fits = np.broadcast_to(result.fits(), (chunk.points,))
    columns = _labels(chunk)
    for name in RESULTS:
        found = numbers[name].tolist()
        columns[name] = [value if fit else None for value, fit in zip(found, fits, strict=True)]
    columns["reason"] = ["" if fit else NO_ROOM for fit in fits]
    return columns


def _varied(
    arch: Architecture, energies: Energies, choices: Mapping[str, Any], numbers: Mapping[str, Any]
) -> tuple[Architecture, Energies]:
    fields = {name: np.asarray(found) for name, found in numbers.items() if name not in ENERGIES}
    prices: dict[str, Any] = {
        name.partition(".")[2]: np.asarray(found) for name, found in numbers.items() if name in ENERGIES
    }
    return arch.varied(**fields, **choices), dataclasses.replace(energies, **prices)


def _numbers(result: NetworkResult) -> dict[str, Any]:
    counts, whole = result.counts(), result.counts(deconvs_only=False)
    per_ms = result.arch.clock_hz / 1e3
    found = {name: getattr(counts, name) for name in (*COUNTS, *ACCESSES)}
    found |= {"cycles": counts.cycles, "ms": counts.cycles / per_ms, "energy": result.energy()}
    whole_energy = result.energy(deconvs_only=False)
    return found | {"whole_cycles": whole.cycles, "whole_ms": whole.cycles / per_ms, "whole_energy": whole_energy}


def _labels(chunk: Chunk) -> Columns:
    """What every row of a chunk says about itself, varied numbers last."""
    said = {
        "network": chunk.network.name,
        "arch": chunk.arch.name,
        "form": chunk.form,
        "skip": str(chunk.skip),
        "energy_unit": chunk.energies.unit,
        **chunk.choices,
    }
    columns: Columns = {name: [value] * chunk.points for name, value in said.items()}
    return columns | {name: list(found) for name, found in chunk.numbers.items()}


def failed(chunk: Chunk, reason: str) -> Columns:
    """The rows of a chunk that could not be evaluated."""
    nothing: Columns = {name: [None] * chunk.points for name in RESULTS}
    return _labels(chunk) | nothing | {"reason": [reason] * chunk.points}
