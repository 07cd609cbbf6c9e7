"""Sizes of maps: both ways to make what inference is given, and what is not believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.errors import UsageError
from splitdeconv.formats.onnx import OnnxModel, shapes
from tests.onnx_models import build, load, single
from tests.strategies import integer_tensors

DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 3), Axis(3, 3, 1, 0, 1, 1, 4)), 2, 2, has_bias=True)
_, WEIGHTS = integer_tensors(DECONV, 0, "float32")


def models() -> list[onnx.ModelProto]:
    large = numpy_helper.from_array(np.ones((2, 64, 64), np.float32))
    shape = np.array([1, 2, -1], np.int64)
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["y"], output_shape=[2, 2], strides=[1, 1]),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["s"]),
        helper.make_node("Constant", [], ["c"], value=large),
        helper.make_node("Shape", ["c"], ["d"]),
        helper.make_node("Reshape", ["c", "d"], ["e"]),
    ]
    known = {"w": WEIGHTS.kernel, "shape": shape}
    return [single(DECONV, WEIGHTS), build(nodes, {"x": (1, 2, 3, 4)}, {"s": None, "e": None}, known)]


def inferred(proto: onnx.ModelProto) -> dict[str, tuple[int | None, ...]]:
    found = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    return shapes._merged(shapes._shapes(found.graph))


@pytest.mark.parametrize("number", range(len(models())))
def test_both_ways_give_the_same_shapes(number: int) -> None:
    model = load(models()[number]).ir
    found = inferred(shapes._flat(model))
    assert found == inferred(shapes.ir.to_proto(shapes._stripped(model)))
    assert found == dict(shapes.infer(model).by_name)


def test_output_shape_below_the_input_reaches_what_follows() -> None:
    found = shapes.infer(load(models()[1]).ir).by_name
    assert found["r"] == (None, None, 2, 2)
    assert found["s"] == (1, 2, None)
    assert found["e"] == (2, 64, 64)


def test_large_values_are_left_out() -> None:
    proto = shapes._flat(load(models()[1]).ir)
    assert proto.ByteSize() < 4096


def test_stale_shapes_are_not_believed() -> None:
    model = single(DECONV, WEIGHTS, [helper.make_node("Relu", ["y"], ["z"])], output="z")
    model.graph.value_info.append(helper.make_tensor_value_info("y", 1, [1, 2, 99, 99]))
    assert shapes.infer(load(model).ir).by_name["z"] == (1, 2, 6, 12)


def test_sizes_of_open_inputs_can_be_given() -> None:
    model = load(single(DECONV, WEIGHTS, in_dims=("N", 2, "H", "W")))
    (site,) = model.find({"x": (3, 2, 5, 7)}).sites
    assert (site.deconv.batch, site.deconv.in_sizes) == (3, (5, 7))
    with pytest.raises(UsageError, match="no input 'z'"):
        model.find({"z": (1,)})
    with pytest.raises(UsageError, match="has 4 axes"):
        model.find({"x": (1, 2, 3)})


def test_every_real_model_both_ways(shared: Path) -> None:
    for path in sorted((shared / "models").glob("*.onnx")):
        model = OnnxModel.load(path).ir
        assert inferred(shapes._flat(model)) == inferred(shapes.ir.to_proto(shapes._stripped(model))), path.name
