"""The table of PyTorch operations that programs are run by.

No operation depends on sizes. ``at``, the second argument of what makes one, is the place of its filter among a
routine's tensors; its bias follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that all PyTorch code uses
from torch import Tensor

from splitdeconv.deconv.ops import (
    Add,
    AddBias,
    Concat,
    Conv,
    DepthToSpace,
    Difference,
    Dim,
    Interpolate,
    NativeDeconv,
    Op,
    Pad,
    Part,
    Relayout,
    Repeat,
    Reshape,
    Slice,
    Take,
    Transpose,
)
from splitdeconv.torch_modules import native, packed
from splitdeconv.torch_modules.axes import to_nchw, to_nhwc
from splitdeconv.torch_modules.native import Apply, in_nchw, per_channel, torch_pads

CONVS = (F.conv1d, F.conv2d, F.conv3d)


def _conv(op: Conv, at: int) -> Apply:
    if op.flat:
        return _product(op, at)
    convolve = CONVS[len(op.kernel) - 1]
    padding, (begin, end) = packed.pads(op)
    even = not any((*begin, *end))
    around = torch_pads((0, 0, *begin), (0, 0, *end))

    def apply(x: Tensor, filters: Sequence[Tensor | None]) -> Tensor:
        inner = x if even else F.pad(x, around)
        return convolve(inner, filters[at], filters[at + 1], 1, padding, op.dilations, op.groups)

    return in_nchw(op.layout, apply)


def _product(op: Conv, at: int) -> Apply:
    """The filter ``(O, I)`` times all pixels ``(N, I, P)``."""

    def apply(values: list[Tensor], filters: Sequence[Tensor | None]) -> Tensor:
        (x,), weight, bias = values, filters[at], filters[at + 1]
        assert weight is not None, "a convolution has a filter"
        y = weight.flatten(1) @ x.flatten(2)
        return (y if bias is None else y + bias.reshape(-1, 1)).reshape(x.shape[0], op.total_channels, *x.shape[2:])

    return apply


def _packed_conv(op: Conv, at: int) -> Apply:
    _, (begin, end) = packed.pads(op)
    even = not any((*begin, *end))
    around = torch_pads((0, 0, *begin), (0, 0, *end))

    def apply(x: Tensor, filters: Sequence[Tensor | None]) -> Tensor:
        weight = filters[at]
        assert weight is not None, "a convolution has a filter"
        return packed.convolve(op, x if even else F.pad(x, around), weight, filters[at + 1])

    return in_nchw(op.layout, apply)


def _pad(op: Pad, _: int) -> Apply:
    around = torch_pads(op.begin, op.end)
    return lambda values, _: F.pad(values[0], around)


def _slice(op: Slice, _: int) -> Apply:
    index = tuple(slice(begin, -end if end else None) for begin, end in zip(op.begin, op.end, strict=True))
    return lambda values, _: values[0][index]


def _reshape(op: Reshape, _: int) -> Apply:
    def apply(values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
        x = values[0]
        return x.reshape([dim.times if dim.axis is None else _size(dim, x.shape[dim.axis]) for dim in op.dims])

    return apply


def _size(dim: Dim, size: Any) -> Any:
    """A size of a reshape; symbolic ones stay as simple as they are."""
    times = size if dim.times == 1 else size * dim.times
    return times if dim.over == 1 else times // dim.over


def _transpose(op: Transpose, _: int) -> Apply:
    return lambda values, _: values[0].permute(op.perm)


def _copied_transpose(op: Transpose, _: int) -> Apply:
    return lambda values, _: packed.contiguous(values[0].permute(op.perm))


def _concat(op: Concat, _: int) -> Apply:
    return lambda values, _: torch.cat(values, op.axis)


def _part(op: Part, _: int) -> Apply:
    def apply(values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
        size = values[0].shape[op.axis] // op.parts
        return values[0].narrow(op.axis, op.index * size, size)

    return apply


def _take(op: Take, _: int) -> Apply:
    """Rows are cut apart and joined rather than gathered by an index tensor.

    No constant in exported graphs, no copy to a GPU, and the gradient is a join again.
    """
    summed = any(len(each) > 1 for each in op.places)

    def apply(values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
        (x,) = values
        exact = torch.float64 if summed and x.device.type != "mps" else x.dtype  # MPS has no float64
        rows = x.to(exact).split(1)
        known: dict[tuple[int, ...], Tensor] = {}
        for each in op.places:
            if each not in known:
                first, *others = [rows[place] for place in each] or [torch.zeros_like(rows[0])]
                known[each] = sum(others, start=first)
        return torch.cat([known[each] for each in op.places]).to(x.dtype).reshape(*op.sizes, *x.shape[1:])

    return apply


def _relayout(_op: Relayout, _: int) -> Apply:
    return lambda values, _: values[0]


def _depth_to_space(op: DepthToSpace, _: int) -> Apply:
    if op.layout == "NCHW" and op.order == "channel_major":
        return lambda values, _: F.pixel_shuffle(values[0], op.block)
    first = 1 if op.order == "channel_major" else 0
    channel_at, row_at, column_at = (0 if first else 2), first, first + 1

    def apply(values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
        x = values[0] if op.layout == "NHWC" else values[0].permute(0, 2, 3, 1)
        batch, height, width, depth = x.shape
        channels = depth // op.block**2
        sizes = [op.block, op.block]
        sizes.insert(channel_at, channels)
        split = x.reshape(batch, height, width, *sizes)
        whole = split.permute(0, 1, 3 + row_at, 2, 3 + column_at, 3 + channel_at)
        y = whole.reshape(batch, height * op.block, width * op.block, channels)
        return y if op.layout == "NHWC" else y.permute(0, 3, 1, 2)

    return apply


def _add(_op: Add, _: int) -> Apply:
    return lambda values, _: values[0] + values[1]


def _difference(op: Difference, _: int) -> Apply:
    before = (slice(None),) * op.axis
    later, earlier = (*before, slice(1, None)), (*before, slice(None, -1))

    def apply(values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
        (x,) = values
        one = tuple(int(axis == op.axis) for axis in range(x.dim()))
        padded = F.pad(x, torch_pads(one, one))
        return padded[later] - padded[earlier]

    return apply


def _repeat(op: Repeat, _: int) -> Apply:
    spatial = [float(factor) for factor in op.factors[2:]]
    nearest = op.factors[:2] == (1, 1) and all(_is_exact(factor) for factor in op.factors)

    def apply(values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
        (x,) = values
        if nearest:
            return F.interpolate(x, scale_factor=spatial)
        for axis, factor in enumerate(op.factors):
            x = x.repeat_interleave(factor, axis) if factor > 1 else x
        return x

    return apply


_MODES = {
    "linear": {1: "linear", 2: "bilinear", 3: "trilinear"},
    "cubic": {2: "bicubic"},
    "area": dict.fromkeys((1, 2, 3), "area"),
}  # PyTorch's names of interpolations, by spatial axes


def _interpolate(op: Interpolate, _: int) -> Apply:
    how = op.how
    size, scale = (list(how.sizes) or None, list(how.scales) or None)
    corners = None if how.kind == "area" else how.coordinates == "align_corners"

    def apply(values: list[Tensor], _: Sequence[Tensor | None]) -> Tensor:
        x = values[0] if op.layout == "NCHW" else to_nchw(values[0])
        y = F.interpolate(x, size, scale, _MODES[how.kind][x.dim() - 2], corners)
        return y if op.layout == "NCHW" else to_nhwc(y)

    return apply


def _is_exact(factor: int) -> bool:
    """Whether PyTorch's upsampling reads the right pixels: it multiplies by the float32 of ``1/factor``."""
    return Fraction(torch.tensor(1 / factor).item()) * factor >= 1


