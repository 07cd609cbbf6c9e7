"""PyTorch's own deconv as one operation of a program: plain, and with a filter that oneDNN has laid out beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812  # the name that all PyTorch code uses
from torch import Tensor

from splitdeconv.deconv.ops import Layout, NativeDeconv
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.torch_modules import assemble
from splitdeconv.torch_modules.axes import to_nchw, to_nhwc

Apply = Callable[[list[Tensor], Sequence[Tensor | None]], Tensor]

OnMap = Callable[[Tensor, Sequence[Tensor | None]], Tensor]  # of one map and the filters

DECONVS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


@dataclass(frozen=True, slots=True)
class NativeCall:
    """How a deconv is called, and what its output needs after it.

    Attributes:
        stride, padding, output_padding, groups, dilation: as ``conv_transpose*`` takes them.
        plain: whether the call has the deconv's pads. Otherwise it has none, and the bias is added last.
        more, fewer: zeros around the output and what is cut off, as ``F.pad`` takes them.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    dilation: tuple[int, ...]
    plain: bool
    more: list[int]
    fewer: list[int]

    def finished(self, y: Tensor, bias: Tensor | None) -> Tensor:
        """The output ``(N, C, *sizes)`` of the deconv, from that of the call."""
        if self.plain:
            return y
        y = F.pad(F.pad(y, self.more), self.fewer)  # in this order no size falls below 1 in between
        return y if bias is None else y + per_channel(bias, y, 1)

    def numbers(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """Padding, output padding, strides, dilations, for two axes at least, as oneDNN's operators take them."""
        flat = len(self.stride) == 1
        zero, one = ([0], [1]) if flat else ([], [])
        return (
            [*zero, *self.padding],
            [*zero, *self.output_padding],
            [*one, *self.stride],
            [*one, *self.dilation],
        )


def call_of(deconv: Deconv) -> NativeCall:
    """The call for ``deconv``."""
    axes = deconv.axes
    plain = all(_is_plain(axis) for axis in axes)
    # outputs beyond what conv_transpose offers are zeros, all but the bias, which is then added last
    begin, end = [-axis.pad_begin for axis in axes], [axis.output_pad - axis.pad_end for axis in axes]
    return NativeCall(
        deconv.strides,
        tuple(axis.pad_begin if plain else 0 for axis in axes),
        tuple(axis.output_pad if plain else 0 for axis in axes),
        deconv.groups,
        tuple(axis.dilation for axis in axes),
        plain,
        torch_pads([max(0, size) for size in begin], [max(0, size) for size in end]),
        torch_pads([min(0, size) for size in begin], [min(0, size) for size in end]),
    )


def _is_plain(axis: Axis) -> bool:
    """Whether PyTorch's own deconv and oneDNN's have these pads; oneDNN wants the output pad below the stride."""
    return axis.pad_begin == axis.pad_end >= 0 and 0 <= axis.output_pad < axis.stride


def in_nchw(layout: Layout, compute: OnMap) -> Apply:
    """What computes on maps ``(N, C, *sizes)``, as an operation on maps in ``layout``."""
    if layout == "NCHW":
        return lambda values, filters: compute(values[0], filters)
    return lambda values, filters: to_nhwc(compute(to_nchw(values[0]), filters))


def native(op: NativeDeconv, at: int) -> Apply:
    """PyTorch's own deconv; ``at`` is the place of its filter."""
    call = call_of(op.deconv)
    deconvolve = DECONVS[len(call.stride) - 1]
    numbers = call.stride, call.padding, call.output_padding, call.groups, call.dilation

    def apply(x: Tensor, filters: Sequence[Tensor | None]) -> Tensor:
        bias = filters[at + 1]
        return call.finished(deconvolve(x, filters[at], bias if call.plain else None, *numbers), bias)

    return in_nchw(op.layout, apply)


def pack(op: NativeDeconv, weight: Tensor, shape: Sequence[int]) -> Tensor:
    """The filter, IOHW, in oneDNN's order, for inputs of ``shape``, ``(N, C, *sizes)``."""
    call = call_of(op.deconv)
    sizes = list(shape)
    if len(call.stride) == 1:  # oneDNN's operators here start at two axes
        weight, sizes = weight.unsqueeze(2), [*shape[:2], 1, *shape[2:]]
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_transpose_weight(weight, *call.numbers(), call.groups, sizes)
    return packed


def packed_native(op: NativeDeconv, at: int) -> Apply:
    """PyTorch's own deconv with a filter from :func:`pack`; works on channels-last memory."""
    call = call_of(op.deconv)
    flat = len(call.stride) == 1
    numbers = call.numbers()

    def apply(x: Tensor, filters: Sequence[Tensor | None]) -> Tensor:
        bias = filters[at + 1]
        y: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            x.unsqueeze(2) if flat else x,
            filters[at],
            bias if call.plain else None,
            *numbers,
            call.groups,
            "none",
            [],
            "",
        )
        return call.finished(y.squeeze(2) if flat else y, bias)

    return in_nchw(op.layout, apply)


def assembled_native(op: NativeDeconv, at: int) -> Apply:
    """As :func:`packed_native`, for calls that nothing records: brought to contiguous memory in one copy."""
    deconvolve = packed_native(op, at)
    if op.layout == "NHWC":
        return deconvolve
    return lambda values, filters: assemble.from_channels_last(deconvolve(values, filters))


def torch_pads(begin: Sequence[int], end: Sequence[int]) -> list[int]:
    """Pads as PyTorch takes them: innermost axis first."""
    return [pad for pair in zip(reversed(begin), reversed(end), strict=True) for pad in pair]


def per_channel(bias: Tensor, y: Tensor, axis: int) -> Tensor:
    """A bias that broadcasts over ``y``, in its type (autocast makes maps narrower than parameters)."""
    return bias.to(y.dtype).reshape([-1 if number == axis else 1 for number in range(y.dim())])
