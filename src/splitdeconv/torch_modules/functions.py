"""Drop-in ``conv_transpose{1,2,3}d`` without a transposed convolution.

Same arguments, results, gradients and errors as ``torch.nn.functional.conv_transpose{1,2,3}d``. Under
``torch.compile`` the call is one operator, ``splitdeconv::conv_transpose``, which decomposes into ordinary operators
when the graph is lowered; everywhere else (eager, ``torch.export``, tracing) the ordinary operators are called
directly, so that exported files need nothing from this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.torch_modules.axes import channels_innermost
from splitdeconv.torch_modules.forms import find_form, inference_form
from splitdeconv.torch_modules.interpret import Form, Routine, routine
from splitdeconv.torch_modules.native import DECONVS

Sizes = int | Sequence[int]

BY_RULE = "by rule"  # in the place of a lowering: what :func:`inference_lowering` takes


class Geometry(NamedTuple):
    """The numeric arguments of a deconv, one entry per spatial axis."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    groups: int
    dilation: tuple[int, ...]


def split_conv_transpose1d(
    input: Tensor,  # noqa: A002  # torch's own name
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    lowering: str | None = None,
) -> Tensor:
    """``torch.nn.functional.conv_transpose1d`` by ordinary convolutions.

    Args:
        input: ``(N, in_channels, L)`` or ``(in_channels, L)``.
        weight: ``(in_channels, out_channels // groups, kernel)``.
        bias: ``(out_channels,)`` or None.
        stride, padding, output_padding, groups, dilation: as in PyTorch.
        lowering: a lowering by name (see :func:`splitdeconv.torch_modules.forms.find_form`), or None for the default
            rule.

    Raises:
        RuntimeError: as PyTorch does for arguments that do not fit.
        UsageError: there is no such lowering, or it refuses this deconv.
    """
    return deconvolve(1, input, weight, bias, stride, padding, output_padding, groups, dilation, lowering)


def split_conv_transpose2d(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    lowering: str | None = None,
) -> Tensor:
    """``torch.nn.functional.conv_transpose2d`` by ordinary convolutions; see :func:`split_conv_transpose1d`.

    Args:
        input: ``(N, in_channels, H, W)`` or ``(in_channels, H, W)``.
        weight: ``(in_channels, out_channels // groups, *kernel)``.
        bias, stride, padding, output_padding, groups, dilation, lowering: as there, one number or one for each axis.

    Raises:
        RuntimeError, UsageError: as there.
    """
    return deconvolve(2, input, weight, bias, stride, padding, output_padding, groups, dilation, lowering)


def split_conv_transpose3d(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
    *,
    lowering: str | None = None,
) -> Tensor:
    """``torch.nn.functional.conv_transpose3d`` by ordinary convolutions; see :func:`split_conv_transpose1d`.

    Args:
        input: ``(N, in_channels, D, H, W)`` or ``(in_channels, D, H, W)``.
        weight: ``(in_channels, out_channels // groups, *kernel)``.
        bias, stride, padding, output_padding, groups, dilation, lowering: as there, one number or one for each axis.

    Raises:
        RuntimeError, UsageError: as there.
    """
    return deconvolve(3, input, weight, bias, stride, padding, output_padding, groups, dilation, lowering)


def deconvolve(
    rank: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sizes,
    padding: Sizes,
    output_padding: Sizes,
    groups: int,
    dilation: Sizes,
    lowering: str | None,
) -> Tensor:
    """The deconv of any rank; arguments as in :func:`split_conv_transpose1d`."""
    geometry = Geometry(
        per_axis(stride, rank),
        per_axis(padding, rank),
        per_axis(output_padding, rank),
        groups,
        per_axis(dilation, rank),
    )
    return apply_split(x, weight, bias, (), geometry, lowering)


