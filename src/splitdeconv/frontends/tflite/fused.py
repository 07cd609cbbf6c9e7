"""What ``--numerics fused`` changes at a site: the distance to the original, and of both to float64."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from splitdeconv import reference
from splitdeconv.frontends.tflite.nodes import Node, zero_points
from splitdeconv.weights import Array, Weights

LARGEST_LSB = 2  # one rounding step for the addition and one for the rescaling go away

_RANGES = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "": (-np.inf, np.inf)}


@dataclass(frozen=True, slots=True)
class FusedDifference:
    """One site under fused numerics, on one input. All numbers are in steps of the output's scale (LSB).

    Attributes:
        site: its id.
        largest: between original and fused, any output.
        share: of outputs that differ at all.
        error_before, error_after: root mean square against float64, of the original and of the fused form.
    """

    site: str
    largest: int
    share: float
    error_before: float
    error_after: float

    @property
    def passed(self) -> bool:
        """Whether the difference is what dropping rounding steps explains."""
        return self.largest <= LARGEST_LSB


def difference(node: Node, x: Array, before: Array, after: Array) -> FusedDifference:
    """Compare two quantised outputs of a site.

    Args:
        node: the site, with its epilogue.
        x: input as stored, NHWC.
        before, after: outputs of the original operators and of the fused form, NHWC.
    """
    wanted = ideal(node, x)
    distance = np.abs(after.astype(np.int64) - before.astype(np.int64))
    errors = [float(np.sqrt(np.mean((found - wanted) ** 2))) for found in (before, after)]
    return FusedDifference(node.id, int(distance.max()), float(np.mean(distance > 0)), *errors)


def ideal(node: Node, x: Array) -> Array:
    """The site in float64, its output in steps of the output's scale; no rounding, only the type's range.

    Args:
        node: a quantised site.
        x: input as stored, NHWC.
    """
    tensors = node.graph.tensors
    source, result = tensors[node.source], tensors[node.result]
    kernel_like = tensors[node.kernel.tensor]
    in_scale = float(source.quantization.scale[0])
    scales = np.asarray(kernel_like.quantization.scale, np.float64)
    stored = node.weights()
    # The channel axis goes last, so that one zero-point and scale for each channel broadcast.
    kernel = np.moveaxis(stored.kernel.astype(np.float64), 1, -1) - zero_points(kernel_like)
    bias = None if stored.bias is None else stored.bias * in_scale * scales
    weights = Weights(np.moveaxis(kernel * scales, -1, 1), bias)
    real = (np.moveaxis(x, -1, 1).astype(np.float64) - zero_points(source)) * in_scale
    y = reference.deconv(real, weights, replace(node.deconv, quant=None))
    low, high = _RANGES[node.epilogue.activation]
    bounds = np.iinfo(node.graph.type_name(node.result))
    steps = np.clip(y, low, high) / float(result.quantization.scale[0]) + zero_points(result)
    return np.moveaxis(np.clip(steps, bounds.min, bounds.max), 1, -1)