def _add_bias(op: AddBias, at: int) -> Apply:
    def apply(values: list[Tensor], filters: Sequence[Tensor | None]) -> Tensor:
        bias = filters[at + 1]
        y = values[0]
        return y if bias is None else y + per_channel(bias, y, 1 if op.layout == "NCHW" else y.dim() - 1)

    return apply


APPLY: dict[type[Op], Callable[..., Apply]] = {
    Conv: _conv,
    NativeDeconv: native.native,
    Pad: _pad,
    Slice: _slice,
    Reshape: _reshape,
    Transpose: _transpose,
    Concat: _concat,
    Take: _take,
    Part: _part,
    Relayout: _relayout,
    DepthToSpace: _depth_to_space,
    Repeat: _repeat,
    Interpolate: _interpolate,
    Add: _add,
    Difference: _difference,
    AddBias: _add_bias,
}
# with packed filters: in a graph, whose compiler joins the steps, and one operation after the other
APPLY_COMPILED: dict[type[Op], Callable[..., Apply]] = {
    **APPLY,
    Conv: _packed_conv,
    NativeDeconv: native.packed_native,
}
APPLY_EAGER: dict[type[Op], Callable[..., Apply]] = {
    **APPLY_COMPILED,
    NativeDeconv: native.assembled_native,
    Transpose: _copied_transpose,
}