def apply_split(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    filters: Sequence[Tensor | None],
    geometry: Geometry,
    lowering: str | None,
    packed: bool = False,
) -> Tensor:
    """The deconv, with its filters split beforehand or, where ``filters`` is empty, from the parameters now.

    ``packed`` tells that the filters are in oneDNN's order; inside of a graph tensors do not show it.
    """
    if torch.compiler.is_dynamo_compiling():
        present = [tensor is not None for tensor in filters]
        given = [tensor for tensor in filters if tensor is not None]
        return torch.ops.splitdeconv.conv_transpose(x, weight, bias, given, present, *geometry, lowering, packed)
    return _deconvolve(x, weight, bias, filters, geometry, lowering, packed)


def deconv_of(weight: Tensor, has_bias: bool, geometry: Geometry) -> Deconv:
    """The deconv of a parameter and its arguments, for any batch and input sizes."""
    return _deconv(weight_shape(weight), has_bias, geometry)


def weight_shape(weight: Tensor) -> tuple[int, ...]:
    """The parameter's shape in plain numbers: a program is made for it, so these are no dynamic sizes."""
    return tuple(int(size) for size in weight.shape)


@lru_cache(maxsize=4096)
def plan(
    shape: tuple[int, ...], has_bias: bool, geometry: Geometry, lowering: str | None, channels_last: bool
) -> tuple[Form, Routine]:
    """Form and routine of a call; all that depends on no tensor, worked out once.

    Args:
        shape: of the parameter.
        lowering, channels_last: as :func:`splitdeconv.torch_modules.forms.find_form` takes them.
    """
    deconv = _deconv(shape, has_bias, geometry)
    form = find_form(deconv, lowering, channels_last)
    return form, routine(deconv, form)


@lru_cache(maxsize=4096)
def inference_lowering(shape: tuple[int, ...], has_bias: bool, geometry: Geometry, channels_last: bool) -> str:
    """What the rule takes for inference in float32 on the CPU; arguments as :func:`plan`."""
    return str(inference_form(_deconv(shape, has_bias, geometry), channels_last))


@lru_cache(maxsize=4096)
def _deconv(shape: tuple[int, ...], has_bias: bool, geometry: Geometry) -> Deconv:
    axes = tuple(
        Axis(size, stride, dilation, pad, pad, output_pad)
        for size, stride, dilation, pad, output_pad in zip(
            shape[2:], geometry.stride, geometry.dilation, geometry.padding, geometry.output_padding, strict=True
        )
    )
    out_channels = shape[1] * geometry.groups
    return Deconv(axes, shape[0], out_channels, geometry.groups, batch=None, has_bias=has_bias)


def _deconvolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    filters: Sequence[Tensor | None],
    geometry: Geometry,
    lowering: str | None,
    packed: bool,
) -> Tensor:
    shape = weight_shape(weight)
    rank = len(geometry.stride)
    if not _accepts(shape, None if bias is None else weight_shape(bias), geometry) or not _fits(x, weight, geometry):
        # PyTorch's own message for what cannot be computed, and its own result for what is only unusual (no channels)
        return DECONVS[rank - 1](x, weight, bias, *geometry)
    batched = x if x.dim() == rank + 2 else x.unsqueeze(0)
    last = is_channels_last(batched) or is_channels_last(weight)
    if lowering == BY_RULE:
        lowering = inference_lowering(shape, bias is not None, geometry, last)
    _, found = plan(shape, bias is not None, geometry, lowering, last)
    apply = found.apply_packed if packed else found.apply
    y = apply(batched, filters or found.split(weight, bias))
    y = channels_innermost(y) if last else y.contiguous()  # as PyTorch's own deconv
    return y if x.dim() == rank + 2 else y.squeeze(0)


