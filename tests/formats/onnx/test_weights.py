"""Where weights come from in ONNX models: stored, folded, shared, overridable, computed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from splitdeconv.deconv.weights import Array
from tests.onnx_models import (
    build,
    load,
    single,
    sites,
    tensor,
)
from tests.onnx_sites import DECONV, KNOWN, MAP, SHAPE, WEIGHTS, assert_gone_and_equal, deconv_node


def behind(kind: str) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """Nodes and initializers that make ``w`` from constants."""
    kernel = WEIGHTS.kernel
    if kind == "Constant":
        return [helper.make_node("Constant", [], ["w"], value=tensor("", kernel))], {}
    if kind == "Identity":
        return [helper.make_node("Identity", ["v"], ["w"])], {"v": kernel}
    if kind == "Cast":
        return [helper.make_node("Cast", ["v"], ["w"], to=1)], {"v": kernel.astype(np.float16)}
    if kind == "Transpose":
        return [helper.make_node("Transpose", ["v"], ["w"], perm=[3, 2, 1, 0])], {"v": kernel.transpose(3, 2, 1, 0)}
    if kind == "DequantizeLinear":
        node = helper.make_node("DequantizeLinear", ["v", "s", "z"], ["w"], axis=1)
        known = {"v": kernel.astype(np.int8), "s": np.array([0.5, 2], np.float32), "z": np.array([1, -2], np.int8)}
        return [node], known
    if kind == "chain":
        shape = np.asarray(kernel.shape, np.int64)
        return [
            helper.make_node("Constant", [], ["c"], value=tensor("", kernel.astype(np.float16).ravel())),
            helper.make_node("Cast", ["c"], ["d"], to=1),
            helper.make_node("Reshape", ["d", "shape"], ["e"]),
            helper.make_node("Mul", ["e", "two"], ["f"]),
            helper.make_node("Identity", ["f"], ["w"]),
        ], {"shape": shape, "two": np.float32(2)}
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", ["Constant", "Identity", "Cast", "Transpose", "DequantizeLinear", "chain"])
def test_weights_behind_nodes_that_fold(kind: str) -> None:
    nodes, known = behind(kind)
    nodes.append(deconv_node(["x", "w", "b"], "y"))
    model = build(nodes, {"x": SHAPE}, {"y": MAP}, {**known, "b": KNOWN["b"]})
    for converted in assert_gone_and_equal(model):
        left = {node.op_type for node in converted.graph.node}
        integers = {"Cast", "Mul"} if kind == "DequantizeLinear" else set()  # which are copied as they are
        assert not left & {"Identity", "Cast", "DequantizeLinear", "Mul"} - integers
        names = {initializer.name for initializer in converted.graph.initializer}
        assert not names & {*known, "b"}, "what nothing reads any more is gone"


def test_folded_weights_that_something_else_reads_stay() -> None:
    nodes, known = behind("chain")
    nodes += [deconv_node(["x", "w", "b"], "y"), helper.make_node("Identity", ["f"], ["g"])]
    model = build(nodes, {"x": SHAPE}, {"y": MAP, "g": MAP}, {**known, "b": KNOWN["b"]})
    assert_gone_and_equal(model)


def test_overridable_weights_are_fixed_and_noted() -> None:
    model = single(DECONV, WEIGHTS, as_inputs=["w", "b"])
    (site,) = sites(load(model))
    assert [note.split("'")[1] for note in site.notes] == ["w", "b"]
    assert [each.name for each in load(model).inputs()] == ["x"]
    for converted in assert_gone_and_equal(model):
        assert [value.name for value in converted.graph.input] == ["x"]


def test_an_overridable_weight_that_another_node_reads_stays_an_input() -> None:
    model = single(DECONV, WEIGHTS, [helper.make_node("Neg", ["w"], ["n"])], as_inputs=["w"])
    model.graph.output.append(helper.make_tensor_value_info("n", 1, MAP))
    for converted in assert_gone_and_equal(model):
        assert [value.name for value in converted.graph.input] == ["x", "w"]


def test_weights_of_ir_version_3_are_inputs_by_rule() -> None:
    model = single(DECONV, WEIGHTS, opset=7, ir_version=3)
    (site,) = sites(load(model))
    assert site.notes == ()
    for converted in assert_gone_and_equal(model):
        assert converted.ir_version == 3
        inputs = {value.name for value in converted.graph.input}
        assert inputs == {"x", *(initializer.name for initializer in converted.graph.initializer)}


def test_shared_weights_are_written_once() -> None:
    nodes = [
        deconv_node(["x", "w", "b"], "y", "first"),
        helper.make_node("Neg", ["x"], ["n"]),
        deconv_node(["n", "w", "b"], "z", "second"),
    ]
    model = build(nodes, {"x": SHAPE}, {"y": MAP, "z": MAP}, KNOWN)
    for converted in assert_gone_and_equal(model):
        floats = [each for each in converted.graph.initializer if each.data_type == onnx.TensorProto.FLOAT]
        contents = [(each.name.split("/")[-1], tuple(each.dims), each.raw_data) for each in floats]
        assert len(set(contents)) == len(contents)


def test_shared_weights_with_and_without_bias_and_with_other_strides() -> None:
    nodes = [
        deconv_node(["x", "w", "b"], "y", "first"),
        deconv_node(["x", "w"], "z", "second"),
        helper.make_node("ConvTranspose", ["x", "w", "b"], ["u"], name="third", strides=[2, 2]),
        helper.make_node("ConvTranspose", ["x", "w"], ["v"], name="fourth", strides=[3, 2], group=2),
    ]
    model = build(nodes, {"x": SHAPE}, {"y": MAP, "z": MAP, "u": MAP, "v": MAP}, KNOWN)
    assert_gone_and_equal(model)


@pytest.mark.parametrize(
    ("stored", "scale", "attributes", "how"),
    [
        ("float8_e4m3fn", (2,), {"axis": 1}, "as float8e4m3fn"),
        ("int4", (1, 2, 2, 3), {"axis": 0, "block_size": 2}, "in blocks of 2"),
    ],
)
@pytest.mark.parametrize("reshaped", [False, True])
def test_weights_that_only_the_runtime_reads_stay_as_they_are(
    stored: str, scale: tuple[int, ...], attributes: dict[str, int], how: str, reshaped: bool
) -> None:
    """They were folded to float32, four or eight times their size, without a word."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    kernel = np.ones((2, 2, 2, 3), getattr(ml_dtypes, stored))
    nodes = [helper.make_node("DequantizeLinear", ["v", "s"], ["r" if reshaped else "w"], **attributes)]
    if reshaped:
        nodes.append(helper.make_node("Identity", ["r"], ["w"]))
    nodes.append(helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", strides=[2, 2]))
    values = [
        onnx.helper.make_tensor_value_info("x", 1, [1, 2, 4, 4]),
        onnx.helper.make_tensor_value_info("y", 1, None),
    ]
    known = [onnx.numpy_helper.from_array(kernel, "v"), onnx.numpy_helper.from_array(np.ones(scale, np.float32), "s")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], known)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    found = load(proto).find()
    assert not found.sites
    (skipped,) = found.skipped
    assert skipped.reason == f"its weights are stored {how}, which only the runtime reads, so they stay as they are"
