"""Arithmetic of channels around a convolution, as part of its weights and bias.

Before: ``(W ⋆ (x·a + b) + c)·d + e``, with a number for each channel. After: ``V ⋆ x + f``. ``a`` goes into the weights
whatever the borders are; ``b`` only where every output meets all of it, because past the border there is 0, not ``b``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights, rounding_of

_EQUAL = 1e-12  # of the largest sum, by which float64 may make equal sums differ
_ROUNDINGS = 2  # of the type, of the largest weight, that a folded weight may be off: 1, and 1 for the ties


@dataclass(frozen=True, slots=True, eq=False)
class ChannelArithmetic:
    """``x·scale + shift``, both float64 of shape ``(channels,)``."""

    scale: Array
    shift: Array

    @classmethod
    def of(cls, channels: int, scale: Array | float = 1.0, shift: Array | float = 0.0) -> ChannelArithmetic:
        """One number for all channels, or one for each; nothing without either."""
        return cls(*(np.broadcast_to(np.asarray(each, np.float64), channels) for each in (scale, shift)))

    def then(self, later: ChannelArithmetic) -> ChannelArithmetic:
        """Both in one."""
        with np.errstate(invalid="ignore", over="ignore"):  # refused when they become weights
            return ChannelArithmetic(self.scale * later.scale, self.shift * later.scale + later.shift)

    def apply(self, x: Array) -> Array:
        """To a map ``(N, channels, …)``."""
        shape = (1, -1, *(1,) * (x.ndim - 2))
        return np.asarray(x * self.scale.reshape(shape) + self.shift.reshape(shape))


class FoldingError(Exception):
    """Some arithmetic cannot become part of the weights; the message is the reason."""


def constant_response(weights: Weights, deconv: Deconv, shift: Array) -> Array:
    """What a map that is ``shift`` everywhere adds to each output, ``(out_channels,)``.

    Raises:
        FoldingError: it is not the same everywhere.
    """
    if not shift.any():
        return np.zeros(deconv.out_channels)
    sizes = [2 * axis.extent // axis.stride + 3 for axis in deconv.axes]  # borders, and more than one output inside
    grouped = weights.kernel.astype(np.float64) * shift.reshape(-1, *(1,) * (weights.kernel.ndim - 1))
    summed = grouped.reshape(deconv.groups, -1, *grouped.shape[1:]).sum(axis=1)
    one = replace(deconv.with_in_sizes(1, sizes), in_channels=deconv.groups, has_bias=False)
    plane = np.ones((1, deconv.groups, *sizes))
    found = reference.definition(plane, Weights(summed), one).reshape(deconv.out_channels, -1)
    largest = float(np.abs(grouped).sum())
    if np.ptp(found, axis=1).max(initial=0.0) > _EQUAL * largest:
        raise FoldingError("at the border its outputs meet less of the shift in front of it than inside")
    return np.asarray(found.mean(axis=1))


def scaled_kernel(kernel: Array, groups: int, first: Array, second: Array) -> Array:
    """A kernel times a number for each channel of its first axis and of its second, which counts within a group.

    Args:
        kernel: IOHW of a deconv, OIHW of a convolution.
        groups: that split the first axis.
        first: as many as the first axis has channels.
        second: ``groups`` times as many as the second axis has.

    Returns:
        Of the kernel's type.

    Raises:
        FoldingError: that type does not hold it.
    """
    grouped = kernel.astype(np.float64).reshape(groups, -1, *kernel.shape[1:])
    ones = (1,) * (kernel.ndim - 2)
    with np.errstate(invalid="ignore"):  # 0 times infinity, which is refused
        grouped = grouped * first.reshape(groups, -1, 1, *ones) * second.reshape(groups, 1, -1, *ones)
    return in_type(grouped.reshape(kernel.shape), kernel.dtype)


def in_type(values: Array, dtype: np.dtype[np.generic]) -> Array:
    """``values`` rounded once to the type of the weights that they replace.

    Raises:
        FoldingError: they overflow, or vanish.
    """
    with np.errstate(over="ignore", under="ignore"):
        found = values.astype(dtype)
    if not np.isfinite(found.astype(np.float64)).all():
        raise FoldingError(f"folded weights are not finite in {dtype.name}")
    lost, largest = np.abs(found.astype(np.float64) - values).max(initial=0), np.abs(values).max(initial=0)
    if lost > _ROUNDINGS * rounding_of(dtype.name) * largest:
        raise FoldingError(f"folded weights are too small for {dtype.name}")
    return np.asarray(found)


def together(parts: Iterable[ChannelArithmetic], channels: int) -> ChannelArithmetic:
    """All of them, in order."""
    found = ChannelArithmetic.of(channels)
    for each in parts:
        found = found.then(each)
    return found


def arithmetic_of(operator: str, number: Array, channels: int, *, number_first: bool) -> ChannelArithmetic | None:
    """What ``add``, ``sub``, ``mul`` or ``div`` computes of a map; None where that is not linear, or another operator.

    Args:
        operator: in small letters.
        number: one, or one for each channel.
        channels: of the map.
        number_first: whether the map is the second operand.
    """
    number = np.asarray(number, np.float64).reshape(-1)
    with np.errstate(divide="ignore"):
        match operator, number_first:
            case "add", _:
                return ChannelArithmetic.of(channels, 1.0, number)
            case "sub", True:
                return ChannelArithmetic.of(channels, -1.0, number)
            case "sub", False:
                return ChannelArithmetic.of(channels, 1.0, -number)
            case "mul", _:
                return ChannelArithmetic.of(channels, number)
            case "div", False:
                return ChannelArithmetic.of(channels, 1.0 / number)
    return None


def normalisation(gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float) -> ChannelArithmetic:
    """What BatchNormalization computes with what it has learnt, each ``(channels,)``."""
    scale_in, shift, mean, variance = (each.astype(np.float64) for each in (gamma, beta, mean, variance))
    with np.errstate(invalid="ignore", divide="ignore"):  # refused then
        scale = scale_in / np.sqrt(variance + epsilon)
    return ChannelArithmetic.of(len(scale), scale, shift - mean * scale)
