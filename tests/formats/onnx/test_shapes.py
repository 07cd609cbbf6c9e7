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
    return dict(shapes._read(shapes._inferred(proto).graph).by_name)


@pytest.mark.parametrize("number", range(len(models())))
def test_both_ways_give_the_same_shapes(number: int) -> None:
    model = load(models()[number]).ir
    found = inferred(shapes._flat(model))
    assert found == inferred(shapes.ir.to_proto(shapes._stripped(model)))
    assert found == dict(shapes.infer(model).by_name)


def test_output_shape_below_the_input_reaches_what_follows() -> None:
    found = shapes.infer(load(models()[1]).ir).by_name
    assert found["r"] == (1, 2, 2, 2)
    assert found["s"] == (1, 2, 4)
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


SLICE = {"starts": np.array([1, 1]), "ends": np.array([9, 9]), "axes": np.array([2, 3])}


def sliced(in_dims: tuple[int | None, ...], pads: list[int]) -> onnx.ModelProto:
    """A deconv and two crops behind it."""
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["a"], name="site", strides=[2, 2], pads=pads),
        helper.make_node("Slice", ["a", *SLICE], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Slice", ["c", *SLICE], ["y"]),
    ]
    known = {"w": np.ones((2, 2, 3, 3), np.float32), **SLICE}
    return build(nodes, {"x": in_dims}, {"y": [None] * 4}, known)


def test_a_size_of_minus_one_is_open() -> None:
    """Inference would abort the whole process at the crop behind it."""
    model = load(sliced((1, 2, -1, 5), [0] * 4))
    assert shapes.infer(model.ir).by_name["a"] == (1, 2, None, 11)
    assert shapes.infer(model.ir, {"x": (1, 2, 5, 5)}).by_name["y"] == (1, 2, 7, 7)
    (site,) = model.find().sites
    assert site.deconv.in_sizes == (None, 5)


def test_pads_beyond_the_output_do_not_abort_inference() -> None:
    found = shapes.infer(load(sliced((1, 2, 5, 5), [0, 90, 0, 0])).ir).by_name
    assert "y" not in found


def test_sizes_behind_crops_are_known() -> None:
    assert shapes.infer(load(sliced((1, 2, 5, 5), [0] * 4)).ir).by_name["y"] == (1, 2, 7, 7)
