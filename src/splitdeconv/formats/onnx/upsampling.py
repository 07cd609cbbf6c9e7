"""Resize, Upsample, Pad and depthwise ConvTranspose, run on arrays of elements' numbers.

Source: ONNX operators Resize-10, -11, -13, -18, -19, Upsample-7, -9, -10, Pad-1, -2, -11, -13, -18. Coordinates are
computed in float32, as runtimes do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.interpolation import COORDINATES, Interpolation
from splitdeconv.deconv.ops import Shape
from splitdeconv.deconv.weights import Array
from splitdeconv.formats import index_maps
from splitdeconv.formats.onnx.geometry import RunTimeGeometryError, axes_from, read_attributes
from splitdeconv.formats.written_convs import UNKNOWN_SIZE

Inputs = Sequence[Array | None]
_FIRST = 11  # opset in which the places of interpolated pixels are defined


def resized(node: ir.Node, inputs: Inputs, opset: int) -> Array | None:
    """``inputs[0]`` as a Resize or Upsample in mode nearest makes it; None in other modes."""
    x = inputs[0]
    assert x is not None, "its map is there"
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if attributes.get("mode", "nearest") != "nearest":
        return None
    axes = [axis % x.ndim for axis in attributes.get("axes") or range(x.ndim)]
    sizes = _sizes(node, inputs, attributes, x.shape, axes)
    if sizes is None:
        return None
    for axis, (scale, size) in zip(axes, sizes, strict=True):
        places = _nearest(x.shape[axis], size, scale, attributes, node.op_type == "Resize" and opset >= 11)
        if places is None:
            return None
        x = np.take(x, places, axis=axis)
    return x


def _sizes(
    node: ir.Node, inputs: Inputs, attributes: dict[str, object], shape: tuple[int, ...], axes: Sequence[int]
) -> list[tuple[np.float32, int]] | None:
    """Scale and output size of each of ``axes``."""
    scales = attributes.get("scales") if node.op_type == "Upsample" else None
    place = 2 if len(inputs) > 2 else 1
    if scales is None and len(inputs) > place:
        scales = inputs[place]
    wanted = inputs[3] if len(inputs) > 3 else None
    if wanted is not None and wanted.size:
        if attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch" or wanted.size != len(axes):
            return None
        return [(np.float32(int(n) / shape[axis]), int(n)) for axis, n in zip(axes, wanted, strict=True)]
    factors = np.asarray([] if scales is None else scales, np.float32).reshape(-1)
    if factors.size != len(axes):
        return None
    return [(scale, int(np.floor(shape[axis] * scale))) for axis, scale in zip(axes, factors, strict=True)]


def _nearest(size: int, out_size: int, scale: np.float32, attributes: dict[str, object], is_new: bool) -> Array | None:
    """For each output the input that is nearest to its coordinate."""
    if size == out_size:
        return np.arange(size)
    outputs: Array = np.arange(out_size, dtype=np.float32)
    x: Array
    half = np.float32(0.5)
    match attributes.get("coordinate_transformation_mode", "half_pixel") if is_new else "asymmetric":
        case "asymmetric":
            x = outputs / scale
        case "half_pixel":
            x = (outputs + half) / scale - half
        case "pytorch_half_pixel":
            x = (outputs + half) / scale - half if out_size > 1 else outputs * 0
        case "tf_half_pixel_for_nn":
            x = (outputs + half) / scale
        case "align_corners" if out_size > 1:
            x = outputs * np.float32(size - 1) / np.float32(out_size - 1)
        case "align_corners":
            x = outputs * 0
        case "half_pixel_symmetric":
            adjusted = np.float32(out_size) / (scale * np.float32(size))
            offset = np.float32(size) / 2 * (1 - adjusted)
            x = offset + (outputs + half) / scale - half
        case _:
            return None
    rule = attributes.get("nearest_mode", "round_prefer_floor") if is_new else "floor"
    rounded = {
        "floor": np.floor(x),
        "ceil": np.ceil(x),
        "round_prefer_floor": np.ceil(x - half),
        "round_prefer_ceil": np.floor(x + half),
    }.get(str(rule))
    return None if rounded is None else np.clip(rounded, 0, size - 1).astype(np.int64)


def interpolation(
    node: ir.Node, inputs: Inputs, shape: Shape, out_shape: Shape, opset: int
) -> Interpolation | str | None:
    """How a Resize of a map of ``shape`` interpolates its spatial axes; why not by weights that sum to 1; or None.

    Args:
        inputs: the constants among its inputs.
    """
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    kind, where = attributes.get("mode", "nearest"), str(attributes.get("coordinate_transformation_mode", "half_pixel"))
    if kind == "nearest" or opset < _FIRST:
        return None
    if kind not in ("linear", "cubic") or where not in COORDINATES or attributes.get("antialias"):
        smooth = ", smoothed" if attributes.get("antialias") else ""
        return f"the weights of its upsampling ({kind}, {where}{smooth}) are not known to sum to 1 everywhere"
    cubic = (float(attributes.get("cubic_coeff_a", -0.75)), bool(attributes.get("exclude_outside", 0)))
    by_kind = cubic if kind == "cubic" else ()
    scales = inputs[2] if len(inputs) > 2 else None
    if scales is not None and scales.size:
        chosen = [axis % len(shape) for axis in attributes.get("axes") or range(len(shape))]
        by_axis = {axis: float(scale) for axis, scale in zip(chosen, scales.astype(np.float32), strict=True)}
        found = tuple(by_axis.get(axis, 1.0) for axis in range(len(shape)))
        return Interpolation(kind, where, found[2:], (), *by_kind) if found[:2] == (1, 1) else None
    sizes = tuple(size for size in out_shape[2:] if size is not None)
    if len(sizes) < len(shape) - 2 or attributes.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        return UNKNOWN_SIZE
    return Interpolation(kind, where, (), sizes, *by_kind) if shape[:2] == out_shape[:2] else None


def padded(node: ir.Node, inputs: Inputs, opset: int, zero: int, other: int) -> Array | None:
    """``inputs[0]`` with its pads; those of mode constant hold ``zero``, or ``other`` where that is not their value."""
    x = inputs[0]
    assert x is not None, "its map is there"
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    if opset >= 11:
        counts, value, chosen = ((*inputs, None, None, None)[place] for place in (1, 2, 3))
    else:
        counts = np.asarray(attributes.get("pads") or attributes.get("paddings") or [], np.int64)
        value, chosen = np.asarray(attributes.get("value", 0.0)), None
    axes = range(x.ndim) if chosen is None else [int(axis) % x.ndim for axis in chosen.reshape(-1)]
    if counts is None or counts.size != 2 * len(axes):
        return None
    widths = [(0, 0)] * x.ndim
    for axis, begin, end in zip(axes, counts[: len(axes)], counts[len(axes) :], strict=True):
        widths[axis] = (int(begin), int(end))
    x = x[tuple(slice(max(0, -b), n - max(0, -e)) for (b, e), n in zip(widths, x.shape, strict=True))]
    grown = [(max(0, b), max(0, e)) for b, e in widths]
    match attributes.get("mode", "constant"):
        case "constant":
            filling = zero if value is None or not np.any(value) else other
            return np.pad(x, grown, constant_values=filling)
        case "edge" | "reflect" | "wrap" as mode:
            return np.pad(x, grown, mode=mode)
    return None


def spread(node: ir.Node, inputs: Inputs) -> Array | None:
    """``inputs[0]`` by a depthwise ConvTranspose of ones that do not overlap; None for any other."""
    x, kernel = inputs[0], inputs[1]
    if x is None or kernel is None or (len(inputs) > 2 and inputs[2] is not None and np.any(inputs[2])):
        return None
    try:
        attributes = read_attributes(node)
        axes = axes_from(attributes, kernel.shape[2:], x.shape[2:])
    except (ValueError, RunTimeGeometryError):
        return None
    return index_maps.spread(x, kernel, axes, attributes.get("group", 1))
