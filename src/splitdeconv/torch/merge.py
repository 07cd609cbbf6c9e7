"""Upsamplings and the convolutions right behind them made one module each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

from torch import nn

from splitdeconv.errors import UsageError
from splitdeconv.formats.torch.exchange import change_class, own_class
from splitdeconv.lowerings import find_lowering
from splitdeconv.pipeline.arguments import checked
from splitdeconv.torch_modules.functions import per_axis
from splitdeconv.torch_modules.observe import copy_of
from splitdeconv.torch_modules.upsampled import UPSAMPLED_OF, refuse_conv, routine_for

NEAREST = ("nearest", "nearest-exact")


@checked
def merge_upsampling(module: nn.Module, lowering: str | None = None) -> nn.Module:
    """A copy of ``module`` in which upsamplings and the convolutions right behind them are one module each.

    Before: ``nn.Upsample`` in mode nearest with a whole ``scale_factor``, then ``nn.Conv*d``, in an ``nn.Sequential``.
    After: ``nn.Identity``, then ``SplitUpsampledConv*d``: the same convolution, of which only the class has changed. So
    names, parameters, hooks and the state dict are the same, and training goes on.

    Convolutions of another stride than 1, with pads that are no zeros, or used at several places stay as they are, and
    so do those that ``lowering`` refuses.

    Args:
        module: which is not changed.
        lowering: a form by name for all of them, or None for one transposed convolution each.

    Raises:
        UsageError: there is no such form.
    """
    if lowering is not None:
        find_lowering(lowering.partition("@")[0].split(":")[0])
    copied = copy_of(module)
    for parent, name, conv, factor in list(_pairs(copied)):
        with suppress(UsageError):  # the form refuses this one
            routine_for(conv, factor, lowering, channels_last=False)
            setattr(parent, name, nn.Identity())
            change_class(conv, UPSAMPLED_OF[own_class(conv)])
            conv.factor, conv.lowering = factor, lowering
    return copied


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, Any, tuple[int, ...]]]:
    """Each container with the name of an upsampling in it, the convolution behind that, and the factors."""
    uses = Counter(id(each) for _, each in module.named_modules(remove_duplicate=False))
    for parent in module.modules():
        if type(parent) is not nn.Sequential:
            continue
        for (name, up), (_, conv) in pairwise(parent.named_children()):
            factor = _factor(up, conv) if own_class(conv) in UPSAMPLED_OF and uses[id(conv)] == 1 else None
            if factor is not None and refuse_conv(conv, factor) is None:
                yield parent, name, conv, factor


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
