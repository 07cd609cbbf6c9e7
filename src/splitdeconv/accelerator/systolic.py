"""Systolic arrays, in SCALE-Sim's closed forms (compute cycles without memory stalls).

Source: A. Samajdar et al., SCALE-Sim: systolic CNN accelerator simulator, arXiv 1811.02883. A convolution is a matrix
product of ``pixels × products`` and ``products × channels`` with ``products = taps·Cin/groups``; each group runs alone.
"""

from __future__ import annotations

from math import prod

import numpy as np

from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.counts import ArrayCounts, ceil_div
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.accelerator.work import Convolution
from splitdeconv.deconv.weights import Array


def count(conv: Convolution, arch: Architecture, skip: Skip) -> ArrayCounts:
    """Cycles and accesses of one convolution; nothing can be skipped."""
    assert skip == Skip(), "callers refuse what an architecture cannot skip"
    pixels = conv.batch * conv.pixels
    products = prod(conv.kernel) * conv.in_channels // conv.groups
    channels = conv.out_channels // conv.groups
    fold = _weight_stationary if arch.dataflow == "systolic-weight-stationary" else _output_stationary
    cycles, map_reads, weight_reads, sums = fold(pixels, products, channels, arch)
    none = cycles * 0
    macs = none + pixels * products * conv.out_channels
    outputs = none + conv.out_elements
    groups = conv.groups
    return ArrayCounts(
        groups * cycles, macs, groups * map_reads, groups * weight_reads, outputs, groups * sums, 2 * macs, 2 * macs
    )


def _weight_stationary(
    pixels: int, products: int, channels: int, arch: Architecture
) -> tuple[Array, Array, Array, Array]:
    row_folds, column_folds = ceil_div(products, arch.rows), ceil_div(channels, arch.columns)
    cycles = row_folds * column_folds * (pixels + 2 * arch.rows + arch.columns - 2) - 1
    map_reads = pixels * products * column_folds
    weight_reads = np.broadcast_to(products * channels, cycles.shape)
    sums = pixels * channels * 2 * (row_folds - 1)
    return cycles, map_reads, weight_reads, sums


def _output_stationary(
    pixels: int, products: int, channels: int, arch: Architecture
) -> tuple[Array, Array, Array, Array]:
    row_folds, column_folds = ceil_div(pixels, arch.rows), ceil_div(channels, arch.columns)
    cycles = row_folds * column_folds * (products + arch.rows + arch.columns - 2) - 1
    map_reads = pixels * products * column_folds
    weight_reads = products * channels * row_folds
    return cycles, map_reads, weight_reads, cycles * 0
