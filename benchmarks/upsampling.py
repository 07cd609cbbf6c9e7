"""Bilinear upsampling as FCN and its successors have it: a deconv of size 2s and stride s with a fixed filter.

Each layer as the model has it (dense with zeros between channels, or depthwise), as a depthwise deconv, as two matrix
products, and in the most promising of the other forms; and as what an exporter would have to write, Resize with zeros
around it. Run on an idle machine: python -m benchmarks.upsampling [--target onnxruntime] [--seconds 4]
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from splitdeconv import formats, targets
from splitdeconv.cli import app
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.structure import dense_of
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.compiling import compile_site, site_inputs
from splitdeconv.pipeline.sites import site_table
from splitdeconv.results.times import ratio, timed
from splitdeconv.targets.target import KEEP_ALL

LAYERS = ((21, 8, 32, True), (21, 32, 16, True), (21, 2, 64, True), (21, 8, 32, False), (256, 2, 32, False))
RESIZE = Candidate("Resize")
OTHERS = 3  # of the other forms, by the generic rule


def kernel(channels: int, stride: int, dense: bool) -> np.ndarray:
    """FCN's filter: 1 in the middle, 0 a stride away from it."""
    line = 1 - np.abs((np.arange(2 * stride) + 0.5) / stride - 1)
    one = np.broadcast_to(np.outer(line, line), (channels, 1, 2 * stride, 2 * stride)).astype(np.float32)
    return dense_of(one) if dense else one


def save(nodes: list[onnx.NodeProto], shape: list[int], constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    x, y = helper.make_tensor_value_info("x", 1, shape), helper.make_tensor_value_info("y", 1, None)
    tensors = [numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = helper.make_graph(nodes, "upsampling", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def deconv_model(channels: int, stride: int, size: int, dense: bool) -> onnx.ModelProto:
    attributes: dict[str, Any] = {"strides": [stride] * 2, "pads": [stride // 2] * 4, "group": 1 if dense else channels}
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="site", **attributes)
    return save([node], [1, channels, size, size], {"w": kernel(channels, stride, dense)})


def resize_model(channels: int, stride: int, size: int) -> onnx.ModelProto:
    """A deconv adds zeros around its input, Resize repeats the border: so zeros first, and a crop after."""
    constants = {
        "pads": np.array([0, 0, 1, 1] * 2),
        "scales": np.array([1, 1, stride, stride], np.float32),
        "starts": np.array([stride] * 2),
        "ends": np.array([-stride] * 2),
        "axes": np.array([2, 3]),
    }
    half = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"]),
        helper.make_node("Resize", ["padded", "", "scales"], ["large"], **half),
        helper.make_node("Slice", ["large", "starts", "ends", "axes"], ["y"]),
    ]
    return save(nodes, [1, channels, size, size], constants)


def one_layer(target: targets.Target, channels: int, stride: int, size: int, dense: bool, seconds: float) -> str:
    """All times of a layer, and how much faster each form is than the model's own."""
    model = formats.from_object(deconv_model(channels, stride, size, dense))
    (site,) = model.find().sites
    options = sorted(site_table(model, site, target).options, key=lambda each: each.cost.macs + each.cost.moved)
    order = [each.candidate for each in options]
    special = [each for each in order if each in (Candidate("native", "simplified"), Candidate("separable"))]
    others = [each for each in order if each not in (NATIVE, *special)][:OTHERS]
    compiled, _ = compile_site(model, site, [NATIVE, *special, *others], target)
    inputs = site_inputs(model, site)
    compiled[RESIZE] = target.compile(Compilable(resize_model(channels, stride, size).SerializeToString()))
    times = timed(target.measure(compiled, inputs, seconds, drop=KEEP_ALL))
    native = times[NATIVE]
    texts = [f"{each} {time.median_ms:.3g} ms ({ratio(native, time):.2f}x)" for each, time in times.items()]
    form = "dense" if dense else "depthwise"
    return f"{channels} channels {2 * stride}x{2 * stride}/{stride} @{size}, {form}: " + ", ".join(texts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each layer")
    given = parser.parse_args()
    found, out = targets.target(given.target), app.console()
    out.print(f"{found.environment().processor}, {given.target} {found.environment().versions}", soft_wrap=True)
    for layer in LAYERS:
        out.print(one_layer(found, *layer, given.seconds), soft_wrap=True, markup=False)
