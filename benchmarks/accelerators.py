"""Evaluations per second of the modelled processors on one core, and of a sweep on all cores.

    python -m benchmarks.accelerators            layer × architecture evaluations per second, one core
    python -m benchmarks.accelerators sweep      a sweep of a million points, all cores
    python -m benchmarks.accelerators paper      the six networks on both arrays, with sensitivity ranges

Run on an idle machine; the first prints its spread over repeats. The third measures nothing: it prints the tables of
``docs/assumptions.md``.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.accelerator.layers import network_names, read_network
from splitdeconv.accelerator.sparsity import SKIPS
from splitdeconv.lab.simulation import grid
from splitdeconv.lab.simulation.forms import CROPPED, FULL, NATIVE, ZERO_INSERT
from splitdeconv.lab.simulation.network import NetworkResult, simulate
from splitdeconv.lab.simulation.sensitivity import Sensitivity, ratios, sensitivity
from splitdeconv.lab.simulation.sweep import Parts, locally, run_sweep

ARRAYS = {"dot-product-16x16": "fcn-engine-16x16", "regular-2d-32x7": "fcn-engine-32x7"}
REPEATS = 7
POINTS = 4096


def evaluations() -> None:
    """Every network, form and skip of both arrays, at 4096 architectures of 64 shapes and 64 buffer sizes at once."""
    shapes = [(rows, columns) for rows in range(4, 36, 4) for columns in range(4, 36, 4)]
    rows, columns = (np.tile([shape[n] for shape in shapes], POINTS // len(shapes)) for n in (0, 1))
    buffers = np.repeat(np.linspace(64 * 1024, 1024 * 1024, POINTS // len(shapes)).astype(int), len(shapes))
    for name in ARRAYS:
        base = load_architecture(name)
        arch = base.varied(rows=rows, columns=columns, maps_buffer_bytes=buffers)
        energies = load_energies(base.energy)
        rates = []
        for repeat in range(REPEATS):
            start, done = time.perf_counter(), 0
            for path in network_names().values():
                network = read_network(path)  # new layers: nothing of an earlier repeat is in a cache of forms
                for form in (ZERO_INSERT, FULL, CROPPED):
                    result = simulate(network, arch, energies, form, SKIPS["both"])
                    assert isinstance(result, NetworkResult)
                    done += len(network.layers) * POINTS
            rates.append(done / (time.perf_counter() - start))
            if repeat == 0:
                print(f"{name}: first repeat, all caches empty: {rates[0]:,.0f} layer × architecture evaluations / s")
        rest = rates[1:]
        print(
            f"{name}: median {statistics.median(rest):,.0f} / s, {min(rest):,.0f}–{max(rest):,.0f}, {len(rest)} repeats"
        )


def million_points() -> None:
    """Six networks × two forms × two skips × 41,667 architectures, to CSV, on all cores."""
    arch = load_architecture("dot-product-16x16")
    varied = {
        "rows": tuple(range(4, 68, 4)),
        "columns": tuple(range(4, 68, 4)),
        "maps_buffer_bytes": tuple(range(64 * 1024, 1024 * 1024, 96 * 1024)),
        "dram_bytes_per_second": tuple(float(rate) * 1e9 for rate in range(4, 21)),
    }
    networks = [read_network(path) for path in network_names().values()]
    forms = [(form, SKIPS[skip]) for form in (ZERO_INSERT, FULL) for skip in ("none", "both")]
    chunks = list(grid.chunks(networks, [(arch, load_energies(arch.energy))], forms, varied))
    jobs = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with Parts(Path(folder) / "sweep.csv") as parts:
            rows, failures = run_sweep(chunks, parts, Path(folder) / "sweep.csv", locally(jobs), lambda _: None)
        seconds = time.perf_counter() - start
    print(
        f"{rows:,} points ({failures:,} do not fit) in {seconds:.1f} s on {jobs} processes: {rows / seconds:,.0f} / s"
    )


def paper() -> None:
    """Speed-up and energy saved over NZP, deconvs only, with the range under one changed assumption at a time."""
    for array, engine in ARRAYS.items():
        print(f"\n| {array} | " + " | ".join(network_names()) + " |")
        print("|---|" + "---|" * len(network_names()))
        for label, cells in _rows(array, engine):
            print(f"| {label} | " + " | ".join(cells) + " |")


def _rows(array: str, engine: str) -> Iterator[tuple[str, list[str]]]:
    suffixes = {"none": "", "activations": "-Asparse", "weights": "-Wsparse", "both": "-WAsparse"}
    for title, form in (("SD", FULL), ("SD cropped", CROPPED)):
        for skip, suffix in suffixes.items():
            yield title + suffix, [_cell(array, name, form, skip) for name in network_names()]
    yield "FCN-Engine (our model)", [_cell(engine, name, NATIVE, "none") for name in network_names()]
    yield "whole network, SD-WAsparse", [_whole(array, name) for name in network_names()]


def _cell(array: str, name: str, form: str, skip: str) -> str:
    arch, network = load_architecture(array), read_network(network_names()[name])
    energies = load_energies(arch.energy)
    found = sensitivity(network, arch, energies, (form, SKIPS[skip]), (ZERO_INSERT, SKIPS["none"]))
    assert isinstance(found, Sensitivity)
    (slow, fast), (least, most) = found.speed_up_range, found.saving_range
    return (
        f"{found.assumed.speed_up:.2f}× ({slow:.2f}–{fast:.2f}), "
        f"{100 * found.assumed.saving:.1f} % ({100 * least:.1f}–{100 * most:.1f})"
    )


def _whole(array: str, name: str) -> str:
    arch, network = load_architecture(array), read_network(network_names()[name])
    energies = load_energies(arch.energy)
    results = [
        simulate(network, arch, energies, *each) for each in ((FULL, SKIPS["both"]), (ZERO_INSERT, SKIPS["none"]))
    ]
    first, second = results
    assert isinstance(first, NetworkResult)
    assert isinstance(second, NetworkResult)
    speed_up, saving = ratios(first, second, deconvs_only=False)
    return f"{float(speed_up):.2f}×, {100 * float(saving):.1f} %"


if __name__ == "__main__":
    {"": evaluations, "sweep": million_points, "paper": paper}[(sys.argv[1:] or [""])[0]]()
