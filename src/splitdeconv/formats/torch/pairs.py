"""Modules of an upsampling and a convolution right behind it: found, merged, and as modules of their own.

Before: ``nn.Upsample`` in mode nearest with a whole ``scale_factor``, then ``nn.Conv*d``, in an ``nn.Sequential``.
After: ``nn.Identity``, then ``SplitUpsampledConv*d``: the same convolution, of which only the class has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Weights
from splitdeconv.formats.torch.exchange import change_class, own_class
from splitdeconv.torch_modules.functions import deconv_weight, per_axis
from splitdeconv.torch_modules.upsampled import UPSAMPLED_OF, deconv_behind, refuse_conv, routine_for

NEAREST = ("nearest", "nearest-exact")
CONV_OF = {merged: plain for plain, merged in UPSAMPLED_OF.items()}


@dataclass(frozen=True, slots=True, eq=False)
class UpsampledPair:
    """An upsampling and the convolution behind it.

    Attributes:
        parent: the container of both.
        up_name: name of the upsampling in it.
        path: of the upsampling in the whole model.
        name: of the convolution in the whole model.
        conv: the convolution.
        factor: places for each pixel on each axis.
    """

    parent: nn.Module
    up_name: str
    path: str
    name: str
    conv: Any
    factor: tuple[int, ...]

    def refuse(self) -> str | None:
        """Why the convolution is left alone, or None."""
        return refuse_conv(self.conv, self.factor)

    def deconv(self, shape: tuple[int, ...] | None) -> Deconv:
        """The deconv that the two are; ``shape`` is that of their input, None where it is unknown."""
        deconv, rank = deconv_behind(self.conv, self.factor), len(self.factor)
        if shape is None:
            return deconv
        return deconv.with_in_sizes(shape[0] if len(shape) == rank + 2 else 1, shape[-rank:])

    def parameters(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The convolution's weight as a deconv has it, IOHW, and its bias."""
        return deconv_weight(self.conv.weight, self.conv.groups), self.conv.bias

    def merge(self, lowering: str | None) -> None:
        """Make both one module in their container.

        Raises:
            UsageError: the form refuses this convolution.
        """
        routine_for(self.conv, self.factor, lowering, channels_last=False)
        setattr(self.parent, self.up_name, nn.Identity())
        change_class(self.conv, UPSAMPLED_OF[own_class(self.conv)])
        self.conv.factor, self.conv.lowering = self.factor, lowering

    def alone(self, weights: Weights, lowering: str | None) -> nn.Module:
        """Both as a module of their own, with other weights: as they stand, or where there is a lowering, merged."""
        like = self.conv
        numbers = like.kernel_size, 1, like.padding, like.dilation, like.groups, like.bias is not None
        conv = own_class(like)(like.in_channels, like.out_channels, *numbers)
        with torch.no_grad():
            conv.weight.copy_(deconv_weight(torch.from_numpy(weights.kernel), like.groups))
            if weights.bias is not None:
                conv.bias.copy_(torch.from_numpy(weights.bias))
        up = nn.Upsample(scale_factor=tuple(float(each) for each in self.factor))
        found = nn.Sequential(up, conv)
        if lowering is not None:
            UpsampledPair(found, "0", "0", "1", conv, self.factor).merge(lowering)
        return found.eval()


def pairs(module: nn.Module) -> Iterator[UpsampledPair]:
    """The upsamplings by whole factors in ``module`` with a convolution right behind that is used there alone."""
    uses = Counter(id(each) for _, each in module.named_modules(remove_duplicate=False))
    for where, parent in module.named_modules():
        if type(parent) is not nn.Sequential:
            continue
        for (up_name, up), (name, conv) in pairwise(parent.named_children()):
            factor = _factor(up, conv) if own_class(conv) in UPSAMPLED_OF and uses[id(conv)] == 1 else None
            if factor is not None:
                prefix = f"{where}." if where else ""
                yield UpsampledPair(parent, up_name, prefix + up_name, prefix + name, conv, factor)


def separate(module: nn.Module) -> None:
    """Upsamplings and convolutions again, in the place of merged ones."""
    for parent in module.modules():
        if type(parent) is not nn.Sequential:
            continue
        for (name, _), (_, conv) in pairwise(list(parent.named_children())):
            if own_class(conv) in CONV_OF:
                factor: Any = conv.factor
                setattr(parent, name, nn.Upsample(scale_factor=tuple(float(each) for each in factor)))
                for key in ("factor", "lowering", "_kept"):
                    conv.__dict__.pop(key, None)
                change_class(conv, CONV_OF[own_class(conv)])


def _factor(up: nn.Module, conv: Any) -> tuple[int, ...] | None:
    """Places for each pixel on each axis; None where ``up`` does not repeat pixels, or others watch what it gives."""
    if type(up) is not nn.Upsample or up.mode not in NEAREST or up.scale_factor is None:
        return None
    if up._forward_hooks or up._forward_pre_hooks:
        return None
    rank = len(conv.kernel_size)
    given = up.scale_factor if isinstance(up.scale_factor, tuple) else (up.scale_factor,) * rank
    if len(given) != rank or any(float(each) != int(each) for each in given):
        return None
    return per_axis([int(each) for each in given], rank)
