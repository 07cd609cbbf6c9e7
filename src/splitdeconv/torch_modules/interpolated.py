"""A 1×1 convolution behind an interpolation as one module, the convolution first, in training too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.errors import UsageError

NOT_POINTWISE = "its upsampling is {}: only that of nearest pixels makes a deconv of it"
PADDED = "it pads the interpolated map with zeros, which are not there before the interpolation"


class SplitInterpolatedConv:
    """What the modules of all ranks share: a 1×1 convolution of an interpolated map, done before the interpolation.

    Parameters and state dict are the convolution's own, and gradients reach them as ever. It is equal up to rounding,
    because the weights of an interpolation sum to 1.

    Attributes:
        interpolation: what ``torch.nn.functional.interpolate`` is told: ``mode``, ``scale_factor`` or ``size``,
            ``align_corners``, ``recompute_scale_factor``.
    """

    interpolation: Mapping[str, Any]

    def __init__(self, *args: Any, interpolation: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.interpolation = dict(interpolation)
        if reason := refuse_pointwise(cast("Any", self), str(self.interpolation.get("mode"))):
            raise UsageError(f"{type(self).__name__}: {reason}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's own name
        """The convolution of the interpolated ``input``, ``(N, in_channels, *sizes)``."""
        return F.interpolate(super().forward(input), **self.interpolation)  # type: ignore[misc]  # of nn.Module

    def extra_repr(self) -> str:
        """The convolution's arguments, and the interpolation."""
        return f"{super().extra_repr()}, interpolation={self.interpolation}"  # type: ignore[misc]  # of nn.Module


class SplitInterpolatedConv1d(SplitInterpolatedConv, nn.Conv1d):
    """``torch.nn.Upsample`` in mode linear and a 1×1 ``torch.nn.Conv1d``, the convolution first.

    Args:
        interpolation: see :class:`SplitInterpolatedConv`; all other arguments as for the convolution.
    """


class SplitInterpolatedConv2d(SplitInterpolatedConv, nn.Conv2d):
    """Bilinear or bicubic ``torch.nn.Upsample`` and ``torch.nn.Conv2d``; see :class:`SplitInterpolatedConv1d`."""


class SplitInterpolatedConv3d(SplitInterpolatedConv, nn.Conv3d):
    """Trilinear ``torch.nn.Upsample`` and ``torch.nn.Conv3d``; arguments as :class:`SplitInterpolatedConv1d`."""


INTERPOLATED_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv1d: SplitInterpolatedConv1d,
    nn.Conv2d: SplitInterpolatedConv2d,
    nn.Conv3d: SplitInterpolatedConv3d,
}


def refuse_pointwise(conv: Any, mode: str) -> str | None:
    """Why a convolution behind an interpolation of ``mode`` stays behind it, or None."""
    if max(*conv.kernel_size, *conv.stride) > 1:
        return NOT_POINTWISE.format(mode)
    return PADDED if conv.padding not in ("same", "valid") and any(conv.padding) else None


def options_of(up: nn.Upsample) -> dict[str, Any]:
    """What an upsampling module tells ``interpolate``."""
    names = ("size", "scale_factor", "mode", "align_corners", "recompute_scale_factor")
    return {name: value for name in names if (value := getattr(up, name)) is not None}
