"""Small ONNX models of a convolution behind an upsampling, or inserted zeros, as exporters write them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from splitdeconv.deconv.weights import Array
from tests.onnx_models import Dims, build

CHANNELS, OUT_CHANNELS = 3, 4
SIZES = (5, 6)
Nodes = tuple[list[onnx.NodeProto], dict[str, Array]]


def node(op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, [output], **attributes)


def numbers(*values: int) -> Array:
    return np.array(values, np.int64)


def kernel_of(shape: Sequence[int], seed: int = 0, dtype: str = "float32") -> Array:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(dtype)


def model_of(
    front: Nodes,
    *,
    dims: Dims = (1, CHANNELS, *SIZES),
    kernel: Array | None = None,
    bias: bool = True,
    after: Sequence[onnx.NodeProto] = (),
    outputs: Mapping[str, Dims] | None = None,
    op_type: str = "Conv",
    opset: int = 17,
    dtype: str = "float32",
    **attributes: Any,
) -> onnx.ModelProto:
    """Input ``x``, the nodes of ``front`` to ``u``, a convolution called ``site`` to ``y``, the nodes ``after`` it."""
    nodes, known = front
    kernel = kernel_of((OUT_CHANNELS, CHANNELS, 3, 3), dtype=dtype) if kernel is None else kernel
    known = {**known, "w": kernel}
    inputs = ["u", "w"]
    if bias:
        out_channels = kernel.shape[0] if op_type == "Conv" else kernel.shape[1]
        known["b"] = kernel_of((out_channels,), 1, dtype)
        inputs.append("b")
    stated = {"pads": [1] * 4, **attributes}
    conv = helper.make_node(op_type, inputs, ["y"], name="site", **{k: v for k, v in stated.items() if v is not None})
    return build(
        [*nodes, conv, *after], {"x": dims}, outputs or {"y": [None] * kernel.ndim}, known, opset=opset, dtype=dtype
    )


def resize(factors: Sequence[float] = (1, 1, 2, 2), **attributes: Any) -> Nodes:
    """Resize by scales, as torch writes it."""
    stated = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", **attributes}
    return [node("Resize", ["x", "", "scales"], "u", **stated)], {"scales": np.array(factors, np.float32)}


def resize_by_sizes(*sizes: int) -> Nodes:
    """Resize by constant spatial sizes, the others computed from the input, as torch writes it."""
    nodes = [
        node("Shape", ["x"], "shape"),
        node("Slice", ["shape", "zero", "two", "zero"], "first"),
        node("Concat", ["first", "last"], "sizes", axis=0),
        node(
            "Resize",
            ["x", "", "", "sizes"],
            "u",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    return nodes, {"zero": numbers(0), "two": numbers(2), "last": numbers(*sizes)}


def recomputed_scale() -> Nodes:
    """``recompute_scale_factor``: spatial sizes by Cast, Mul, Floor, Cast."""
    nodes = [
        node("Shape", ["x"], "shape"),
        node("Slice", ["shape", "two", "four", "zero"], "spatial"),
        node("Slice", ["shape", "zero", "two", "zero"], "first"),
        node("Cast", ["spatial"], "real", to=onnx.TensorProto.FLOAT),
        node("Mul", ["real", "factor"], "product"),
        node("Floor", ["product"], "floor"),
        node("Cast", ["floor"], "last", to=onnx.TensorProto.INT64),
        node("Concat", ["first", "last"], "sizes", axis=0),
        node(
            "Resize",
            ["x", "", "", "sizes"],
            "u",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    return nodes, {"zero": numbers(0), "two": numbers(2), "four": numbers(4), "factor": np.float32([2.0])}


def upsample() -> Nodes:
    return [node("Upsample", ["x", "scales"], "u", mode="nearest")], {"scales": np.array([1, 1, 2, 3], np.float32)}


def repeat_interleave() -> Nodes:
    """Unsqueeze, Expand, Reshape on both axes at once."""
    nodes = [
        node("Unsqueeze", ["x", "axes"], "x6"),
        node("Expand", ["x6", "expanded"], "expand"),
        node("Reshape", ["expand", "joined"], "u"),
    ]
    height, width = SIZES
    return nodes, {
        "axes": numbers(3, 5),
        "expanded": numbers(1, CHANNELS, height, 2, width, 2),
        "joined": numbers(1, CHANNELS, 2 * height, 2 * width),
    }


def keras_tiles() -> Nodes:
    """Unsqueeze–Tile–Reshape on each axis of a channels-last map, Transpose, as tf2onnx writes Keras 3."""
    height, width = SIZES
    nodes = [
        node("Transpose", ["x"], "nhwc", perm=[0, 2, 3, 1]),
        node("Unsqueeze", ["nhwc", "two"], "v_a"),
        node("Tile", ["v_a", "tile_h"], "v_b"),
        node("Reshape", ["v_b", "shape_h"], "v_c"),
        node("Unsqueeze", ["v_c", "three"], "v_d"),
        node("Tile", ["v_d", "tile_w"], "v_e"),
        node("Reshape", ["v_e", "shape_w"], "v_f"),
        node("Transpose", ["v_f"], "u", perm=[0, 3, 1, 2]),
    ]
    return nodes, {
        "two": numbers(2),
        "three": numbers(3),
        "tile_h": numbers(1, 1, 2, 1, 1),
        "tile_w": numbers(1, 1, 1, 2, 1),
        "shape_h": numbers(-1, 2 * height, width, CHANNELS),
        "shape_w": numbers(-1, 2 * height, 2 * width, CHANNELS),
    }


def gather_nd() -> Nodes:
    """nearest-exact by torch's new exporter: Transpose, GatherND of constant places, Transpose."""
    height, width = SIZES
    places = np.stack(np.meshgrid(np.arange(2 * height) // 2, np.arange(2 * width) // 2, indexing="ij"), -1)
    nodes = [
        node("Transpose", ["x"], "hw", perm=[2, 3, 0, 1]),
        node("GatherND", ["hw", "places"], "gathered"),
        node("Transpose", ["gathered"], "u", perm=[2, 3, 0, 1]),
    ]
    return nodes, {"places": places.astype(np.int64)}


def lines() -> Nodes:
    """Each column twice, by Split and Concat, then rows by Resize, as Keras 2 does in 1-D and 3-D."""
    _, width = SIZES
    names = [f"column{n}" for n in range(width)]
    nodes = [
        helper.make_node("Split", ["x"], names, axis=3),
        node("Concat", [name for name in names for _ in range(2)], "wide", axis=3),
        node(
            "Resize",
            ["wide", "", "scales"],
            "u",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
    ]
    return nodes, {"scales": np.array([1, 1, 2, 1], np.float32)}


def ones(stride: int = 2) -> Nodes:
    """A depthwise ConvTranspose of ones."""
    attributes = {"strides": [stride] * 2, "group": CHANNELS, "kernel_shape": [stride] * 2}
    return [node("ConvTranspose", ["x", "ones"], "u", **attributes)], {
        "ones": np.ones((CHANNELS, 1, stride, stride), np.float32)
    }


def one_tap() -> Nodes:
    """Zeros by a depthwise ConvTranspose of one tap."""
    attributes = {"strides": [2, 2], "group": CHANNELS, "kernel_shape": [1, 1], "output_padding": [1, 1]}
    return [node("ConvTranspose", ["x", "one"], "u", **attributes)], {"one": np.ones((CHANNELS, 1, 1, 1), np.float32)}


def upfirdn2d(pads: Sequence[int] = (2, 1)) -> Nodes:
    """Zeros by Reshape, Pad, Reshape, then a Pad, as StyleGAN2 does."""
    height, width = SIZES
    before, behind = pads
    nodes = [
        node("Reshape", ["x", "opened"], "x6"),
        node("Pad", ["x6", "zeros"], "padded"),
        node("Reshape", ["padded", "closed"], "lattice"),
        node("Pad", ["lattice", "around"], "u"),
    ]
    return nodes, {
        "opened": numbers(1, CHANNELS, height, 1, width, 1),
        "zeros": numbers(0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1),
        "closed": numbers(1, CHANNELS, 2 * height, 2 * width),
        "around": numbers(0, 0, before, before, 0, 0, behind, behind),
    }


def scatter_nd() -> Nodes:
    """Slices assigned into zeros: one ScatterND."""
    height, width = SIZES
    shape = (1, CHANNELS, 2 * height, 2 * width)
    grid = np.indices(shape)[:, :, :, ::2, ::2]
    nodes = [
        node("ConstantOfShape", ["shape"], "zeros"),
        node("ScatterND", ["zeros", "places", "x"], "u"),
    ]
    return nodes, {"shape": numbers(*shape), "places": np.moveaxis(grid, 0, -1).astype(np.int64)}


def concat_with_zeros() -> Nodes:
    """Zeros stacked behind each column and each row."""
    height, width = SIZES
    nodes = [
        node("Unsqueeze", ["x", "four"], "columns"),
        node("Concat", ["columns", "zero_columns"], "v_a", axis=4),
        node("Reshape", ["v_a", "wide"], "v_b"),
        node("Unsqueeze", ["v_b", "three"], "v_c"),
        node("Concat", ["v_c", "zero_rows"], "v_d", axis=3),
        node("Reshape", ["v_d", "whole"], "u"),
    ]
    return nodes, {
        "four": numbers(4),
        "three": numbers(3),
        "zero_columns": np.zeros((1, CHANNELS, height, width, 1), np.float32),
        "zero_rows": np.zeros((1, CHANNELS, height, 1, 2 * width), np.float32),
        "wide": numbers(1, CHANNELS, height, 2 * width),
        "whole": numbers(1, CHANNELS, 2 * height, 2 * width),
    }


def skip(order: Sequence[str] = ("v", "s"), factor: int = 2) -> Nodes:
    """The upsampled input beside maps that are as large: itself with zeros behind, and twice that."""
    height, width = SIZES
    grown = [0, 0, 0, 0, 0, 0, (factor - 1) * height, (factor - 1) * width]
    nodes, known = resize((1, 1, factor, factor))
    nodes[0].output[0] = "v"
    nodes += [
        node("Pad", ["x", "grown"], "s"),
        node("Mul", ["s", "two"], "t"),
        node("Concat", list(order), "u", axis=1),
    ]
    return nodes, {**known, "grown": numbers(*grown), "two": np.full((), 2, np.float32)}


def beside(front: Nodes, order: Sequence[str], sizes: Sequence[int], stretched: Sequence[int]) -> Nodes:
    """``front`` as ``v`` in a Concat with ``s``, the input with zeros behind up to the stretched sizes."""
    grown = [0] * 6 + [large - small for large, small in zip(stretched, sizes, strict=True)]
    nodes, known = copy.deepcopy(front[0]), front[1]
    nodes[-1].output[0] = "v"
    nodes.append(node("Concat", list(order), "u", axis=1))
    return [node("Pad", ["x", "grown_to"], "s"), *nodes], {**known, "grown_to": numbers(*grown)}


def then(front: Nodes, nodes: Sequence[Callable[[str, str], onnx.NodeProto]], known: Mapping[str, Array]) -> Nodes:
    """More nodes behind ``front``, in a chain."""
    made, constants = front
    names = [f"v{number}" for number in range(len(nodes))] + ["u"]
    renamed = []
    for each in made:
        named = onnx.NodeProto()
        named.CopyFrom(each)
        named.output[:] = [names[0] if output == "u" else output for output in each.output]
        renamed.append(named)
    more = [make(names[number], names[number + 1]) for number, make in enumerate(nodes)]
    return [*renamed, *more], {**constants, **known}
