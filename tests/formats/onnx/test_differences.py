"""``differences`` as ONNX nodes: constants of their own type, and operators that the opset has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import splitdeconv
from splitdeconv.formats.onnx.emit import refuse
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from tests.deconv.test_written import upsampled


def two_types() -> onnx.ModelProto:
    """A convolution behind an upsampling in float32, then one in float16 with as many channels."""
    w = np.random.default_rng(0).integers(-3, 4, (4, 4, 3, 3))
    weights = [numpy_helper.from_array(w.astype(kind), f"w{n}") for n, kind in enumerate((np.float32, np.float16))]
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], **nearest),
        helper.make_node("Conv", ["u", "w0"], ["v"], pads=[1] * 4),
        helper.make_node("Cast", ["v"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Resize", ["half", "", "scales"], ["t"], **nearest),
        helper.make_node("Conv", ["t", "w1"], ["y"], pads=[1] * 4),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 3, 3])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1, 4, 12, 12])
    graph = helper.make_graph(nodes, "two types", [x], [y], [*weights, scales])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_sites_of_two_types_have_constants_of_their_own() -> None:
    found = splitdeconv.convert(two_types(), target="generic", lowering="differences")
    assert len(found.record.converted) == 2
    onnx.checker.check_model(found.model, full_check=True)


def test_products_with_a_bias_are_refused_where_add_does_not_broadcast() -> None:
    deconv = replace(upsampled(3, 2), has_bias=True)
    program = lower(deconv, "NCHW", Candidate("differences", "products", "concat"))
    assert "does not broadcast" in (refuse(program, 6) or "")
    assert refuse(program, 7) is None
