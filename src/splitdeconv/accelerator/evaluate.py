"""A layer on an architecture: the array's counts, the DRAM traffic of its tiling, and the cost of moving maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from splitdeconv.accelerator import dot_product, regular_array, systolic, traffic
from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.counts import ArrayCounts, Counts, ceil_div
from splitdeconv.accelerator.sparsity import Skip, over_unique, useful_macs
from splitdeconv.accelerator.work import Convolution, LayerWork
from splitdeconv.deconv.weights import Array

COUNTERS: dict[str, Callable[[Convolution, Architecture, Skip], ArrayCounts]] = {
    "dot-product": dot_product.count,
    "regular-2d": regular_array.count,
    "systolic-weight-stationary": systolic.count,
    "systolic-output-stationary": systolic.count,
}
NO_SKIP = Skip()


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Counts of one layer, for one architecture or for an array of them.

    Attributes:
        counts: cycles and accesses.
        fits: where a tiling fits the buffers; where none does, the counts mean nothing.
    """

    counts: Counts
    fits: Array


@dataclass(frozen=True, slots=True, eq=False)
class _Moves:
    """Passes over the data, and what a layer writes; elements."""

    dram_reads: Array
    dram_writes: Array
    passed: Array
    passed_dram: Array


def evaluate(
    work: LayerWork,
    arch: Architecture,
    skip: Skip = NO_SKIP,
    in_on_chip: Array | bool = False,
    out_on_chip: Array | bool = False,
) -> Evaluation:
    """Counts of one layer.

    Args:
        work: the layer in one form.
        arch: one architecture, or many at once.
        skip: zeros that cost no cycles; the architecture must be able to (``arch.refuse_skip``).
        in_on_chip, out_on_chip: whether input and output stay in the maps buffer between layers; they then hold half
            of it.
    """
    shape = arch.shape()
    resident_in, resident_out = (np.broadcast_to(np.asarray(each), shape) for each in (in_on_chip, out_on_chip))
    in_reads, weight_reads, fits = _fetched(work, arch, resident_in | resident_out)
    arrays = [COUNTERS[arch.dataflow](conv, arch, skip) for conv in work.convolutions]
    moves = _moves(work, arch, resident_in, resident_out)
    fetched = np.where(resident_in, 0, in_reads)
    from_dram = fetched if arch.zero_insertion == "stored" else fetched * work.in_elements // work.stretched_elements
    wide = ceil_div(arch.sum_bits, arch.data_bits)
    sums = _sum(arrays, "sums") * wide
    written = np.where(resident_out, 0, work.out_elements)
    compute = _sum(arrays, "cycles")
    dram_reads, dram_writes = from_dram + weight_reads, moves.dram_writes
    needed = sum(useful_macs(conv) for conv in work.convolutions) if work.needed_macs is None else work.needed_macs
    counts = Counts(
        compute_cycles=compute,
        stall_cycles=_stalls(arch, compute, dram_reads + dram_writes),
        move_cycles=_move_cycles(arch, moves),
        macs_issued=_sum(arrays, "macs_issued"),
        macs_useful=np.broadcast_to(np.asarray(needed), shape),
        registers=_sum(arrays, "registers"),
        links=_sum(arrays, "links"),
        buffer_reads=_sum(arrays, "map_reads") + _sum(arrays, "weight_reads") + sums // 2 + written + moves.passed // 2,
        buffer_writes=_sum(arrays, "out_writes") + sums - sums // 2 + fetched + weight_reads + moves.passed // 2,
        dram_reads=dram_reads + moves.dram_reads,
        dram_writes=dram_writes + moves.passed_dram - moves.dram_reads,
    )
    return Evaluation(counts, fits)


def _sum(arrays: Sequence[ArrayCounts], name: str) -> Array:
    total: Array = sum((getattr(each, name) for each in arrays[1:]), start=np.asarray(getattr(arrays[0], name)))
    return total


