"""What ``--numerics fused`` changes at a site: the distance to the original, and of both to float64."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.units import zero_point
from splitdeconv.results.verdict import FusedDifference

_RANGES = {"RELU": (0.0, np.inf), "RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), "": (-np.inf, np.inf)}


def difference(node: Node, x: Array, before: Array, after: Array) -> FusedDifference:
    """Compare two quantised outputs of a site.

    Args:
        node: the site, with its epilogue.
        x: input as stored, NHWC.
        before, after: outputs of the original operators and of the fused form, NHWC.
    """
    wanted, clips = _ideal(node, x)
    distance = np.abs(after.astype(np.int64) - before.astype(np.int64))
    error_before, error_after = (float(np.sqrt(np.mean((found - wanted) ** 2))) for found in (before, after))
    largest = int(np.where(clips, 0, distance).max())
    return FusedDifference(
        node.id, largest, float(np.mean(distance > 0)), float(np.mean(clips)), error_before, error_after, _bound(node)
    )


def _bound(node: Node) -> int:
    """Largest difference in steps of the result that dropped rounding steps explain."""
    dropped = [node.output, *(node.graph.outputs_of(operator)[0] for operator in node.epilogue.operators[:-1])]
    scales = [float(node.graph.tensors[tensor].quantization.scale[0]) for tensor in dropped]
    result = float(node.graph.tensors[node.result].quantization.scale[0])
    return math.ceil(sum(0.5 * scale / result for scale in scales) + 1.0)


def _ideal(node: Node, x: Array) -> tuple[Array, Array]:
    """The site in float64, in steps of its output's scale; and where the original clips before its last operator."""
    stored, result = node.weights(), node.graph.tensors[node.result]
    quant = stored.quant
    assert quant is not None, "only quantised sites have steps"
    real = (np.moveaxis(x, -1, 1).astype(np.float64) - quant.x_zero) * float(quant.x_scale)
    y = reference.definition(real, stored.as_real(node.deconv.groups), replace(node.deconv, quant=None))
    low, high = _RANGES[node.epilogue.activation]
    bounds = np.iinfo(node.graph.type_name(node.result))
    steps = np.clip(_steps(y, result), bounds.min, bounds.max)
    steps = np.clip(steps, _steps(np.asarray(low), result), _steps(np.asarray(high), result))
    return np.moveaxis(steps, 1, -1), np.moveaxis(_clips(node, y, quant.sum_unit), 1, -1)


def _steps(real: Array, like: Any) -> Array:
    """Real values in steps of a tensor's scale."""
    return np.asarray(real / float(like.quantization.scale[0]) + zero_point(like))


def _clips(node: Node, y: Array, unit: Array) -> Array:
    """Where an operator before the last leaves its range; ``y`` is NCHW, ``unit`` the bias's for each channel."""
    bounds = np.iinfo(node.graph.type_name(node.result))
    added = 0.0 if node.epilogue.added is None else node.epilogue.added * unit
    stages = [(node.output, y - np.broadcast_to(added, (y.shape[1],))[:, None, None])]
    stages += [(node.graph.outputs_of(operator)[0], y) for operator in node.epilogue.operators[:-1]]
    found = np.zeros(y.shape, bool)
    for tensor, real in stages:
        steps = _steps(real, node.graph.tensors[tensor])
        found |= (steps < bounds.min) | (steps > bounds.max)
    return found
