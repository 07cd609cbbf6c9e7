"""The models that the examples of the documentation begin with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.deconv.weights import Array

LATENT, SIZE, KERNEL, CHANNELS = 100, 8, 5, (256, 128, 64, 3)


def generator(path: str | Path, *, size: int | str = SIZE, channels: Sequence[int] = CHANNELS) -> None:
    """A DCGAN generator with random weights: 5×5/2 deconvs with ReLU between them.

    Args:
        path: where to write it.
        size: of the first map; a name leaves it open, and there is no dense layer before it then.
        channels: of the maps; one deconv between any two.
    """
    rng = np.random.default_rng(0)
    weights: dict[str, Array] = {}
    nodes: list[onnx.NodeProto] = []

    def node(kind: str, inputs: list[str], output: str, arrays: list[Array], **attributes: Any) -> str:
        names = [f"{output}/{number}" for number in range(len(arrays))]
        weights.update(zip(names, arrays, strict=True))
        nodes.append(helper.make_node(kind, [*inputs, *names], [output], name=output, **attributes))
        return output

    def drawn(*shape: int) -> Array:
        return (0.02 * rng.standard_normal(shape)).astype(np.float32)

    map_shape = [1, channels[0], size, size]
    value, in_shape = "features", map_shape
    if size == SIZE:
        value = node("Gemm", ["z"], "dense", [drawn(LATENT, channels[0] * SIZE**2)])
        value, in_shape = node("Reshape", [value], "map", [np.array(map_shape, np.int64)]), [1, LATENT]
    for number, (before, after) in enumerate(pairwise(channels), start=1):
        value = node("Relu", [value], f"relu{number}", [])
        arrays = [drawn(before, after, KERNEL, KERNEL), drawn(after)]
        value = node("ConvTranspose", [value], f"deconv{number}", arrays, strides=[2, 2], pads=[1, 1, 2, 2])
    node("Tanh", [value], "image", [])
    out_size = 2 ** (len(channels) - 1) * SIZE if size == SIZE else None
    out_shape = [1, channels[-1], out_size, out_size]
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info("z" if size == SIZE else "features", TensorProto.FLOAT, in_shape)],
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, out_shape)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def vocoder(path: str | Path) -> None:
    """Two deconvs with dilated convolutions and a shortcut, of any number of frames.

    Args:
        path: where to write it.
    """
    rng = np.random.default_rng(0)
    shapes = {"up1": (16, 8, 8), "up2": (8, 4, 4), "conv1": (8, 8, 3), "conv2": (1, 4, 5)}
    weights = {name: (0.2 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("ConvTranspose", ["mel", "up1"], ["a"], name="up1", strides=[4], pads=[2, 2]),
        helper.make_node("LeakyRelu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "conv1"], ["c"], name="conv1", dilations=[3], pads=[3, 3]),
        helper.make_node("Add", ["c", "a"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "up2"], ["e"], name="up2", strides=[2], pads=[1, 1]),
        helper.make_node("Conv", ["e", "conv2"], ["f"], name="conv2", pads=[2, 2]),
        helper.make_node("Tanh", ["f"], ["wave"]),
    ]
    inputs = [helper.make_tensor_value_info("mel", TensorProto.FLOAT, [1, 16, "frames"])]
    outputs = [helper.make_tensor_value_info("wave", TensorProto.FLOAT, [1, 1, "samples"])]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "vocoder", inputs, outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
