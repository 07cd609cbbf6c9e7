"""Deconvs whose weights a model is given, or computes, when it runs: operators split them, bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import splitdeconv
from splitdeconv import codec
from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.folding import RUN_TIME
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.way_back import WayBack
from tests.onnx_models import (
    OPSET,
    Dims,
    build,
    conversions,
    convert,
    count,
    deconv_attributes,
    load,
    nodes_of,
    passes_check,
    run,
    sites,
    written,
)
from tests.onnx_sites import KNOWN, MAP, SHAPE, WANTED, WEIGHTS, X, assert_gone_and_equal, deconv_node
from tests.strategies import deconvs, integer_tensors

OPSETS = (7, 10, 11, 13, OPSET)
ASYMMETRIC = {"coordinate_transformation_mode": "asymmetric"}
FEEDS = {"x": X, "v": -WEIGHTS.kernel, "b": KNOWN["b"]}
IMPORTS = [helper.make_opsetid("", OPSET)]
NEG = helper.make_node("Neg", ["v"], ["w"])


def model_of(deconv: Deconv, weights: Weights, computed: str, opset: int) -> onnx.ModelProto:
    """A deconv whose weights are all inputs; the kernel ``computed`` of one, or the bias alone at run time."""
    node = helper.make_node("ConvTranspose", ["x", "w", *(["b"] if deconv.has_bias else [])], ["y"], name="site")
    node.attribute.extend(helper.make_attribute(name, value) for name, value in deconv_attributes(deconv).items())
    arrays: dict[str, Array] = {"w" if computed == "input" else "v": weights.kernel}
    if weights.bias is not None:
        arrays["b"] = weights.bias
    inputs = {"x": (deconv.batch, deconv.in_channels, *deconv.in_sizes)}
    inputs |= {name: array.shape for name, array in arrays.items()}
    nodes = [node] if computed == "input" else [NEG, node]
    return build(nodes, inputs, {"y": [None] * (2 + len(deconv.axes))}, {}, opset=opset)


def assert_bit_equal(deconv: Deconv, seed: int, computed: str, opset: int) -> None:
    x, weights = integer_tensors(deconv, seed, "float32")
    model = model_of(deconv, weights, computed, opset)
    if not passes_check(model):
        return
    real = weights if computed == "input" else replace(weights, kernel=-weights.kernel)
    wanted = reference.deconv(x.astype(np.float64), real.as_type("float64"), deconv)
    feeds = {"x": x, "w" if computed == "input" else "v": weights.kernel}
    feeds |= {} if weights.bias is None else {"b": weights.bias}
    for candidate, converted in conversions(model):
        if candidate.lowering != "native":  # runtimes have faults of their own
            np.testing.assert_array_equal(run(converted, feeds)["y"], wanted, str(candidate))
            assert count(converted, "ConvTranspose") == 0


ANY = (deconvs(negative_pads=False), st.integers(0, 2**32), st.sampled_from(["input", "node"]), st.sampled_from(OPSETS))


@given(*ANY)
@settings(max_examples=8, deadline=None)
def test_every_form_is_bit_equal(deconv: Deconv, seed: int, computed: str, opset: int) -> None:
    assert_bit_equal(deconv, seed, computed, opset)


@pytest.mark.long
@given(*ANY)
@settings(max_examples=1000, deadline=None)
def test_every_form_is_bit_equal_on_a_thousand(deconv: Deconv, seed: int, computed: str, opset: int) -> None:
    assert_bit_equal(deconv, seed, computed, opset)


def given_weights(**options: object) -> onnx.ModelProto:
    """One deconv whose kernel is computed and whose bias is an input."""
    nodes = [NEG, deconv_node(["x", "w", "b"], "y")]
    return build(nodes, {"x": SHAPE, "v": WEIGHTS.kernel.shape, "b": [2]}, {"y": MAP}, {}, **options)  # type: ignore[arg-type]


def test_no_filter_is_stored() -> None:
    converted = convert(given_weights())
    assert all(each.data_type == onnx.TensorProto.INT64 for each in converted.graph.initializer)
    assert [each.name for each in converted.graph.input] == ["x", "v", "b"]


def test_a_constant_kernel_is_split_beforehand_where_only_the_bias_is_computed() -> None:
    model = build([deconv_node(["x", "w", "b"], "y")], {"x": SHAPE, "b": [2]}, {"y": MAP}, {"w": KNOWN["w"]})
    (site,) = sites(load(model))
    assert site.deconv.run_time == ("bias",)
    assert site.notes == ("computed at run time: its bias; operators make the filters in each run",)
    for converted in assert_gone_and_equal(model, {"x": X, "b": KNOWN["b"]}):
        assert sum(each.data_type == onnx.TensorProto.FLOAT for each in converted.graph.initializer) > 0


def test_the_epilogue_still_moves_before_the_rearrangement() -> None:
    scale = np.array([2, -1], np.float32).reshape(1, 2, 1, 1)
    nodes = [deconv_node(["x", "w", "b"], "r"), helper.make_node("Mul", ["r", "s"], ["t"])]
    nodes.append(helper.make_node("Relu", ["t"], ["y"]))
    model = build(nodes, {"x": SHAPE, "w": WEIGHTS.kernel.shape, "b": [2]}, {"y": MAP}, {"s": scale})
    (site,) = sites(load(model))
    assert site.epilogue == ("Mul", "Relu")
    assert_gone_and_equal(model, {"x": X, **KNOWN})


def test_weights_of_the_graph_around_a_body() -> None:
    branches = {}
    for name, taken in (("then_branch", "x"), ("else_branch", "n")):
        output = helper.make_tensor_value_info(name, 1, MAP)
        branches[name] = helper.make_graph([deconv_node([taken, "w", "b"], name)], name, [], [output])
    nodes = [NEG, helper.make_node("Neg", ["x"], ["n"]), helper.make_node("If", ["c"], ["y"], **branches)]
    model = build(nodes, {"x": SHAPE, "v": WEIGHTS.kernel.shape, "b": [2]}, {"y": MAP}, {})
    model.graph.input.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    for condition in (True, False):
        assert_gone_and_equal(model, {**FEEDS, "c": np.asarray(condition)})


def test_weights_that_a_function_computes_of_its_inputs() -> None:
    local = helper.make_function(
        "local",
        "up",
        ["x", "v", "b"],
        ["z"],
        [NEG, deconv_node(["x", "w", "b"], "z")],
        [helper.make_opsetid("", OPSET)],
    )
    calls = [helper.make_node("up", ["x", "v", "b"], [output], domain="local") for output in ("y", "again")]
    shapes = {"x": SHAPE, "v": WEIGHTS.kernel.shape, "b": [2]}
    model = build(calls, shapes, {"y": MAP, "again": MAP}, {}, functions=[local], domains={"local": 1})
    assert len(sites(load(model))) == 2
    assert_gone_and_equal(model, FEEDS)


def test_a_function_of_another_opset_stays_with_its_reason() -> None:
    local = helper.make_function(
        "local", "up", ["x", "w", "b"], ["z"], [deconv_node(["x", "w", "b"], "z")], [helper.make_opsetid("", OPSET - 1)]
    )
    call = helper.make_node("up", ["x", "w", "b"], ["y"], domain="local")
    model = build([call], {"x": SHAPE}, {"y": MAP}, KNOWN, functions=[local], domains={"local": 1})
    (skipped,) = load(model).find().skipped
    assert skipped.where == "function 'local::up'"
    assert skipped.reason == (
        "its weight is computed at run time, and its shape is not known before: a split needs all sizes"
    )


def test_a_kernel_of_open_sizes_stays_whatever_size_is_given_for_a_run() -> None:
    kernel = WEIGHTS.kernel
    model = build([deconv_node(["x", "w"], "y")], {"x": SHAPE, "w": ["n", *kernel.shape[1:]]}, {"y": MAP}, {})
    for shapes in (None, {"w": kernel.shape}):
        (skipped,) = load(model).find(shapes).skipped
        assert skipped.reason == (
            "its weight is computed at run time, and its shape [?, 2, 4, 3] is not known before: "
            "a split needs all sizes"
        )


def quantised(weight: list[onnx.NodeProto], inputs: dict[str, Dims], known: dict[str, Array]) -> onnx.ModelProto:
    """A deconv between DequantizeLinear and QuantizeLinear, of zero-point 0 and scale 1."""
    scales = {"s": np.float32(1), "z": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["r"]),
        *weight,
        helper.make_node("DequantizeLinear", ["i", "s", "z"], ["w"]),
        deconv_node(["r", "w", "b"], "t"),
        helper.make_node("QuantizeLinear", ["t", "s", "z"], ["u"]),
        helper.make_node("DequantizeLinear", ["u", "s", "z"], ["y"]),
    ]
    return build(nodes, {"x": SHAPE, "b": [2], **inputs}, {"y": MAP}, {**scales, **known})


def test_weights_that_are_quantised_in_each_run_are_split_as_real_numbers() -> None:
    weight = [helper.make_node("QuantizeLinear", ["v", "s", "z"], ["i"])]
    model = quantised(weight, {"v": WEIGHTS.kernel.shape}, {})
    assert_gone_and_equal(model, {"x": X, "v": WEIGHTS.kernel, "b": KNOWN["b"]})


def test_a_computed_bias_of_stored_integers_stays_with_its_reason() -> None:
    model = quantised([], {}, {"i": WEIGHTS.kernel.astype(np.int8)})
    (skipped,) = load(model).find().skipped
    assert skipped.reason == "its bias is computed at run time: that of integers is rounded when a model is written"


def test_by_rule_it_stays_and_by_name_it_is_split_and_proved() -> None:
    by_rule = splitdeconv.convert(given_weights(), target="generic")
    (choice,) = by_rule.record.plan.choices
    assert str(choice.chosen) == "native"
    assert choice.reason == ("the generic rule rewrites deconvs of stored weights only: measure, or ask for a lowering")
    by_name = splitdeconv.convert(given_weights(), target="generic", lowering="split")
    assert by_name.record.verdict is not None
    assert [proof.exact for proof in by_name.record.verdict.proofs] == [True]
    np.testing.assert_array_equal(run(by_name.model, FEEDS)["y"], WANTED)


def test_nothing_is_folded_into_weights_that_are_not_there() -> None:
    nodes = [deconv_node(["x", "w"], "r"), helper.make_node("Mul", ["r", "s"], ["y"])]
    known = {"s": np.array([2, -1], np.float32).reshape(1, 2, 1, 1)}
    model = build(nodes, {"x": SHAPE, "w": WEIGHTS.kernel.shape}, {"y": MAP}, known)
    found = splitdeconv.convert(model, target="generic", fold=True)
    assert any(RUN_TIME in note for note in found.record.notes)


def test_it_comes_back() -> None:
    loaded = load(given_weights())
    rewritten = OnnxModel.from_object(convert(given_weights()))
    assert rewritten is not None
    back, stayed = rewritten.undo(codec.from_object(WayBack, json.loads(rewritten.way_back()), "the text"))
    assert stayed == ()
    assert [node.op_type for node in nodes_of(written(back))] == [node.op_type for node in nodes_of(written(loaded))]
    np.testing.assert_array_equal(run(written(back), FEEDS)["y"], WANTED)


def test_random_weights_are_run_time_weights() -> None:
    made = helper.make_node("RandomNormal", [], ["w"], shape=list(WEIGHTS.kernel.shape))
    found = load(build([made, deconv_node(["x", "w"], "y")], {"x": SHAPE}, {"y": MAP}, {})).find()
    assert [site.deconv.run_time for site in found.sites] == [("kernel",)]
