"""What an operator behind a rewritten deconv could take over from its rearrangement, against leaving it there.

* ``skip``: a convolution of the concatenation of the result and a skip connection, and two convolutions, whose results
  are added, without the concatenation.
* ``pointwise``: a 1×1 convolution of the result, and the same (grouped, a group for each phase) before the
  rearrangement, so that fewer channels are rearranged.
* ``crop``: a crop between the rearrangement and an unpadded 3×3 convolution, and the crop behind that convolution,
  which then computes what is cut off.

Both of a pair give equal bits on whole numbers, which is checked. Run on an idle machine:

    python -m benchmarks.rearrangements [--target onnxruntime] [--seconds 4]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.pipeline.in_model import race
from splitdeconv.results.times import comparison, timed
from splitdeconv.targets import target as find_target

LAYERS = ((256, 128, 16), (128, 64, 32), (64, 32, 64), (32, 16, 128))  # channels before and after, width of the map
Network = tuple[list[onnx.NodeProto], dict[str, Array]]
Pair = Callable[[int, int], tuple[Network, Network]]


def weights(*shape: int) -> Array:
    """Small whole numbers, so that every order of sums gives equal bits."""
    return np.random.default_rng(sum(shape)).integers(-2, 3, shape).astype(np.float32)


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """A node whose inputs are named in one text."""
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def deconv(ins: int, outs: int) -> tuple[onnx.NodeProto, onnx.NodeProto, dict[str, Array]]:
    """A 4×4/2 deconv without the rearrangement, the rearrangement, and the weights."""
    convolution = node("Conv", "x w", "phases", pads=[1, 1, 1, 1])
    return convolution, node("DepthToSpace", "phases", "map", blocksize=2), {"w": weights(4 * outs, ins, 3, 3)}


def skip(ins: int, outs: int) -> tuple[Network, Network]:
    """A concatenation, and none."""
    convolution, rearrangement, known = deconv(ins, outs)
    consumer = weights(outs, 2 * outs, 3, 3)
    joined = [node("Concat", "map z", "both", axis=1), node("Conv", "both v", "y", pads=[1, 1, 1, 1])]
    apart = [
        node("Conv", "map v0", "a", pads=[1, 1, 1, 1]),
        node("Conv", "z v1", "b", pads=[1, 1, 1, 1]),
        node("Add", "a b", "y"),
    ]
    first = ([convolution, rearrangement, *joined], {**known, "v": consumer})
    return first, ([convolution, rearrangement, *apart], {**known, "v0": consumer[:, :outs], "v1": consumer[:, outs:]})


def pointwise(ins: int, outs: int) -> tuple[Network, Network]:
    """A 1×1 convolution to a quarter of the channels behind the rearrangement, and before it."""
    convolution, rearrangement, known = deconv(ins, outs)
    fewer = max(1, outs // 4)
    small = weights(fewer, outs, 1, 1)
    before = [node("Conv", "phases v", "less", group=4), node("DepthToSpace", "less", "y", blocksize=2)]
    first = ([convolution, rearrangement, node("Conv", "map v", "y")], {**known, "v": small})
    return first, ([convolution, *before], {**known, "v": np.tile(small, (4, 1, 1, 1))})


def crop(ins: int, outs: int) -> tuple[Network, Network]:
    """A crop of one pixel before an unpadded convolution, and behind it."""
    convolution, rearrangement, known = deconv(ins, outs)
    consumer = {"v": weights(outs, outs, 3, 3)}
    cut = {"starts": np.array([1, 1]), "ends": np.array([-1, -1]), "axes": np.array([2, 3])}
    before = [node("Slice", "map starts ends axes", "less"), node("Conv", "less v", "y")]
    behind = [node("Conv", "map v", "more"), node("Slice", "more starts ends axes", "y")]
    known = {**known, **consumer, **cut}
    return ([convolution, rearrangement, *before], known), ([convolution, rearrangement, *behind], known)


PAIRS: dict[str, Pair] = {"skip": skip, "pointwise": pointwise, "crop": crop}


def model(network: Network, ins: int, outs: int, width: int) -> Compilable:
    """A network as a model of ``x``, and of ``z`` where it has a skip connection."""
    nodes, known = network
    shapes = {"x": [1, ins, width, width], "z": [1, outs, 2 * width, 2 * width]}
    read = {name for each in nodes for name in each.input}
    inputs = [helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items() if name in read]
    constants = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in known.items()]
    graph = helper.make_graph(nodes, "pair", inputs, [helper.make_tensor_value_info("y", 1, None)], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return Compilable(made.SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each pair")
    asked = parser.parse_args()
    target = find_target(asked.target)
    for name, pair in PAIRS.items():
        for ins, outs, width in LAYERS:
            behind, moved = (model(each, ins, outs, width) for each in pair(ins, outs))
            feeds = {"x": weights(1, ins, width, width), "z": weights(1, outs, 2 * width, 2 * width)}
            feeds = feeds if name == "skip" else {"x": feeds["x"]}
            exact = target.in_full_precision()
            found = [next(iter(exact.compile(each, whole=True).run(feeds).values())) for each in (behind, moved)]
            np.testing.assert_array_equal(found[0], found[1])
            times = timed(race(target, {"behind": behind, "moved": moved}, feeds, asked.seconds))
            before = times["behind"]
            print(
                f"{name} {ins}→{outs} @{width}: {before.median_ms:.3g} ms, moved {comparison(times['moved'], before)}"
            )


if __name__ == "__main__":
    main()
