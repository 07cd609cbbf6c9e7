"""What the output of a deconv may be: several values where a format leaves part of the rounding to the runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Quantisation, Weights

MULTIPLIER_BITS = 31  # of LiteRT's fixed-point multipliers
SHORT_MULTIPLIER_BITS = 15  # of those for 64-bit sums


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """The lowest and the highest right value of each output, ``(N, O, *out_sizes)``; equal but where a tie is near."""

    lowest: Array
    highest: Array

    @classmethod
    def of(cls, values: Array) -> Definition:
        """One right value for each output."""
        return cls(values, values)

    def misses(self, found: Array) -> Array:
        """Where ``found`` is wrong; NaN is."""
        return np.logical_not((self.lowest <= found) & (found <= self.highest))

    def steps(self, found: Array) -> Array:
        """How far stored integers lie outside, in steps."""
        low, stored, high = (each.astype(np.int64) for each in (self.lowest, found, self.highest))
        outside: Array = np.maximum(0, np.maximum(low - stored, stored - high))
        return outside


def define(x: Array, weights: Weights, spec: Deconv, *beside: Array) -> Definition:
    """What a site's nodes compute by definition, without their epilogue.

    Args:
        x: ``(N, in_channels, *in_sizes)``; stored integers of a quantised site.
        weights: with their quantisation, if any.
        spec: the geometry.
        beside: the map beside a stretched one, if there is one.

    Returns:
        In float64; stored integers of a quantised site.
    """
    quant = weights.quant
    if quant is None or quant.is_hybrid:
        real = weights.as_type("float64") if quant is None else weights.as_real(spec.groups)
        return Definition.of(reference.definition(x.astype(np.float64), real, spec, *beside))
    if quant.fixed_point:
        return fixed_point_deconv(x, weights, spec)
    stored = reference.quantised_deconv(x, weights, spec)
    if np.iinfo(quant.y_type).bits == 8 or quant.is_half:
        return Definition.of(stored)
    return _with_ties(stored, ideal_steps(x, weights, spec), quant)


def _with_ties(stored: Array, steps: Array, quant: Quantisation) -> Definition:
    """Exact ties of 16 bits rounded to either side: OpenVINO holds the 65,536 steps of a type as a range of floats."""
    limits = np.iinfo(quant.y_type)
    low, high = (np.clip(each, limits.min, limits.max) for each in (np.ceil(steps - 0.5), np.floor(steps + 0.5)))
    return Definition(np.minimum(stored, low).astype(stored.dtype), np.maximum(stored, high).astype(stored.dtype))


def ideal_steps(x: Array, weights: Weights, spec: Deconv) -> Array:
    """A quantised site in float64, in steps of its output, neither rounded nor clipped; arguments as :func:`define`."""
    quant = weights.quant
    assert quant is not None, "float maps have no steps"
    real = reference.definition(_real_map(x, quant), weights.as_real(spec.groups), spec)
    return np.asarray(real / np.float64(quant.y_scale) + quant.y_zero)


def requantised_steps(x: Array, weights: Weights, program: Program) -> Array:
    """As :func:`ideal_steps`, by a program whose filters are quantised anew; ``x`` is channels first."""
    quant = weights.quant
    assert quant is not None, "float maps have no steps"
    channels_first = program.layout == "NCHW"
    real = _real_map(x, quant)
    found = reference.run(program, real if channels_first else np.moveaxis(real, 1, -1), weights)
    found = found if channels_first else np.moveaxis(found, -1, 1)
    return np.asarray(found / np.float64(quant.y_scale) + quant.y_zero)


def rounded(steps: Array, quant: Quantisation) -> Definition:
    """Outputs of which only ``steps`` is known: ties, and what float32 may take for one, are rounded to either side."""
    near = np.abs(steps) * 2.0**-20 + 2.0**-10
    limits = np.iinfo(quant.y_type)
    found = (np.ceil(steps - near - 0.5), np.floor(steps + near + 0.5))
    low, high = (np.clip(each, limits.min, limits.max).astype(quant.y_type) for each in found)
    return Definition(low, high)


def _real_map(x: Array, quant: Quantisation) -> Array:
    return np.asarray((x.astype(np.float64) - quant.x_zero) * np.float64(quant.x_scale))


def fixed_point_deconv(x: Array, weights: Weights, spec: Deconv) -> Definition:
    """A deconv on stored integers as LiteRT's kernels define it, whichever of them runs.

    The sum is exact. Then it is multiplied by ``x_scale·w_scale/y_scale``, which each kernel holds in its own way
    (:func:`_multipliers`), and rounded, ties to either side. Kernels that shift after the multiplication first make a
    whole number of units of the shift, so a result within one such unit of a tie counts as a tie
    (``docs/decisions/tflite-rounding.md``). Source: LiteRT's ``MultiplyByQuantizedMultiplier`` and
    ``QuantizeMultiplier``; XNNPACK's ``fp32`` and ``rndnu`` requantisation.

    Args:
        x: stored input, ``(N, in_channels, *in_sizes)``.
        weights: stored kernel IOHW, bias, and ``weights.quant``.
        spec: strides, dilations, pads, groups.
    """
    quant = weights.quant
    assert quant is not None, "quantised weights have their scales"
    kernel = weights.kernel.astype(np.float64) - quant.along_kernel(quant.w_zero, weights.kernel.shape, spec.groups)
    bias = None if weights.bias is None else weights.bias.astype(np.float64)
    sums = reference.definition(x.astype(np.float64) - quant.x_zero, Weights(kernel, bias), spec)
    rank = sums.ndim
    scaled = [sums * _per_channel(each, rank) for each in _multipliers(quant, spec.out_channels)]
    if not quant.is_wide:
        product = sums.astype(np.float32) * _per_channel(_in_float32(quant, spec.out_channels), rank)
        scaled.append(product.astype(np.float64))
    unit = _per_channel(_shift_unit(quant, spec.out_channels), rank)
    lowest = np.ceil(np.minimum.reduce(scaled) - unit - 0.5)
    highest = np.floor(np.maximum.reduce(scaled) + unit + 0.5)
    limits = np.iinfo(quant.y_type)
    low, high = (np.clip(each + quant.y_zero, limits.min, limits.max) for each in (lowest, highest))
    return Definition(low.astype(quant.y_type), high.astype(quant.y_type))


def _real(quant: Quantisation, channels: int) -> Array:
    """``x_scale·w_scale/y_scale`` of each channel in float64; the product of two float32 numbers is exact."""
    return quant.per_output(quant.sum_unit / np.float64(quant.y_scale), channels)


def _multipliers(quant: Quantisation, channels: int) -> list[Array]:
    """The numbers that kernels multiply by, each ``(channels,)``.

    The real one; rounded to 31 bits; the same where the two scales were multiplied in float32 (uint8); then for 64-bit
    sums rounded once more, to 15 bits, and for others all in float32.
    """
    real = _real(quant, channels)
    product = quant.bias_scale(channels).astype(np.float64) / np.float64(quant.y_scale)
    found = [real, *(_rounded(each, MULTIPLIER_BITS) for each in (real, product))]
    last = _rounded(found[1], SHORT_MULTIPLIER_BITS) if quant.is_wide else _in_float32(quant, channels)
    return [*found, last.astype(np.float64)]


def _in_float32(quant: Quantisation, channels: int) -> Array:
    return np.asarray(quant.bias_scale(channels) / quant.y_scale, np.float32)


def _rounded(multiplier: Array, bits: int) -> Array:
    """A multiplier with a mantissa of so many bits."""
    mantissa, exponent = np.frexp(multiplier)
    whole = np.floor(np.ldexp(mantissa, bits) + 0.5)
    if bits == SHORT_MULTIPLIER_BITS:
        whole = np.minimum(whole, 2**bits - 1)  # LiteRT does not normalise it again
    return np.asarray(np.ldexp(whole, exponent - bits))


def _shift_unit(quant: Quantisation, channels: int) -> Array:
    """One unit of the whole number before the shift, in steps of the output."""
    _, exponent = np.frexp(_real(quant, channels))
    return np.where(exponent < 0, np.ldexp(1.0, exponent), 0.0)


def _per_channel(parameter: Array, rank: int) -> Array:
    return np.reshape(parameter, (1, -1, *(1,) * (rank - 2)))