@lru_cache(maxsize=4096)
def _accepts(shape: tuple[int, ...], bias_shape: tuple[int, ...] | None, geometry: Geometry) -> bool:
    """Whether PyTorch accepts these parameters with these numbers, and there is something to compute."""
    groups = geometry.groups
    if len(shape) != len(geometry.stride) + 2 or groups < 1 or 0 in shape or shape[0] % groups:
        return False
    if bias_shape is not None and bias_shape != (shape[1] * groups,):
        return False
    if min(*geometry.stride, *geometry.dilation) < 1 or min(*geometry.padding, *geometry.output_padding) < 0:
        return False
    largest = map(max, geometry.stride, geometry.dilation)
    return all(pad < most for pad, most in zip(geometry.output_padding, largest, strict=True))


def _fits(x: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    """Whether PyTorch accepts this input for a parameter that it accepts."""
    rank = len(geometry.stride)
    if x.dim() not in (rank + 1, rank + 2) or x.shape[-rank - 1] != weight.shape[0]:
        return False
    if x.layout != torch.strided or weight.layout != torch.strided or x.device != weight.device:
        return False
    least = _least_sizes(weight_shape(weight), geometry)
    # size 1 is not asked for: that would set a guard on dynamic sizes
    return all(size == 1 or x.shape[axis - rank] >= size for axis, size in enumerate(least))


@lru_cache(maxsize=4096)
def _least_sizes(shape: tuple[int, ...], geometry: Geometry) -> tuple[int, ...]:
    """The smallest input size on each axis for which there is an output."""
    axes = _deconv(shape, False, geometry).axes
    return tuple(1 + max(0, -(-(1 - axis.tail) // axis.stride)) for axis in axes)


def per_axis(value: Sizes, rank: int) -> tuple[int, ...]:
    """One entry per axis, from a number or from a sequence of one or ``rank`` entries."""
    if isinstance(value, Sequence):
        entries = tuple(int(each) for each in value)
        return entries * rank if len(entries) == 1 else entries
    return (int(value),) * rank


def pads_around(padding: str | Sizes, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Zeros before and behind each axis that a convolution puts around its input.

    Args:
        padding: as a convolution has it: ``same``, whose larger half is behind, ``valid``, or counts.
        kernel, dilation: of the convolution, by axis.
    """
    if padding == "same":
        reaches = [(size - 1) * gap for size, gap in zip(kernel, dilation, strict=True)]
        return tuple((reach // 2, reach - reach // 2) for reach in reaches)
    counts = (0,) * len(kernel) if isinstance(padding, str) else per_axis(padding, len(kernel))
    return tuple((count, count) for count in counts)


def deconv_weight(weight: Tensor, groups: int) -> Tensor:
    """A convolution's weight ``(out, in // groups, *kernel)`` as a deconv has it, ``(in, out // groups, *kernel)``."""
    grouped = weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
    return grouped.reshape(-1, *grouped.shape[2:])


def is_channels_last(x: Tensor) -> bool:
    """Whether the channels are innermost in memory, as PyTorch's convolutions judge it; told from the strides.

    Asking ``is_contiguous`` for a memory format is not possible under ``vmap``.
    """
    return x.dim() in (4, 5) and bool(x.shape[1] > 1 and x.stride(1) == 1 and x.stride(-1) == x.shape[1])


def _operator(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    filters: list[Tensor],
    present: list[bool],
    stride: list[int],
    padding: list[int],
    output_padding: list[int],
    groups: int,
    dilation: list[int],
    lowering: str | None,
    packed: bool,
) -> Tensor:
    given = iter(filters)
    geometry = Geometry(tuple(stride), tuple(padding), tuple(output_padding), groups, tuple(dilation))
    tensors = [next(given) if here else None for here in present]
    return _deconvolve(x, weight, bias, tensors, geometry, lowering, packed)


LIBRARY = torch.library.Library("splitdeconv", "DEF")
LIBRARY.define(
    "conv_transpose(Tensor x, Tensor weight, Tensor? bias, Tensor[] filters, bool[] present, int[] stride, "
    "int[] padding, int[] output_padding, int groups, int[] dilation, str? lowering, bool packed) -> Tensor"
)
LIBRARY.impl("conv_transpose", _operator, "CompositeImplicitAutograd")
