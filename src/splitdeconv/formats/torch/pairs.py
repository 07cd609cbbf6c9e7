"""Modules of an upsampling and a convolution right behind it: found, merged, and as modules of their own.

Before: ``nn.Upsample`` in mode nearest with a whole ``scale_factor``, then ``nn.Conv*d``, in an ``nn.Sequential``; or
in another mode, and a 1×1 convolution.
After: ``nn.Identity``, then ``SplitUpsampledConv*d`` or ``SplitInterpolatedConv*d``: the same convolution, whose class
alone has changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from splitdeconv.deconv.interpolation import Interpolation, Kind
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Weights
from splitdeconv.formats.index_maps import AxisMap
from splitdeconv.formats.torch.exchange import change_class, own_class
from splitdeconv.formats.written_convs import (
    MAY_SHRINK,
    NO_LARGER,
    ConvGeometry,
    interpolated_note,
    stretched_note,
    written_deconv,
)
from splitdeconv.torch_modules.forms import find_form
from splitdeconv.torch_modules.functions import deconv_weight, per_axis
from splitdeconv.torch_modules.interpolated import INTERPOLATED_OF, options_of, refuse_pointwise
from splitdeconv.torch_modules.upsampled import BEFORE, UPSAMPLED_OF, deconv_behind, refuse_conv, routine_for

if TYPE_CHECKING:
    from typing import TypeGuard

NEAREST = ("nearest", "nearest-exact")
CONV_OF = {merged: plain for each in (UPSAMPLED_OF, INTERPOLATED_OF) for plain, merged in each.items()}
RECOMPUTED = "its upsampling computes its factors from rounded sizes: give it the size, or recompute_scale_factor=None"
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(["linear", "bilinear", "trilinear"], "linear"),
    "bicubic": "cubic",
    "area": "area",
}


@dataclass(frozen=True, slots=True, eq=False)
class Pair(ABC):
    """An upsampling and the convolution behind it.

    Attributes:
        parent: the container of both.
        up_name: name of the upsampling in it.
        path: of the upsampling in the whole model.
        name: of the convolution in the whole model.
        conv: the convolution.
    """

    parent: nn.Module
    up_name: str
    path: str
    name: str
    conv: Any

    @abstractmethod
    def refuse(self, shape: tuple[int, ...] | None = None) -> str | None:
        """Why the convolution is left alone, or None; ``shape`` is that of their input, None where it is unknown."""

    @abstractmethod
    def deconv(self, shape: tuple[int, ...] | None) -> Deconv:
        """The deconv that the two are; ``shape`` as of :meth:`refuse`."""

    @abstractmethod
    def note(self) -> str:
        """What becomes of the upsampling."""

    @abstractmethod
    def merge(self, lowering: str | None) -> None:
        """Make both one module in their container.

        Raises:
            UsageError: the form refuses this convolution.
        """

    @abstractmethod
    def upsampling(self) -> nn.Upsample:
        """An upsampling like theirs."""

    def parameters(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The convolution's weight as a deconv has it, IOHW, and its bias."""
        return deconv_weight(self.conv.weight, self.conv.groups), self.conv.bias

    def alone(self, weights: Weights, lowering: str | None) -> nn.Module:
        """Both as a module of their own, with other weights: as they stand, or where there is a lowering, merged."""
        like = self.conv
        numbers = like.kernel_size, 1, like.padding, like.dilation, like.groups, like.bias is not None
        conv = own_class(like)(like.in_channels, like.out_channels, *numbers)
        with torch.no_grad():
            conv.weight.copy_(deconv_weight(torch.from_numpy(weights.kernel), like.groups))
            if weights.bias is not None:
                conv.bias.copy_(torch.from_numpy(weights.bias))
        found = nn.Sequential(self.upsampling(), conv)
        if lowering is not None:
            replace(self, parent=found, up_name="0", path="0", name="1", conv=conv).merge(lowering)
        return found.eval()


@dataclass(frozen=True, slots=True, eq=False)
class UpsampledPair(Pair):
    """An upsampling of nearest pixels and the convolution behind it.

    Attributes:
        factor: places for each pixel on each axis.
    """

    factor: tuple[int, ...]

    def refuse(self, shape: tuple[int, ...] | None = None) -> str | None:
        return refuse_conv(self.conv, self.factor)

    def deconv(self, shape: tuple[int, ...] | None) -> Deconv:
        deconv, rank = deconv_behind(self.conv, self.factor), len(self.factor)
        if shape is None:
            return deconv
        return deconv.with_in_sizes(shape[0] if len(shape) == rank + 2 else 1, shape[-rank:])

    def note(self) -> str:
        return stretched_note("repeat", self.factor, ["Upsample"], None)

    def merge(self, lowering: str | None) -> None:
        routine_for(self.conv, self.factor, lowering, channels_last=False)
        setattr(self.parent, self.up_name, nn.Identity())
        change_class(self.conv, UPSAMPLED_OF[own_class(self.conv)])
        self.conv.factor, self.conv.lowering = self.factor, lowering

    def upsampling(self) -> nn.Upsample:
        return nn.Upsample(scale_factor=tuple(float(each) for each in self.factor))


