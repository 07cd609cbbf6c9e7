"""Upsamplings and the convolutions right behind them made one module each."""

from __future__ import annotations

from contextlib import suppress

from torch import nn

from splitdeconv.errors import UsageError
from splitdeconv.formats.torch.pairs import pairs
from splitdeconv.lowerings import find_lowering
from splitdeconv.pipeline.arguments import checked
from splitdeconv.torch_modules.observe import copy_of


@checked
def merge_upsampling(module: nn.Module, lowering: str | None = None) -> nn.Module:
    """A copy of ``module`` in which upsamplings and the convolutions right behind them are one module each.

    Before: ``nn.Upsample`` in mode nearest with a whole ``scale_factor``, then ``nn.Conv*d``, in an ``nn.Sequential``.
    After: ``nn.Identity``, then ``SplitUpsampledConv*d``: the same convolution, of which only the class has changed. So
    names, parameters, hooks and the state dict are the same, and training goes on. One of another mode and a 1×1
    convolution become ``SplitInterpolatedConv*d``.

    Convolutions of another stride than 1, with pads that are no zeros, or used at several places stay as they are, and
    so do those that ``lowering`` refuses. Nothing is timed or proved: :func:`splitdeconv.torch.convert` does that.

    Args:
        module: which is not changed.
        lowering: a form by name for all of them, or None for one transposed convolution each.

    Raises:
        UsageError: there is no such form.
    """
    if lowering is not None:
        find_lowering(lowering.partition("@")[0].split(":")[0])
    copied = copy_of(module)
    for pair in list(pairs(copied)):
        if pair.refuse() is None:
            with suppress(UsageError):  # the form refuses this one
                pair.merge(lowering)
    return copied
