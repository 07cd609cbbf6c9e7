"""One call of a deconv as it was seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.torch_modules.functions import Geometry, deconv_of


@dataclass(frozen=True, slots=True)
class SeenLayer:
    """One call of a deconv as it was seen: everything that a measurement depends on.

    Attributes:
        geometry: numeric arguments.
        deconv: with the batch and the input sizes of the call.
    """

    geometry: Geometry
    deconv: Deconv

    def macs(self) -> int:
        """Multiply-accumulates of the deconv itself."""
        return lower(self.deconv, "NCHW", NATIVE).macs()


def layer_of(x_shape: Sequence[int], weight: Tensor, has_bias: bool, geometry: Geometry) -> SeenLayer:
    """The layer of a call with an input of ``x_shape``, ``(N, C, *sizes)`` or without ``N``."""
    deconv = deconv_of(weight, has_bias, geometry)
    rank = len(deconv.axes)
    batch = int(x_shape[0]) if len(x_shape) == rank + 2 else 1
    return SeenLayer(geometry, deconv.with_in_sizes(batch, [int(size) for size in x_shape[-rank:]]))