def _fetched(work: LayerWork, arch: Architecture, resident: Array) -> tuple[Array, Array, Array]:
    """Elements of input (inserted zeros included) and weights that the tiling fetches, and whether it fits."""

    def fetch(maps_bytes: int, weights_bytes: int, data_bits: int, sum_bits: int, shared: int) -> tuple[int, ...]:
        room = 8 * maps_bytes // (2 if shared else 1)
        found = traffic.best(
            work,
            maps_bits=room,
            weights_bits=8 * weights_bytes,
            data_bits=data_bits,
            sum_bits=sum_bits,
            overlapped=arch.overlapped,
        )
        return found.in_reads, found.weight_reads, found.fits

    sizes = arch.maps_buffer_bytes, arch.weights_buffer_bytes, arch.data_bits, arch.sum_bits
    in_reads, weight_reads, fits = over_unique(fetch, *sizes, resident.astype(np.int64))
    return in_reads, weight_reads, fits != 0


def _moves(work: LayerWork, arch: Architecture, resident_in: Array, resident_out: Array) -> _Moves:
    """What zero insertion, rearrangement and crop cost, as the architecture does them."""
    zero = np.zeros(arch.shape(), np.int64)
    stretches = arch.zero_insertion == "stored" and work.stretched_elements > work.in_elements
    passed = zero + (work.in_elements + work.stretched_elements if stretches else 0)
    passed_dram = np.where(resident_in, 0, passed)
    reads = np.where(resident_in, 0, zero + (work.in_elements if stretches else 0))
    if arch.rearrangement == "pass" and work.moved_elements:
        passed = passed + work.moved_elements
        passed_dram = passed_dram + np.where(resident_out, 0, work.moved_elements)
        reads = reads + np.where(resident_out, 0, work.moved_elements // 2)
        written = zero + work.computed_elements
    elif arch.rearrangement == "dma" and work.run_elements:
        granule = arch.dram_granule_bytes * 8
        bursts = ceil_div(work.run_elements * arch.data_bits, granule)
        written = work.out_elements // work.run_elements * ceil_div(bursts * granule, arch.data_bits)
    else:
        written = zero + work.out_elements
    return _Moves(reads, np.where(resident_out, 0, written), passed, passed_dram)


def _dram_cycles(arch: Architecture, elements: Array) -> Array:
    seconds = elements * arch.data_bits / 8 / arch.dram_bytes_per_second
    return np.ceil(seconds * arch.clock_hz).astype(np.int64)


def _stalls(arch: Architecture, compute: Array, elements: Array) -> Array:
    """Cycles in which the array waits for the DRAM."""
    cycles = _dram_cycles(arch, elements)
    return np.maximum(0, cycles - compute) if arch.overlapped else cycles


def _move_cycles(arch: Architecture, moves: _Moves) -> Array:
    """Passes go at the width of the buffer's port, or of the DRAM if that is slower."""
    return np.maximum(ceil_div(moves.passed, arch.pass_elements), _dram_cycles(arch, moves.passed_dram))


def stay_on_chip(works: Sequence[LayerWork], arch: Architecture) -> list[Array]:
    """Which layers' outputs stay in the maps buffer until the next layer has read them.

    An output stays if it and the resident input of its own layer (in forms that stretch the next layer's input: that
    stretched input) fit in half of the maps buffer; the other half is for tiles. The last output goes to DRAM.
    """
    half = arch.maps_buffer_bytes * 8 // 2
    staying: list[Array] = []
    held: Array = np.zeros(arch.shape(), np.int64)
    for number, work in enumerate(works):
        if number + 1 == len(works):
            staying.append(np.zeros(arch.shape(), bool))
            break
        follower = works[number + 1]
        size = follower.stretched_elements if arch.zero_insertion == "stored" else work.out_elements
        elements = max(size, work.out_elements) * arch.data_bits
        stays = (held + elements <= half) & (follower.in_elements == work.out_elements)
        staying.append(np.broadcast_to(stays, arch.shape()))
        held = np.where(stays, elements, 0)
    return staying


def evaluate_network(works: Sequence[LayerWork], arch: Architecture, skip: Skip = NO_SKIP) -> list[Evaluation]:
    """All layers in order, with the maps that stay on chip between them."""
    staying = stay_on_chip(works, arch)
    entering = [np.zeros(arch.shape(), bool), *staying[:-1]]
    return [
        evaluate(work, arch, skip, resident_in, resident_out)
        for work, resident_in, resident_out in zip(works, entering, staying, strict=True)
    ]
