"""How often the same model, compiled several times, is found faster than itself: the check of the noise rule.

Every win here is false. The largest ratio between two copies shows what ``SMALLEST_GAIN`` has to cover.
"""

from __future__ import annotations

import argparse
from itertools import permutations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.targets import Target, target
from splitdeconv.targets.target import KEEP_ALL

LAYERS = {"64 channels @8": (64, 8), "64 channels @32": (64, 32), "128 channels @64": (128, 64)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", help="default: onnxruntime and openvino")
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each trial")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    print(f"{'target':<14}{'layer':<20}{'rounds':>8}{'largest ratio':>15}{'false wins':>12}{'without floor':>15}")
    for name in options.target or ["onnxruntime", "openvino"]:
        runtime = target(name, threads=options.threads)
        for layer, (channels, size) in LAYERS.items():
            report(runtime, layer, channels, size, options)


def report(runtime: Target, layer: str, channels: int, size: int, options: argparse.Namespace) -> None:
    model, x = conv_model(channels, size)
    pairs = wins = bare_wins = rounds = 0
    ratio = 1.0
    for _ in range(options.trials):
        copies = {Candidate(f"copy {number}"): runtime.compile(model) for number in range(options.copies)}
        times = list(runtime.measure(copies, {"x": x}, options.seconds, drop=KEEP_ALL).values())
        medians = [time.median_ms for time in times]
        ratio = max(ratio, max(medians) / min(medians))
        rounds = min(time.rounds for time in times)
        for one, other in permutations(times, 2):
            pairs += 1
            wins += times.wins(one, other)
            bare_wins += times.wins(one, other, smallest_gain=0.0)
    shares = f"{100 * wins / pairs:>11.1f}%{100 * bare_wins / pairs:>14.1f}%"
    print(f"{runtime.name:<14}{layer:<20}{rounds:>8}{ratio:>15.3f}{shares}", flush=True)


def conv_model(channels: int, size: int) -> tuple[bytes, np.ndarray]:
    """A 3×3 convolution of ``x``, and an input for it."""
    rng = np.random.default_rng(0)
    shape = (1, channels, size, size)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(rng.random((channels, channels, 3, 3), np.float32), "w")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), rng.random(shape, np.float32)


if __name__ == "__main__":
    main()
