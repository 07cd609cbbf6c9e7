"""What a layer costs in actions: cycles, multiply-accumulates, accesses at each memory level. No energy here."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from splitdeconv.deconv.weights import Array


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Counts of one layer; every field is an integer array, with an entry for each architecture evaluated at once.

    Accesses are in elements of the data type; wider partial sums count as several.

    Attributes:
        compute_cycles: in which the array works.
        stall_cycles: in which it waits for the DRAM.
        move_cycles: of passes over the data (rearrangement, crop, zero insertion), 0 where writes are strided.
        macs_issued: multiply-accumulates done, those with a zero operand included; idle multipliers are not counted.
        macs_useful: of these, those with two operands that are not zero by construction or training.
        registers: reads and writes of registers in the array.
        links: elements handed from PE to PE.
        buffer_reads, buffer_writes: of the on-chip buffers.
        dram_reads, dram_writes: elements, what bursts fetch or write in vain included.
    """

    compute_cycles: Array
    stall_cycles: Array
    move_cycles: Array
    macs_issued: Array
    macs_useful: Array
    registers: Array
    links: Array
    buffer_reads: Array
    buffer_writes: Array
    dram_reads: Array
    dram_writes: Array

    @property
    def cycles(self) -> Array:
        """All cycles."""
        return self.compute_cycles + self.stall_cycles + self.move_cycles

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Counts)))

    def as_integers(self) -> dict[str, int]:
        """By name, for a single architecture."""
        return {each.name: int(getattr(self, each.name)) for each in fields(Counts)}


def no_counts() -> Counts:
    """All zero."""
    zero = np.zeros((), np.int64)
    return Counts(*(zero for _ in fields(Counts)))


@dataclass(frozen=True, slots=True, eq=False)
class ArrayCounts:
    """What happens between the buffers and the array in one convolution; see :class:`Counts`.

    Attributes:
        sums: accesses of partial sums in a buffer, in sums (not elements).
    """

    cycles: Array
    macs_issued: Array
    map_reads: Array
    weight_reads: Array
    out_writes: Array
    sums: Array
    registers: Array
    links: Array


def ceil_div(dividend: Array | int, divisor: Array | int) -> Array:
    """Quotient, rounded up, of whole numbers."""
    return np.asarray(-(-np.asarray(dividend) // np.asarray(divisor)))
