"""From a deconv's weights to the filters and per-channel parameters of a program's convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splitdeconv.deconv.filters import composite_steps, filter_steps, tap_steps
from splitdeconv.deconv.movement import moved
from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.phases import Taps
from splitdeconv.deconv.spec import Deconv, WeightName

Array = NDArray[Any]


INT32 = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Scales and zero-points around a deconv: ``real = (stored − zero)·scale``.

    Attributes:
        x_type, y_type: of the stored input and output, NumPy names.
        x_scale, y_scale: float32, shape ``()``; all scales may be float16, and then so are the real numbers.
        x_zero, y_zero: in the range of their types.
        w_scale: of the same type; shape ``()``, or one for each entry of the kernel's axis ``w_axis``, or for each
            output channel of all groups.
        w_zero: int32, of the same shape.
        w_axis: 1 (output channels), or 0 (input channels; the sums are then no integers).
        fixed_point: whether the format's kernels rescale sums by fixed-point multipliers, each in its own way.
    """

    x_type: str
    x_scale: Array
    x_zero: int
    w_scale: Array
    w_zero: Array
    y_type: str
    y_scale: Array
    y_zero: int
    w_axis: int = 1
    fixed_point: bool = False

    @property
    def is_hybrid(self) -> bool:
        """Whether only the weights are integers; kernels quantise the input by its own range when they run."""
        return self.x_type == "float32"

    @property
    def is_half(self) -> bool:
        """Whether the real numbers between the stored ones are float16, which rounds them."""
        return bool(self.x_scale.dtype == np.float16)

    @property
    def is_wide(self) -> bool:
        """Whether maps have 16 bits."""
        return self.x_type == "int16"

    @property
    def by_input(self) -> bool:
        """Whether each input channel has a weight scale of its own."""
        return self.w_scale.ndim > 0 and self.w_axis == 0

    @property
    def sum_unit(self) -> Array:
        """What 1 in a sum of products of stored numbers stands for, in float64; of the shape of ``w_scale``."""
        return np.asarray(np.float64(self.x_scale) * self.w_scale.astype(np.float64))

    def along_kernel(self, parameter: Array, shape: tuple[int, ...], groups: int) -> Array:
        """``w_scale`` or ``w_zero``, to be broadcast against a kernel of ``shape``, IOHW."""
        if not parameter.ndim:
            return parameter
        if self.w_axis == 0:
            return parameter.reshape((-1, *(1,) * (len(shape) - 1)))
        return along_inputs(self.per_output(parameter, shape[1] * groups), shape, groups)

    def per_output(self, parameter: Array, out_channels: int) -> Array:
        """``w_scale``, ``w_zero`` or one made from them as ``(out_channels,)``; groups share their channels' values."""
        return np.tile(np.atleast_1d(parameter), out_channels // max(1, parameter.size))

    def bias_scale(self, out_channels: int) -> Array:
        """Unit of the int32 bias, float32 ``(out_channels,)``."""
        return np.asarray(self.x_scale * self.per_output(self.w_scale, out_channels), np.float32)

    def int32_bias(self, bias: Array) -> Array:
        """A bias in units of :meth:`bias_scale`; a float one is rounded to them, as ONNX Runtime does by itself.

        Raises:
            ValueError: a value is beyond int32.
        """
        if bias.dtype.kind == "i":
            return bias.astype(np.int32)
        rounded = np.rint(bias.astype(np.float64) / self.bias_scale(bias.size))
        if not (np.isfinite(rounded).all() and np.abs(rounded).max(initial=0) <= INT32.max):
            raise ValueError("its float bias is beyond int32 in units of the input's times the weights' scale")
        return rounded.astype(np.int32)

    def bias_in_sums(self, bias: Array) -> Array:
        """As :meth:`int32_bias`, in float64; what is beyond int32, as of a channel without weights, is not rounded."""
        real = bias.astype(np.float64) / (1.0 if bias.dtype.kind == "i" else self.bias_scale(bias.size))
        rounded = np.rint(real)
        return np.where(np.abs(rounded) <= INT32.max, rounded, real)


@dataclass(frozen=True, slots=True)
class Weights:
    """The trained values of a deconv.

    Attributes:
        kernel: shape IOHW, ``(in_channels, out_channels // groups, *kernel)``; of a written-out deconv the
            convolution's own taps in their order.
        bias: shape ``(out_channels,)``, or None. In quantised models int32 in units of ``x_scale·w_scale``, or float.
        quant: scales and zero-points, or None.
    """

    kernel: Array
    bias: Array | None = None
    quant: Quantisation | None = None

    def as_real(self, groups: int = 1) -> Weights:
        """The real values of quantised weights with output scales, in float64; a float bias is real already."""
        quant = self.quant
        assert quant is not None, "float weights are real already"
        shape = self.kernel.shape
        zero, scale = (
            quant.along_kernel(each, shape, groups).astype(np.float64) for each in (quant.w_zero, quant.w_scale)
        )
        bias = None if self.bias is None else self.bias.astype(np.float64)
        if bias is not None and self.bias is not None and self.bias.dtype.kind == "i":
            bias = bias * quant.sum_unit
        return Weights((self.kernel.astype(np.float64) - zero) * scale, bias)

    def run_time(self, deconv: Deconv) -> dict[WeightName, Array]:
        """What a model of the deconv is given beside its maps, by name: the parameters that it does not store."""
        return {name: array for name in deconv.run_time if (array := getattr(self, name)) is not None}

    def as_type(self, dtype: str) -> Weights:
        """The same values in another type, without quantisation."""
        return Weights(self.kernel.astype(dtype), None if self.bias is None else self.bias.astype(dtype))


def rounding_of(dtype: str) -> float:
    """Half the distance between 1 and the next number of a type of real numbers, by its NumPy name."""
    return {"float64": 2.0**-53, "float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 2.0**-24)


def swapped_channels(kernel: Array, groups: int) -> Array:
    """A kernel with its input and output channels in each other's place: IOHW as OIHW, and the other way round.

    Args:
        kernel: ``(a, b // groups, *sizes)``.
        groups: of channels.

    Returns:
        ``(b, a // groups, *sizes)``, contiguous.
    """
    grouped = kernel.reshape(groups, -1, *kernel.shape[1:])
    swapped = np.swapaxes(grouped, 1, 2)
    return np.ascontiguousarray(swapped.reshape(-1, *swapped.shape[2:]))


def example_values(shape: Sequence[int], dtype: str | np.dtype[Any] = "float32") -> Array:
    """Values for a parameter that nothing stores, by which a deconv is timed: random, as of trained weights."""
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def conv_filter(kernel: Array, conv: Conv, zero: Array | int = 0) -> Array:
    """The filter of ``conv``, its values copied from the model's kernel; sums are taken in float64 and rounded once.

    Args:
        kernel: IOHW, of the deconv's ``weights_shape``.
        conv: which taps go where.
        zero: what an empty place holds: a number, or one for each output channel, shape ``(out_channels,)`` (the
            zero-points of quantised weights).

    Returns:
        OIHW, ``(total_channels, in_channels // groups, *conv.kernel)``, of the kernel's type.
    """
    if np.ndim(zero):
        zero = conv_channels(np.asarray(zero), conv).reshape((-1, *(1,) * (kernel.ndim - 1)))
    return moved(kernel, filter_steps(conv, kernel.shape), zero)


def kernel_parts(filled: Array, conv: Conv) -> list[Array]:
    """What :func:`conv_filter` has put together: the part of each block, ``(in_channels, per_group, *conv.kernel)``."""
    groups, ins = conv.groups, conv.in_channels // conv.groups
    count, outs = len(conv.blocks), conv.out_channels // conv.groups
    axis, sizes = (1, (count, outs)) if conv.order == "block_major" else (2, (outs, count))
    stacked = filled.reshape(groups, *sizes, ins, *conv.kernel)
    split = (np.swapaxes(np.take(stacked, number, axis), 1, 2) for number in range(count))
    return [each.reshape(conv.in_channels, outs, *conv.kernel) for each in split]


def deconv_kernel(kernel: Array, deconv: Deconv) -> Array:
    """The kernel of the transposed convolution that ``deconv`` is, from the weights that the model has.

    Args:
        kernel: IOHW, of ``deconv.weights_shape``.
        deconv: written out or not.

    Returns:
        IOHW, of ``deconv.kernel_shape`` and the same type.
    """
    if deconv.written_out is None:
        return kernel
    return moved(kernel, composite_steps(deconv, kernel.shape))


def taken_taps(kernel: Array, taps: Sequence[Taps]) -> Array:
    """The kernel's taps, IOHW, that one block names by axis, 0 where it names none."""
    return moved(kernel, tap_steps(taps, kernel.shape))


def along_inputs(parameter: Array, shape: tuple[int, ...], groups: int) -> Array:
    """One value for each output channel, to be broadcast against a kernel of ``shape``, IOHW."""
    rows = np.repeat(parameter.reshape(groups, -1), shape[0] // groups, axis=0)
    return rows.reshape(rows.shape + (1,) * (len(shape) - 2))


def conv_channels(parameter: Array, conv: Conv, axis: int = 0) -> Array:
    """A per-channel parameter of the deconv's output (bias, scale, slope), repeated for ``conv``'s output channels.

    Args:
        parameter: has ``out_channels`` entries along ``axis``.
        conv: the convolution that the parameter is to follow.
        axis: the channel axis of ``parameter``.

    Returns:
        The same with ``total_channels`` entries along ``axis``.
    """
    return np.take(parameter, channel_places(conv), axis=axis)


def channel_places(conv: Conv) -> Array:
    """For each output channel of ``conv`` that of the deconv, ``(total_channels,)`` of int64."""
    channels = np.arange(conv.out_channels).reshape(conv.groups, -1)
    repeated = np.stack([channels] * len(conv.blocks), axis=1 if conv.order == "block_major" else 2)
    return repeated.reshape(-1)
