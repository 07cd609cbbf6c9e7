"""Stored values for quantised layers, so that every choice of a quantiser can be drawn."""

from __future__ import annotations

import numpy as np

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Quantisation, Weights

LARGEST_SUM = 2**23  # float32 holds whole numbers up to 2²⁴ exactly, so float kernels between Q and DQ are exact too


def random_weights(
    deconv: Deconv, seed: int, *, w_zero: bool = False, real_scales: bool = False, bits: int = 7
) -> Weights:
    """Stored weights of ``bits`` bits, and scales: powers of two unless ``real_scales``.

    With int8 weights of 7 bits no processor saturates two products of uint8 × int8.

    As many weights as keep every sum below ``LARGEST_SUM`` differ from their zero-point.
    """
    quant = deconv.quant
    assert quant is not None
    rng = np.random.default_rng(seed)
    low, high = np.iinfo(quant.weight).min, np.iinfo(quant.weight).max
    per_group = deconv.out_channels // deconv.groups
    shape = (per_group,) if quant.per_channel else ()
    if quant.weight == "int8":
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    zero = int(rng.integers(low // 2, high // 2 + 1)) if w_zero else 0
    products = deconv.in_channels // deconv.groups * int(np.prod([axis.kernel for axis in deconv.axes]))
    share = min(1.0, LARGEST_SUM / (255 * 2 ** (bits - 1) * products))
    reach = 2 ** (bits - 1) - 1
    stored = zero + rng.integers(-reach, reach + 1, deconv.kernel_shape)
    kernel = np.clip(np.where(rng.random(deconv.kernel_shape) < share, stored, zero), low, high).astype(quant.weight)
    exponents = rng.integers(-9, -5, shape)
    jitter = rng.uniform(0.5, 1.0, (3, *shape)) if real_scales else np.ones((3, *shape))
    low_x, high_x = np.iinfo(quant.activation).min, np.iinfo(quant.activation).max
    values = Quantisation(
        x_type=quant.activation,
        x_scale=np.float32(2.0**-5 * jitter[0].flat[0]),
        x_zero=int(rng.integers(low_x, high_x + 1)),
        w_scale=np.asarray(2.0**exponents * jitter[1], np.float32),
        w_zero=np.full(shape, zero, np.int32),
        y_type=quant.activation,
        y_scale=np.float32(2.0 ** rng.integers(-4, 1) * jitter[2].flat[0]),
        y_zero=int(rng.integers(low_x, high_x + 1)),
    )
    bias = rng.integers(-3000, 3000, deconv.out_channels).astype(np.int32) if deconv.has_bias else None
    return Weights(kernel, bias, values)


def random_input(deconv: Deconv, seed: int) -> Array:
    """Stored input over the whole range of its type."""
    assert deconv.quant is not None
    limits = np.iinfo(deconv.quant.activation)
    shape = (deconv.batch or 1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes))
    return np.random.default_rng(seed).integers(limits.min, limits.max + 1, shape).astype(deconv.quant.activation)
