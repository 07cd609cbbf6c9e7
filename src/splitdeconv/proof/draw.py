"""Values for a trial: sizes that take a moment, weights and inputs whose sums are exact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from splitdeconv.deconv.requantised import most_summed
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Quantisation, Weights
from splitdeconv.deconv.written import beside_shape, is_requantised

PROOF_MACS = 20_000_000  # of the definition in one run; sizes are cut down to it
INTEGERS_BELOW = {"float32": 2**24, "float64": 2**53}  # whole numbers that the type holds exactly
LARGEST_SUM = 2**23  # float32 holds whole numbers up to 2²⁴; half of it leaves room for the bias
SMALLEST_EXPONENT = -2  # of drawn weight scales
LARGEST_WEIGHT = 63  # two products of it with 255 stay below 2¹⁵
HALF_PRODUCTS = 4  # of a sum, on average: of numbers below 256, and float16 holds whole numbers up to 2¹¹
# Kernels of hybrid deconvs scale the input by its largest value over 127, or by its range over 255. An input of 0 and
# this is whole in both.
HYBRID_INPUT = 127 * 255
HYBRID_WEIGHT = 3
HYBRID_SUM = 64  # of the weights' magnitudes for an output, on average; with twice that, 24 bits hold all sums


def cut_down(deconv: Deconv) -> Deconv:
    """The deconv over batch 1 and sizes small enough for a proof, yet with border and inside."""
    sizes = [size or 7 for size in deconv.in_sizes]
    taps = math.prod(deconv.kernel_shape)
    while taps * math.prod(sizes) > PROOF_MACS and max(sizes) > 3:
        largest = sizes.index(max(sizes))
        sizes[largest] = max(3, sizes[largest] * 2 // 3)
    for number, axis in enumerate(deconv.axes):
        while axis.out_size_of(sizes[number]) < 1:
            sizes[number] += 1
    return deconv.with_in_sizes(1, sizes)


def integers(deconv: Deconv, seed: int) -> tuple[Array, Weights]:
    """Input and weights of whole numbers whose sums are exact in the deconv's type."""
    products = deconv.weights_shape[0] // deconv.groups * _products(deconv)
    largest = max(1, min(8, math.isqrt(INTEGERS_BELOW[deconv.dtype] // (products + 1))))
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return rng.integers(-largest, largest + 1, shape).astype(deconv.dtype)

    x = draw(deconv.batch or 1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes))
    kernel = _separable_kernel(deconv, rng) if deconv.separable else draw(*deconv.weights_shape)
    bias = draw(deconv.out_channels) if deconv.has_bias else None
    return x, Weights(kernel, bias)


def beside(deconv: Deconv, seed: int) -> tuple[Array, ...]:
    """The map beside a stretched one, of small whole numbers; nothing where there is none."""
    if deconv.written_out is None or not deconv.written_out.beside:
        return ()
    shape = [size or 1 for size in beside_shape(deconv, "NCHW")]
    return (np.random.default_rng(seed + 2).integers(-1, 2, shape).astype(deconv.dtype),)


def _products(deconv: Deconv) -> int:
    """Products of one output and one input channel; as many as could make up the largest partial sum of any form.

    Sums over an upsampling's copies are of up to ``K`` weights on each axis, and differences of two pixels.
    """
    taps = math.prod(axis.kernel for axis in deconv.axes)
    if deconv.written_out is None or deconv.written_out.stretch == "zeros":
        return taps
    return taps * math.prod(2 * kernel for kernel in deconv.written_out.kernel)


def _separable_kernel(deconv: Deconv, rng: np.random.Generator) -> Array:
    """A filter for all channels that is the product of a vector for each axis, of small whole numbers but 0."""
    vectors = [rng.choice([-2.0, -1.0, 1.0, 2.0], axis.kernel) for axis in deconv.axes]
    one = reduce(np.multiply.outer, vectors).astype(deconv.dtype)
    return np.ascontiguousarray(np.broadcast_to(one, deconv.kernel_shape))


def drawn_weights(deconv: Deconv, like: Weights, seed: int) -> Weights:
    """Weights of the site's types and granularity whose sums float32 holds; output scales that use the whole range.

    Where filters are quantised anew, weights so small that their sums fit, so that nothing is rounded.
    """
    quant = like.quant
    assert quant is not None, "a quantised site has its scales"
    if quant.is_hybrid:
        return _hybrid_weights(deconv, like, seed)
    if quant.is_half:
        return _half_weights(deconv, like, quant, seed)
    rng = np.random.default_rng(seed)
    weight = max(1, LARGEST_WEIGHT // most_summed(deconv)) if is_requantised(deconv) else LARGEST_WEIGHT
    lowest, highest = (-LARGEST_WEIGHT, LARGEST_WEIGHT) if like.kernel.dtype == np.int8 else (0, 255)
    zero = int(np.clip(np.max(quant.w_zero, initial=-128), lowest, highest))
    products = deconv.in_channels // deconv.groups * math.prod(axis.kernel for axis in deconv.axes)
    largest = LARGEST_SUM * 2.0**SMALLEST_EXPONENT if quant.by_input else LARGEST_SUM
    share = min(1.0, largest / (products * 255 * LARGEST_WEIGHT))
    offsets = rng.integers(-weight, weight + 1, deconv.weights_shape)
    offsets = np.where(rng.random(deconv.weights_shape) < share, offsets, 0)
    kernel = np.clip(zero + offsets, lowest, highest).astype(like.kernel.dtype)
    exponents = rng.integers(SMALLEST_EXPONENT, 1, quant.w_scale.shape)
    spread = 37 * weight / LARGEST_WEIGHT
    deviation = 74 * spread * math.sqrt(max(1.0, products * share))  # of a sum of products of the two drawn ranges
    values = replace(
        quant,
        x_scale=np.float32(0.5),
        w_scale=np.asarray(2.0**exponents, np.float32),
        w_zero=np.full(quant.w_zero.shape, zero, np.int32),
        y_scale=np.float32(2.0 ** (math.ceil(math.log2(deviation / 64)) - 1)),
        **_drawn_zeros(quant, rng),
    )
    bias = None
    if like.bias is not None:
        whole = like.bias.dtype if like.bias.dtype.kind == "i" else np.int32
        bias = rng.integers(-4096, 4097, deconv.out_channels).astype(np.float32 if quant.by_input else whole)
    return Weights(kernel, bias, values)


def _half_weights(deconv: Deconv, like: Weights, quant: Quantisation, seed: int) -> Weights:
    """Few weights of 1 or −1, so that float16 holds the products and what they sum up to, in whatever order."""
    rng, half, limits = np.random.default_rng(seed), np.float16, np.iinfo(like.kernel.dtype)
    zero = int(np.clip(np.max(quant.w_zero, initial=limits.min), limits.min + 1, limits.max - 1))
    products = deconv.in_channels // deconv.groups * math.prod(axis.kernel for axis in deconv.axes)
    ones = rng.choice([-1, 1], deconv.weights_shape)
    offsets = np.where(rng.random(deconv.weights_shape) < HALF_PRODUCTS / products, ones, 0)
    values = replace(
        quant,
        x_scale=half(0.5),
        w_scale=np.asarray(2.0 ** rng.integers(SMALLEST_EXPONENT, 1, quant.w_scale.shape), half),
        w_zero=np.full(quant.w_zero.shape, zero, np.int32),
        y_scale=half(1.0),
        **_drawn_zeros(quant, rng),
    )
    bias = None if like.bias is None else rng.integers(-64, 65, deconv.out_channels).astype(half)
    return Weights((zero + offsets).astype(like.kernel.dtype), bias, values)


def _hybrid_weights(deconv: Deconv, like: Weights, seed: int) -> Weights:
    """Few small whole numbers, so that sums with :func:`_hybrid_input` are exact; a float bias of whole numbers."""
    quant = like.quant
    assert quant is not None, "a hybrid site has its scales"
    rng = np.random.default_rng(seed)
    products = deconv.in_channels // deconv.groups * math.prod(axis.kernel for axis in deconv.axes)
    share = min(1.0, 2 * HYBRID_SUM / (products * HYBRID_WEIGHT))
    kernel = rng.integers(-HYBRID_WEIGHT, HYBRID_WEIGHT + 1, deconv.weights_shape)
    kernel = np.where(rng.random(deconv.weights_shape) < share, kernel, 0).astype(like.kernel.dtype)
    scale = np.asarray(2.0 ** rng.integers(SMALLEST_EXPONENT, 1, quant.w_scale.shape), np.float32)
    bias = None if like.bias is None else rng.integers(-4096, 4097, deconv.out_channels).astype(np.float32)
    return Weights(kernel, bias, replace(quant, w_scale=scale, w_zero=np.zeros(scale.shape, np.int32)))


def _drawn_zeros(quant: Quantisation, rng: np.random.Generator) -> dict[str, Any]:
    """Zero-points anywhere in the range of the activations; LiteRT's 16-bit maps have none."""
    if quant.fixed_point and quant.is_wide:
        return {}
    found = {}
    for name, dtype in (("x_zero", quant.x_type), ("y_zero", quant.y_type)):
        limits = np.iinfo(dtype)
        found[name] = int(rng.integers(limits.min, limits.max + 1))
    return found


def drawn_input(deconv: Deconv, weights: Weights, seed: int) -> Array:
    """Stored input over the whole range of 8 bits; around the zero-point where the type has 16.

    Of hybrid weights a float input of two values.
    """
    quant = weights.quant
    assert quant is not None
    shape = (1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes))
    if quant.is_hybrid:
        return HYBRID_INPUT * np.random.default_rng(seed + 1).integers(0, 2, shape).astype(np.float32)
    limits = np.iinfo(quant.x_type)
    first = limits.min if limits.bits == 8 else int(np.clip(quant.x_zero - 128, limits.min, limits.max - 255))
    return np.random.default_rng(seed + 1).integers(first, first + 256, shape).astype(quant.x_type)


def telling_inputs(deconv: Deconv, weights: Weights) -> Iterator[Array]:
    """Random values, and the largest everywhere, where sums of neighbouring products are largest."""
    drawn = drawn_input(deconv, weights, seed=0)
    yield drawn
    yield np.full_like(drawn, np.iinfo(drawn.dtype).max)