@dataclass(frozen=True, slots=True, eq=False)
class InterpolatedPair(Pair):
    """An interpolation and the convolution behind it.

    Attributes:
        options: what ``interpolate`` is told.
    """

    options: Mapping[str, Any]

    @property
    def how(self) -> Interpolation:
        """The interpolation's weights."""
        rank, given = len(self.conv.kernel_size), self.options
        corners = "align_corners" if given.get("align_corners") else "half_pixel"
        scales = tuple(map(float, _each_axis(given.get("scale_factor", ()), rank)))
        sizes = () if scales else tuple(map(int, _each_axis(given["size"], rank)))
        return Interpolation(_KINDS[given["mode"]], corners, scales, sizes)

    def refuse(self, shape: tuple[int, ...] | None = None) -> str | None:
        if (reason := refuse_pointwise(self.conv, self.options["mode"])) is not None:
            return reason
        if self.options.get("recompute_scale_factor") and any(scale % 1 for scale in self.how.scales):
            return RECOMPUTED
        sizes = (None,) * len(self.conv.kernel_size) if shape is None else shape[2:]
        if self.how.enlarges(sizes):
            return None
        return MAY_SHRINK if shape is None and self.how.sizes else NO_LARGER

    def deconv(self, shape: tuple[int, ...] | None) -> Deconv:
        conv, rank = self.conv, len(self.conv.kernel_size)
        batch, _, *sizes = (None,) * (rank + 2) if shape is None else shape
        geometry = ConvGeometry((1,) * rank, (1,) * rank, (1,) * rank, ((0, 0),) * rank, conv.groups, turned=False)
        axes, channels = (AxisMap("repeat", 1, 0, 0),) * rank, (conv.in_channels, conv.out_channels)
        found = written_deconv("interpolate", axes, geometry, channels, batch, sizes, self.how)
        return replace(found, has_bias=conv.bias is not None)

    def note(self) -> str:
        return interpolated_note(self.how, ["Upsample"], None)

    def merge(self, lowering: str | None) -> None:
        find_form(self.deconv(None), lowering or BEFORE, channels_last=False)
        setattr(self.parent, self.up_name, nn.Identity())
        change_class(self.conv, INTERPOLATED_OF[own_class(self.conv)])
        self.conv.interpolation = dict(self.options)

    def upsampling(self) -> nn.Upsample:
        return nn.Upsample(**self.options)


def _each_axis(given: Any, rank: int) -> Sequence[Any]:
    return given if isinstance(given, list | tuple) else (given,) * rank


def pairs(module: nn.Module) -> Iterator[Pair]:
    """The upsamplings in ``module`` with a convolution right behind that is used there alone.

    Of nearest ones only those by whole factors, of others only those in front of 1×1 convolutions are not refused.
    """
    uses = Counter(id(each) for _, each in module.named_modules(remove_duplicate=False))
    for where, parent in module.named_modules():
        if type(parent) is not nn.Sequential:
            continue
        prefix = f"{where}." if where else ""
        for (up_name, up), (name, conv) in pairwise(parent.named_children()):
            if own_class(conv) not in UPSAMPLED_OF or uses[id(conv)] > 1 or not _is_alone(up):
                continue
            place = parent, up_name, prefix + up_name, prefix + name, conv
            if up.mode not in NEAREST:
                yield InterpolatedPair(*place, options_of(up))
            elif (factor := _factor(up, conv)) is not None:
                yield UpsampledPair(*place, factor)


def separate(module: nn.Module) -> None:
    """Upsamplings and convolutions again, in the place of merged ones."""
    for parent in module.modules():
        if type(parent) is not nn.Sequential:
            continue
        for (name, _), (_, conv) in pairwise(list(parent.named_children())):
            if own_class(conv) in CONV_OF:
                setattr(parent, name, _upsampling_of(conv))
                for key in ("factor", "lowering", "interpolation", "_kept"):
                    conv.__dict__.pop(key, None)
                change_class(conv, CONV_OF[own_class(conv)])


def _upsampling_of(merged: Any) -> nn.Upsample:
    if own_class(merged) in UPSAMPLED_OF.values():
        return nn.Upsample(scale_factor=tuple(float(each) for each in merged.factor))
    return nn.Upsample(**merged.interpolation)


def _is_alone(up: nn.Module) -> TypeGuard[nn.Upsample]:
    """Whether it is an upsampling of PyTorch's own that nothing else watches."""
    return type(up) is nn.Upsample and not up._forward_hooks and not up._forward_pre_hooks


def _factor(up: nn.Upsample, conv: Any) -> tuple[int, ...] | None:
    """Places for each pixel on each axis; None where ``up`` does not repeat pixels."""
    rank = len(conv.kernel_size)
    if up.scale_factor is None:
        return None
    given = up.scale_factor if isinstance(up.scale_factor, tuple) else (up.scale_factor,) * rank
    if len(given) != rank or any(float(each) != int(each) for each in given):
        return None
    return per_axis([int(each) for each in given], rank)
