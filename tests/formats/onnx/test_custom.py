"""Deconvs of ONNX Runtime's own domain: ConvTransposeWithDynamicPads, whose pads are an input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import splitdeconv
from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Weights

BY_RULE = "generic"
AXES = (Axis(4, 2, 1, 1, 2, 0, 5), Axis(3, 3, 2, 2, 0, 1, 4))
DECONV = Deconv(AXES, 4, 6, 2, 1, "float32", True)


def dynamic_model(pads: str, *, bias: bool = True) -> onnx.ModelProto:
    """``DECONV`` with ``pads`` that are ``stored``, ``computed`` from a Constant, an ``input``, or ``absent``."""
    rng = np.random.default_rng(0)
    values = {
        "w": rng.integers(-4, 5, (4, 3, 4, 3)).astype(np.float32),
        "b": rng.integers(-4, 5, 6).astype(np.float32),
        "stored": np.array([1, 2, 2, 0]),
        "half": np.array([1, 2]),
        "rest": np.array([2, 0]),
    }
    name = {"absent": "", "computed": "joined"}.get(pads, pads)
    attributes = {"strides": [2, 3], "dilations": [1, 2], "output_padding": [0, 1], "group": 2}
    operands = ["x", "w", name, *(["b"] if bias else [])]
    node = helper.make_node("ConvTransposeWithDynamicPads", operands, ["y"], "up", domain="com.microsoft", **attributes)
    nodes = [helper.make_node("Concat", ["half", "rest"], ["joined"], axis=0), node]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 5, 4])]
    if pads == "input":
        inputs.append(helper.make_tensor_value_info("input", TensorProto.INT64, [4]))
    graph = helper.make_graph(
        nodes if pads == "computed" else nodes[1:],
        "g",
        inputs,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(value, each) for each, value in values.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("pads", ["stored", "computed"])
def test_constant_pads_make_it_a_site_of_this_geometry(pads: str) -> None:
    (site,) = splitdeconv.inspect(dynamic_model(pads)).findings.sites
    assert site.id == "up"
    assert site.deconv.axes == AXES
    assert site.deconv.has_bias


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_rewritten_equal_to_the_definition_and_to_onnx_runtime(bias: bool, tmp_path: Path) -> None:
    model = dynamic_model("stored", bias=bias)
    onnx.save(model, tmp_path / "m.onnx")
    found = splitdeconv.convert(tmp_path / "m.onnx", tmp_path / "o.onnx", target=BY_RULE)
    assert found.verdict.passed
    assert any("'up' is a ConvTransposeWithDynamicPads with constant pads" in note for note in found.record.notes)
    written = onnx.load(tmp_path / "o.onnx")
    assert not any(node.domain or node.op_type == "ConvTranspose" for node in written.graph.node)
    x = np.random.default_rng(1).integers(-4, 5, (1, 4, 5, 4)).astype(np.float32)
    ((before,), (after,)) = (ort.InferenceSession(tmp_path / name).run(None, {"x": x}) for name in ("m.onnx", "o.onnx"))
    np.testing.assert_array_equal(after, before)
    (weight, *rest) = (numpy_helper.to_array(each) for each in model.graph.initializer)
    np.testing.assert_array_equal(
        after, reference.deconv(x, Weights(weight, rest[0] if bias else None), replace(DECONV, has_bias=bias))
    )


@pytest.mark.parametrize(("pads", "sites"), [("absent", 1), ("input", 0)])
def test_without_pads_they_are_0_and_those_of_a_run_leave_it_with_the_reason(pads: str, sites: int) -> None:
    findings = splitdeconv.inspect(dynamic_model(pads)).findings
    assert len(findings.sites) == sites
    assert all(axis.pad_begin == axis.pad_end == 0 for site in findings.sites for axis in site.deconv.axes)
    reason = "com.microsoft::ConvTransposeWithDynamicPads is not rewritten: its pads are computed at run time"
    assert [each.reason for each in findings.skipped] == [reason] * (1 - sites)


def test_what_is_left_alone_stays_byte_for_byte_and_models_of_onnx_ir_are_not_changed(tmp_path: Path) -> None:
    model = dynamic_model("stored")
    onnx.save(model, tmp_path / "m.onnx")
    splitdeconv.convert(tmp_path / "m.onnx", tmp_path / "o.onnx", target=BY_RULE, skip=("up",))
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "o.onnx").read_bytes()
    own = ir.from_proto(model)
    assert splitdeconv.convert(own, target=BY_RULE).plan.choices[0].chosen.lowering != "native"
    assert [node.op_type for node in own.graph] == ["ConvTransposeWithDynamicPads"]
