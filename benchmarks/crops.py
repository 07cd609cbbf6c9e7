"""Deconvs without pads whose output is cropped behind them: the crop kept (native), absorbed, and in every form.

Exporters write such models for frameworks without pads, or with uneven ones: causal audio decoders, Keras' Cropping
layers, FCN's crops. Run on an idle machine: python -m benchmarks.crops [--target onnxruntime] [--budget 60]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

import splitdeconv
from splitdeconv.cli import app
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.bench import NATIVE


@dataclass(frozen=True)
class Layer:
    """A deconv of equal axes, and what is cut off at both ends of each."""

    name: str
    channels: tuple[int, int]
    kernel: int
    stride: int
    sizes: tuple[int, ...]
    crop: tuple[int, int]

    def model(self) -> onnx.ModelProto:
        """Deconv, Slice and Relu."""
        rank, (before, after) = len(self.sizes), self.channels
        weight = np.random.default_rng(0).standard_normal((before, after, *[self.kernel] * rank), np.float32)
        lists = {
            "starts": [self.crop[0]] * rank,
            "ends": [-self.crop[1] or 2**31 - 1] * rank,
            "axes": list(range(2, rank + 2)),
        }
        known = {"w": weight, **{name: np.array(values) for name, values in lists.items()}}
        nodes = [
            helper.make_node("ConvTranspose", ["x", "w"], ["whole"], name=self.name, strides=[self.stride] * rank),
            helper.make_node("Slice", ["whole", *lists], ["cut"]),
            helper.make_node("Relu", ["cut"], ["y"]),
        ]
        shapes: dict[str, list[int | None]] = {"x": [1, before, *self.sizes], "y": [1, after, *[None] * rank]}
        x, y = (helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items())
        constants = [numpy_helper.from_array(values, name) for name, values in known.items()]
        graph = helper.make_graph(nodes, self.name, [x], [y], constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


LAYERS = (
    Layer("audio-causal", (256, 128), 16, 8, (512,), (0, 8)),
    Layer("audio-both", (64, 32), 4, 2, (8192,), (1, 1)),
    Layer("generator", (128, 64), 5, 2, (16, 16), (1, 2)),
    Layer("style", (128, 64), 3, 2, (64, 64), (0, 1)),
    Layer("fcn", (21, 21), 16, 8, (32, 32), (4, 4)),
)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for all layers")
    given = parser.parse_args()
    out = app.console()
    for layer in LAYERS:
        record = splitdeconv.bench(layer.model(), target=given.target, budget=given.budget / len(LAYERS))
        if layer is LAYERS[0]:
            out.print(f"{record.environment.processor}, {given.target} {record.environment.versions}", soft_wrap=True)
        (row,) = record.layers
        absorbed = Candidate("native", "simplified")
        shown = {"native and crop": NATIVE, "absorbed": absorbed, str(row.chosen): row.chosen}
        times = {name: time for name, each in shown.items() if (time := row.time(each)) is not None}
        text = ", ".join(f"{name} {time.median_ms:.3g} ms" for name, time in times.items())
        out.print(f"{layer.name}: {text}; converted {row.ratio(NATIVE, row.chosen) or 1.0:.2f}x", markup=False)
