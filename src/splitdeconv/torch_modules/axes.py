"""Orders of a map's axes, by ``permute``, which exporters know everywhere."""

from __future__ import annotations

from torch import Tensor


def to_nhwc(x: Tensor) -> Tensor:
    """A view of ``(N, C, *sizes)`` as ``(N, *sizes, C)``."""
    return x.permute(0, *range(2, x.dim()), 1)


def to_nchw(x: Tensor) -> Tensor:
    """A view of ``(N, *sizes, C)`` as ``(N, C, *sizes)``."""
    return x.permute(0, x.dim() - 1, *range(1, x.dim() - 1))


def channels_innermost(x: Tensor) -> Tensor:
    """The same ``(N, C, *sizes)``, channels innermost in memory."""
    return to_nchw(to_nhwc(x).contiguous())
