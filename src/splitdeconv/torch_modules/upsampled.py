"""Nearest upsampling and a convolution as one module, computed as the deconv that they are, in training too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from splitdeconv.deconv.spec import Deconv, WrittenOut
from splitdeconv.deconv.written import goes_before, stretched_axis
from splitdeconv.errors import UsageError
from splitdeconv.torch_modules.axes import channels_innermost
from splitdeconv.torch_modules.cache import KeptFilters, can_keep, keep
from splitdeconv.torch_modules.forms import find_form
from splitdeconv.torch_modules.functions import (
    LIBRARY,
    Sizes,
    deconv_weight,
    is_channels_last,
    pads_around,
    per_axis,
    weight_shape,
)
from splitdeconv.torch_modules.interpret import Routine, routine
from splitdeconv.torch_modules.packed import can_pack

BEFORE, WHOLE = "convolve_first", "native:deconv"  # the forms of those that name none


class SplitUpsampledConv:
    """What the modules of all ranks share: a convolution of a map whose pixels stand ``factor`` times on each axis.

    Parameters and state dict are the convolution's own. Each forward forms the filters from them, as sums taken in
    float64 and rounded once, so that gradients of any order reach the weight. In evaluation mode and without gradients
    they are kept from one call to the next, as long as the parameters do not change.

    Attributes:
        factor: of the upsampling, one for each axis.
        lowering: a form by name (``split_phases``, ``differences``, ``native``); None: one transposed convolution.
    """

    factor: tuple[int, ...]
    lowering: str | None = None
    _kept: KeptFilters | None = None

    def __init__(self, *args: Any, factor: Sizes, lowering: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        module = cast("Any", self)
        self.factor, self.lowering = per_axis(factor, len(module.kernel_size)), lowering
        self.check()

    def check(self) -> None:
        """Raise UsageError for numbers that no deconv has, or a form that refuses them."""
        if reason := refuse_conv(cast("Any", self), self.factor):
            raise UsageError(f"{type(self).__name__}: {reason}")
        routine_for(self, self.factor, self.lowering, channels_last=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """The convolution of the upsampled ``input``, ``(N, in_channels, *sizes)`` or without ``N``."""
        module = cast("Any", self)
        pads = pads_around(module.padding, module.kernel_size, module.dilation)
        around = [pad for pair in pads for pad in pair]
        numbers = list(self.factor), around, list(module.dilation), module.groups, self.lowering
        if not module.training and can_keep((module.weight, module.bias)):
            return self._with_kept(input, pads)
        compute = torch.ops.splitdeconv.upsampled_conv if torch.compiler.is_dynamo_compiling() else _upsampled_conv
        y: Tensor = compute(input, module.weight, module.bias, *numbers)
        return y

    def _with_kept(self, x: Tensor, pads: tuple[tuple[int, int], ...]) -> Tensor:
        """The forward with filters of an earlier call, where these are still right."""
        module, batched = cast("Any", self), x if x.dim() == len(self.factor) + 2 else x.unsqueeze(0)
        weight, bias = module.weight, module.bias
        last = is_channels_last(batched) or is_channels_last(weight)
        numbers = self.factor, pads, tuple(module.dilation), module.groups, self.lowering, last
        found = _planned(weight_shape(weight), bias is not None, *numbers)
        packed_for = tuple(batched.shape) if found.pack is not None and can_pack(batched, (weight, bias)) else ()
        if self._kept is None or not self._kept.serve(found, (weight, bias), packed_for):
            self._kept = keep(found, weight, bias, packed_for)
        apply = found.apply_packed if packed_for else found.apply
        return _as_input(apply(batched, self._kept.filters), x, batched, last)

    def __getstate__(self) -> Mapping[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def extra_repr(self) -> str:
        """The convolution's arguments, the factor, and the form where one was named."""
        text = f"{super().extra_repr()}, factor={self.factor}"  # type: ignore[misc]  # of nn.Module
        return text if self.lowering is None else f"{text}, lowering='{self.lowering}'"


class SplitUpsampledConv1d(SplitUpsampledConv, nn.Conv1d):
    """``torch.nn.Upsample`` in mode nearest and ``torch.nn.Conv1d``.

    Args:
        factor: of the upsampling, a whole number or one for each axis.
        lowering: see :class:`SplitUpsampledConv`; all other arguments as for the convolution, whose stride is 1.
    """


