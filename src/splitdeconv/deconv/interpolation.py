"""Interpolation of a map by weights whose sum is 1 for every output: linear, cubic, and means over areas.

Because of that sum a 1×1 convolution, its bias included, may come before it or behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["linear", "cubic", "area"]
COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")


@dataclass(frozen=True, slots=True)
class Interpolation:
    """How the spatial axes of a map are interpolated, each channel alike.

    Attributes:
        kind: ``linear`` between the two nearest pixels of an axis, ``cubic`` between four, or the mean of the pixels
            of an ``area``.
        coordinates: where the outputs lie among the pixels, one of ``COORDINATES`` (ONNX's names); not of areas.
        scales: outputs for each pixel, by axis; empty where ``sizes`` are fixed.
        sizes: of the output, by axis; empty where it is ``scales`` times as large, rounded down.
        coefficient: of the cubic, ONNX's ``cubic_coeff_a``.
        excludes: whether a cubic leaves out what lies beyond the border, where others read the border's pixel.
    """

    kind: Kind
    coordinates: str = "half_pixel"
    scales: tuple[float, ...] = ()
    sizes: tuple[int, ...] = ()
    coefficient: float = -0.75
    excludes: bool = False

    def out_sizes(self, in_sizes: Sequence[int | None]) -> tuple[int | None, ...]:
        """Sizes of the output; None for those that are unknown."""
        if self.sizes:
            return self.sizes
        sizes = zip(in_sizes, self.scales, strict=True)
        return tuple(None if size is None else math.floor(size * scale) for size, scale in sizes)

    def enlarges(self, in_sizes: Sequence[int | None]) -> bool:
        """Whether no axis becomes smaller, and one larger; not where that is unknown."""
        if self.scales:
            return min(self.scales) >= 1 < max(self.scales)
        known = [(size, found) for size, found in zip(in_sizes, self.sizes, strict=True) if size is not None]
        return len(known) == len(self.sizes) and all(n <= m for n, m in known) and any(n < m for n, m in known)

    def gain(self, in_sizes: Sequence[int | None]) -> float:
        """Outputs for each pixel; open sizes count as 1."""
        if self.scales:
            return math.prod(self.scales)
        return math.prod(size / (before or 1) for before, size in zip(in_sizes, self.sizes, strict=True))
