"""DCGAN's generator for 64×64 images, as the paper counts it: three 5×5 deconvs of stride 2.

Source: Radford et al., arXiv 1511.06434; layers and operation counts as in arXiv 1907.01773.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.spec import Axis, Deconv
from splitdeconv.weights import Array

LATENT = 100
CHANNELS = (256, 128, 64, 3)
SIZE = 8  # of the first map
KERNEL, STRIDE = 5, 2
PADS = (1, 2)  # begin and end, as TensorFlow's SAME does it: the output is exactly twice as large
_DEVIATION = 0.02  # of the initial weights, as in the paper on DCGAN


def deconvs() -> tuple[Deconv, ...]:
    """The deconvs that the network must show: 256→128@8, 128→64@16, 64→3@32."""
    found = []
    for number, (before, after) in enumerate(pairwise(CHANNELS)):
        axis = Axis(KERNEL, STRIDE, 1, *PADS, 0, SIZE * STRIDE**number)
        found.append(Deconv((axis, axis), before, after, has_bias=True))
    return tuple(found)


def build(seed: int = 0) -> onnx.ModelProto:
    """The generator with its initial weights.

    Args:
        seed: of the weights.

    Returns:
        A model with input ``z`` ``(1, 100)`` and output ``image`` ``(1, 3, 64, 64)``, values between −1 and 1.
    """
    rng = np.random.default_rng(seed)
    first = _Part(
        nodes=[
            helper.make_node("MatMul", ["z", "dense/weight"], ["dense"], name="dense"),
            helper.make_node("Reshape", ["dense", "map_shape"], ["map0"], name="reshape"),
        ],
        weights={
            "dense/weight": _normal(rng, LATENT, CHANNELS[0] * SIZE * SIZE),
            "map_shape": np.array([1, CHANNELS[0], SIZE, SIZE], np.int64),
        },
    )
    parts = [first, _norm("norm0", "map0", CHANNELS[0])]
    for number, deconv in enumerate(deconvs(), start=1):
        parts.append(_deconv(rng, f"deconv{number}", f"norm{number - 1}/relu", deconv))
        if deconv.out_channels != CHANNELS[-1]:
            parts.append(_norm(f"norm{number}", f"deconv{number}", deconv.out_channels))
    last = f"deconv{len(CHANNELS) - 1}"
    parts.append(_Part([helper.make_node("Tanh", [last], ["image"], name="tanh")], {}))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, CHANNELS[-1], 64, 64])
    latent = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, LATENT])
    tensors = [numpy_helper.from_array(array, name) for part in parts for name, array in part.weights.items()]
    nodes = [node for part in parts for node in part.nodes]
    graph = helper.make_graph(nodes, "dcgan_generator", [latent], [image], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@dataclass(frozen=True)
class _Part:
    """Some nodes of the network and their weights by name."""

    nodes: list[onnx.NodeProto]
    weights: dict[str, Array]


def _normal(rng: np.random.Generator, *shape: int) -> Array:
    return (rng.standard_normal(shape) * _DEVIATION).astype(np.float32)


def _deconv(rng: np.random.Generator, name: str, source: str, deconv: Deconv) -> _Part:
    """One deconv with its initial weights; its output has its name."""
    begin, end = PADS
    weights = {
        f"{name}/weight": _normal(rng, *deconv.kernel_shape),
        f"{name}/bias": np.zeros(deconv.out_channels, np.float32),
    }
    node = helper.make_node(
        "ConvTranspose",
        [source, *weights],
        [name],
        name=name,
        strides=[STRIDE] * 2,
        pads=[begin, begin, end, end],
        kernel_shape=[KERNEL] * 2,
    )
    return _Part([node], weights)


def _norm(name: str, source: str, channels: int) -> _Part:
    """BatchNormalization and Relu; the output is ``<name>/relu``."""
    initial = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "variance": _DEVIATION**2 * channels}
    weights = {f"{name}/{parameter}": np.full(channels, value, np.float32) for parameter, value in initial.items()}
    nodes = [
        helper.make_node("BatchNormalization", [source, *weights], [name], name=name),
        helper.make_node("Relu", [name], [f"{name}/relu"], name=f"{name}_relu"),
    ]
    return _Part(nodes, weights)