class SplitUpsampledConv2d(SplitUpsampledConv, nn.Conv2d):
    """``torch.nn.Upsample`` in mode nearest and ``torch.nn.Conv2d``; arguments as :class:`SplitUpsampledConv1d`."""


class SplitUpsampledConv3d(SplitUpsampledConv, nn.Conv3d):
    """``torch.nn.Upsample`` in mode nearest and ``torch.nn.Conv3d``; arguments as :class:`SplitUpsampledConv1d`."""


UPSAMPLED_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: SplitUpsampledConv1d,
    nn.Conv2d: SplitUpsampledConv2d,
    nn.Conv3d: SplitUpsampledConv3d,
}


def refuse_conv(conv: Any, factor: Sequence[int]) -> str | None:
    """Why a convolution behind an upsampling by ``factor`` is left alone, or None."""
    if max(conv.stride) > 1:
        return f"the convolution behind the upsampling has stride {max(conv.stride)}, which is no deconv's"
    if conv.padding_mode != "zeros":
        return f"the convolution pads in mode {conv.padding_mode}"
    if min(factor) < 1 or max(factor) < 2:
        return f"factor is {list(factor)}, wanted whole numbers from 1 on, one above 1"
    return None


def routine_for(conv: Any, factor: tuple[int, ...], lowering: str | None, channels_last: bool) -> Routine:
    """What computes ``conv`` behind an upsampling by ``factor``.

    Raises:
        UsageError: there is no such form, or it refuses this convolution.
    """
    shape, pads = weight_shape(conv.weight), pads_around(conv.padding, conv.kernel_size, conv.dilation)
    has_bias = conv.bias is not None
    return _planned(shape, has_bias, factor, pads, tuple(conv.dilation), conv.groups, lowering, channels_last)


def _upsampled_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    factor: list[int],
    around: list[int],
    dilation: list[int],
    groups: int,
    lowering: str | None,
) -> Tensor:
    """The module's forward; ``around`` has the zeros before and behind each axis in turn."""
    batched = x if x.dim() == len(factor) + 2 else x.unsqueeze(0)
    last = is_channels_last(batched) or is_channels_last(weight)
    pads = tuple(zip(around[::2], around[1::2], strict=True))
    numbers = tuple(factor), pads, tuple(dilation), groups, lowering, last
    found = _planned(weight_shape(weight), bias is not None, *numbers)
    return _as_input(found.apply(batched, found.split(weight, bias)), x, batched, last)


def _as_input(y: Tensor, x: Tensor, batched: Tensor, last: bool) -> Tensor:
    """The output in the memory format of the input, and without a batch where that has none."""
    y = channels_innermost(y) if last else y.contiguous()
    return y if batched is x else y.squeeze(0)


LIBRARY.define(
    "upsampled_conv(Tensor x, Tensor weight, Tensor? bias, int[] factor, int[] around, int[] dilation, int groups, "
    "str? lowering) -> Tensor"
)
LIBRARY.impl("upsampled_conv", _upsampled_conv, "CompositeImplicitAutograd")


@lru_cache(maxsize=4096)
def _planned(
    shape: tuple[int, ...],
    has_bias: bool,
    factor: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
    lowering: str | None,
    channels_last: bool,
) -> Routine:
    """The routine of a module, which splits the convolution's own weight; ``shape`` is that weight's."""
    deconv = _deconv(shape, has_bias, factor, pads, dilation, groups)
    name = lowering or (BEFORE if goes_before(deconv) else WHOLE)
    found = routine(deconv, find_form(deconv, name, channels_last))
    return replace(found, split=lambda weight, bias: found.split(deconv_weight(weight, groups), bias))


def deconv_behind(conv: Any, factor: tuple[int, ...]) -> Deconv:
    """The deconv, of open size, that ``conv`` behind an upsampling by ``factor`` is."""
    pads = pads_around(conv.padding, conv.kernel_size, conv.dilation)
    return _deconv(weight_shape(conv.weight), conv.bias is not None, factor, pads, tuple(conv.dilation), conv.groups)


def _deconv(
    shape: tuple[int, ...],
    has_bias: bool,
    factor: tuple[int, ...],
    pads: tuple[tuple[int, int], ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Deconv:
    kernel = shape[2:]
    axes = tuple(
        stretched_axis("repeat", *numbers, None) for numbers in zip(factor, kernel, dilation, pads, strict=True)
    )
    written = WrittenOut("repeat", kernel, dilation)
    return Deconv(axes, shape[1] * groups, shape[0], groups, None, has_bias=has_bias, written_out=written)
