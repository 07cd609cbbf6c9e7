"""Where weights and deconvs stand in ONNX models, and what of a model must survive a rewrite."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from splitdeconv import reference
from splitdeconv.spec import Axis, Deconv
from splitdeconv.weights import Array
from tests.onnx_models import (
    FRONTEND,
    build,
    conversions,
    convert,
    count,
    deconv_attributes,
    evaluate,
    load,
    passes_check,
    programs,
    run,
    single,
    sites,
    tensor,
    written,
)
from tests.strategies import integer_tensors

DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 3), Axis(3, 3, 1, 0, 1, 1, 4)), 2, 2, has_bias=True)
MAP: list[None] = [None] * 4
X, WEIGHTS = integer_tensors(DECONV, 0, "float32")
ASSIGNED = {"w": WEIGHTS.kernel, "b": WEIGHTS.bias}
KNOWN: dict[str, Array] = {name: values for name, values in ASSIGNED.items() if values is not None}
WANTED = reference.deconv(X.astype(np.float64), WEIGHTS, DECONV)
SHAPE = X.shape


def deconv_node(inputs: Sequence[str], output: str, name: str = "site", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("ConvTranspose", inputs, [output], name=name, **deconv_attributes(DECONV), **attributes)


def assert_gone_and_equal(
    model: onnx.ModelProto, feeds: dict[str, Array] | None = None, original: Callable[..., dict[str, Array]] = run
) -> list[onnx.ModelProto]:
    """Every candidate rewrites every deconv, and all outputs stay the same bits under the same names."""
    assert passes_check(model)
    feeds = {"x": X} if feeds is None else feeds
    wanted = original(model, feeds)
    found = []
    for candidate, converted in conversions(model):
        if candidate.lowering != "native":
            result = run(converted, feeds)
            assert list(result) == list(wanted)
            for name, values in wanted.items():
                np.testing.assert_array_equal(result[name], values, f"{candidate} {name}")
            assert count(converted, "ConvTranspose") == 0
            found.append(converted)
    assert found
    return found


# Weights


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
        assert not left & {"Identity", "Cast", "DequantizeLinear", "Mul"}
        names = {initializer.name for initializer in converted.graph.initializer}
        assert not names & {*known, "b"}, "what nothing reads any more is gone"


def test_folded_weights_that_something_else_reads_stay() -> None:
    nodes, known = behind("chain")
    nodes += [deconv_node(["x", "w", "b"], "y"), helper.make_node("Identity", ["f"], ["g"])]
    model = build(nodes, {"x": SHAPE}, {"y": MAP, "g": MAP}, {**known, "b": KNOWN["b"]})
    assert_gone_and_equal(model)


def test_weights_computed_at_run_time_are_skipped_with_the_reason() -> None:
    nodes = [helper.make_node("Neg", ["v"], ["w"]), deconv_node(["x", "w", "b"], "y")]
    model = build(nodes, {"x": SHAPE, "v": WEIGHTS.kernel.shape}, {"y": MAP}, {"b": KNOWN["b"]})
    found = FRONTEND.find(load(model))
    assert not found.sites
    (skipped,) = found.skipped
    assert skipped.site == "site"
    assert skipped.reason == "its weight is computed at run time, so it cannot be split beforehand"


def test_a_bias_computed_at_run_time_is_skipped_with_the_reason() -> None:
    model = build([deconv_node(["x", "w", "b"], "y")], {"x": SHAPE, "b": [2]}, {"y": MAP}, {"w": WEIGHTS.kernel})
    (skipped,) = FRONTEND.find(load(model)).skipped
    assert skipped.reason == "its bias is computed at run time"


def test_random_weights_are_not_constant() -> None:
    nodes = [
        helper.make_node("RandomNormal", [], ["w"], shape=list(WEIGHTS.kernel.shape)),
        deconv_node(["x", "w"], "y"),
    ]
    found = FRONTEND.find(load(build(nodes, {"x": SHAPE}, {"y": MAP}, {})))
    assert len(found.skipped) == 1


def test_overridable_weights_are_fixed_and_noted() -> None:
    model = single(DECONV, WEIGHTS, as_inputs=["w", "b"])
    (site,) = sites(load(model))
    assert [note.split("'")[1] for note in site.notes] == ["w", "b"]
    assert [each.name for each in FRONTEND.inputs(load(model))] == ["x"]
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


# Bodies and functions


def body(name: str, inner: str, outputs: str, *inputs: onnx.ValueInfoProto, site: str = "site") -> onnx.GraphProto:
    """A body with one deconv over ``inner`` whose weights lie outside of it."""
    return helper.make_graph(
        [
            deconv_node([inner, "w", "b"], f"{outputs}_raw", site),
            helper.make_node("Relu", [f"{outputs}_raw"], [outputs]),
        ],
        name,
        list(inputs),
        [helper.make_tensor_value_info(outputs, 1, MAP)],
    )


def test_branches_of_if() -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node(
            "If", ["c"], ["y"], name="choose", then_branch=body("then", "x", "t"), else_branch=body("else", "n", "e")
        ),
    ]
    model = build(nodes, {"x": SHAPE}, {"y": MAP}, KNOWN)
    model.graph.input.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    found = sites(load(model))
    assert [site.id for site in found] == ["site", "site#2"]
    assert {site.where for site in found} == {"then_branch of If 'choose'", "else_branch of If 'choose'"}
    assert [site.epilogue for site in found] == [("Relu",), ("Relu",)]
    for condition in (True, False):
        for converted in assert_gone_and_equal(model, {"x": X, "c": np.asarray(condition)}):
            assert not converted.graph.initializer or all(
                each.data_type != onnx.TensorProto.FLOAT for each in converted.graph.initializer
            )


def test_weights_inside_of_a_body() -> None:
    branch = body("then", "x", "t")
    branch.initializer.extend(tensor(name, values) for name, values in KNOWN.items())
    other = helper.make_graph(
        [
            helper.make_node("Constant", [], ["w"], value=tensor("", WEIGHTS.kernel)),
            helper.make_node("ConvTranspose", ["x", "w"], ["e"], **deconv_attributes(DECONV)),
        ],
        "else",
        [],
        [helper.make_tensor_value_info("e", 1, MAP)],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=other)
    model = build([node], {"x": SHAPE}, {"y": MAP}, {})
    model.graph.input.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    for condition in (True, False):
        assert_gone_and_equal(model, {"x": X, "c": np.asarray(condition)})


def test_names_that_branches_share_do_not_mix_their_shapes() -> None:
    """Both branches call their map ``m``, of different sizes; nothing may be concluded from the other's."""
    branches = []
    for axis in (2, 3):
        nodes = [
            helper.make_node("Concat", ["x", "x"], ["m"], axis=axis),
            deconv_node(["m", "w", "b"], "r", f"site{axis}"),
        ]
        branches.append(helper.make_graph(nodes, f"b{axis}", [], [helper.make_tensor_value_info("r", 1, MAP)]))
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    model = build([node], {"x": SHAPE}, {"y": MAP}, KNOWN)
    model.graph.input.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    for condition in (True, False):
        assert_gone_and_equal(model, {"x": X, "c": np.asarray(condition)})


def test_body_of_loop() -> None:
    inputs = [
        helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
        helper.make_tensor_value_info("on", onnx.TensorProto.BOOL, []),
    ]
    inner = body("loop", "x", "out", *inputs)
    inner.node.append(helper.make_node("Identity", ["on"], ["still"]))
    inner.output.insert(0, helper.make_tensor_value_info("still", onnx.TensorProto.BOOL, []))
    node = helper.make_node("Loop", ["trips", ""], ["y"], name="loop", body=inner)
    model = build([node], {"x": SHAPE}, {"y": [None] * 5}, {**KNOWN, "trips": np.asarray(2)})
    (site,) = sites(load(model))
    assert site.where == "body of Loop 'loop'"
    assert_gone_and_equal(model)


def test_body_of_scan() -> None:
    inner = body("scan", "each", "out", helper.make_tensor_value_info("each", 1, SHAPE))
    node = helper.make_node("Scan", ["x5"], ["y"], name="scan", body=inner, num_scan_inputs=1)
    model = build([node], {"x5": (3, *SHAPE)}, {"y": [None] * 5}, KNOWN)
    assert_gone_and_equal(model, {"x5": np.stack([X, -X, 2 * X])})


def test_a_body_inside_of_a_body() -> None:
    node = helper.make_node(
        "If", ["c"], ["inner"], then_branch=body("a", "x", "t"), else_branch=body("b", "x", "e", site="other")
    )
    outer = helper.make_graph([node], "outer", [], [helper.make_tensor_value_info("inner", 1, MAP)])
    plain = body("plain", "x", "p", site="third")
    top = helper.make_node("If", ["c"], ["y"], then_branch=outer, else_branch=plain)
    model = build([top], {"x": SHAPE}, {"y": MAP}, KNOWN)
    model.graph.input.append(helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []))
    assert_gone_and_equal(model, {"x": X, "c": np.asarray(True)})


def function(*, with_parameter: bool = False, name: str = "up") -> onnx.FunctionProto:
    """``up(a) -> r``: a deconv over constants, and a Relu. Its value names are those of the model's graph."""
    attributes = deconv_attributes(DECONV)
    if with_parameter:
        del attributes["strides"]
    node = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="inside", **attributes)
    if with_parameter:
        stride = onnx.AttributeProto(name="strides", ref_attr_name="steps", type=onnx.AttributeProto.INTS)
        node.attribute.append(stride)
    nodes = [
        helper.make_node("Constant", [], ["w"], value=tensor("", KNOWN["w"])),
        helper.make_node("Constant", [], ["b"], value=tensor("", KNOWN["b"])),
        node,
        helper.make_node("Relu", ["y"], ["r"]),
    ]
    parameters = ["steps"] if with_parameter else []
    return helper.make_function("local", name, ["x"], ["r"], nodes, [helper.make_opsetid("", 22)], parameters)


def test_functions_of_the_model() -> None:
    """The function's ``x`` is not the graph's: it has other sizes."""
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["wide"], axis=3),
        helper.make_node("up", ["wide"], ["y"], domain="local"),
        helper.make_node("up", ["x"], ["z"], domain="local"),
    ]
    model = build(nodes, {"x": SHAPE}, {"y": MAP, "z": MAP}, {}, functions=[function()], domains={"local": 1})
    (site,) = sites(load(model))
    assert site.where == "function 'local::up'"
    assert site.epilogue == ("Relu",)
    assert site.deconv.in_sizes == (None, None)
    for converted in assert_gone_and_equal(model):
        np.testing.assert_array_equal(evaluate(converted, {"x": X})["z"], np.maximum(WANTED, 0))
        assert [each.name for each in converted.functions] == ["up"]
        assert list(converted.functions[0].output) == ["r"]


def test_a_function_whose_output_is_the_deconv() -> None:
    local = function()
    del local.node[3]
    local.output[0] = "y"
    node = helper.make_node("up", ["x"], ["z"], domain="local")
    model = build([node], {"x": SHAPE}, {"z": MAP}, {}, functions=[local], domains={"local": 1})
    for converted in assert_gone_and_equal(model):
        assert list(converted.functions[0].output) == ["y"]


def test_a_function_in_between_outputs() -> None:
    """The deconv's output is the function's output, and a Relu behind it is another."""
    local = function()
    local.output.append("y")
    node = helper.make_node("up", ["x"], ["z", "u"], domain="local")
    model = build([node], {"x": SHAPE}, {"z": MAP, "u": MAP}, {}, functions=[local], domains={"local": 1})
    (site,) = sites(load(model))
    assert site.epilogue == ()
    assert_gone_and_equal(model)


def test_an_attribute_that_is_a_parameter_of_the_function_is_skipped() -> None:
    node = helper.make_node("up", ["x"], ["z"], domain="local", steps=[2, 2])
    local = function(with_parameter=True)
    model = build([node], {"x": SHAPE}, {"z": MAP}, {}, functions=[local], domains={"local": 1})
    (skipped,) = FRONTEND.find(load(model)).skipped
    assert skipped.where == "function 'local::up'"
    assert skipped.reason == "attribute 'strides' is a parameter of the function, so it differs from call to call"


def test_weights_that_are_parameters_of_the_function_are_skipped() -> None:
    local = function()
    del local.node[:2]
    local.input.extend(["w", "b"])
    node = helper.make_node("up", ["x", "w", "b"], ["z"], domain="local")
    model = build([node], {"x": SHAPE}, {"z": MAP}, KNOWN, functions=[local], domains={"local": 1})
    (skipped,) = FRONTEND.find(load(model)).skipped
    assert skipped.reason == "its weight is computed at run time, so it cannot be split beforehand"


def test_other_domains_are_untouched() -> None:
    foreign = helper.make_node("ConvTranspose", ["x", "w"], ["z"], name="foreign", domain="com.example", some=[1, 2])
    nodes = [deconv_node(["x", "w", "b"], "y"), foreign]
    model = build(nodes, {"x": SHAPE}, {"y": MAP, "z": MAP}, KNOWN, domains={"com.example": 3})
    loaded = load(model)
    (site,) = sites(loaded)
    for _, program in programs(loaded, site):
        found = written(FRONTEND.splice(loaded, {site.id: program}))
        (kept,) = [node for node in found.graph.node if node.domain == "com.example"]
        assert kept == foreign
        assert {each.domain: each.version for each in found.opset_import} == {"": 22, "com.example": 3}


# Names, notes and positions


def test_what_people_wrote_is_preserved() -> None:
    model = single(DECONV, WEIGHTS, [helper.make_node("Softmax", ["y"], ["z"], name="last")], output="z", opset=22)
    model.ir_version = 10
    model.doc_string, model.producer_name, model.producer_version = "a model", "somebody", "7.1"
    model.domain, model.model_version = "org.example", 5
    helper.set_model_props(model, {"author": "me"})
    graph = model.graph
    graph.name, graph.doc_string = "the graph", "its notes"
    graph.node[1].doc_string = "a Softmax"
    graph.node[1].metadata_props.add(key="k", value="v")
    graph.node[0].doc_string = "the deconv"
    graph.node[0].metadata_props.add(key="from", value="exporter")
    graph.input[0].doc_string = "pixels"
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.value_info.add().CopyFrom(helper.make_tensor_value_info("y", 1, ["batch", 2, 6, 12]))
    for candidate, found in conversions(model):
        for name in ("ir_version", "doc_string", "producer_name", "producer_version", "domain", "model_version"):
            assert getattr(found, name) == getattr(model, name)
        assert found.metadata_props == model.metadata_props
        assert found.opset_import == model.opset_import
        assert (found.graph.name, found.graph.doc_string) == ("the graph", "its notes")
        assert found.graph.input == model.graph.input
        assert found.graph.output == model.graph.output
        (kept,) = [node for node in found.graph.node if node.name == "last"]
        assert kept == graph.node[1]
        (info,) = [value for value in found.graph.value_info if value.name == "y"]
        assert info == graph.value_info[0]
        if candidate.lowering != "native":
            check_notes(found)


def check_notes(found: onnx.ModelProto) -> None:
    """The convolutions keep the original node's attributes and notes."""
    for node in found.graph.node:
        assert node.name == "last" or node.name.startswith("site/")
        if node.op_type == "Conv":
            notes = {each.key: each.value for each in node.metadata_props}
            assert notes["from"] == "exporter"
            assert notes["splitdeconv.site"] == "site"
            original = json.loads(notes["splitdeconv.original"])
            assert original["name"] == "site"
            assert original["doc_string"] == "the deconv"
            assert original["attributes"] == deconv_attributes(DECONV)


@pytest.mark.parametrize("ir_version", [4, 9])
def test_before_nodes_had_metadata_the_original_is_in_the_doc_string(ir_version: int) -> None:
    model = single(
        DECONV, WEIGHTS, opset=9, ir_version=ir_version, attributes={**deconv_attributes(DECONV), "auto_pad": "NOTSET"}
    )
    for converted in assert_gone_and_equal(model):
        for node in converted.graph.node:
            assert not node.metadata_props
            if node.op_type == "Conv":
                original = json.loads(json.loads(node.doc_string)["splitdeconv.original"])
                assert original["attributes"] == {**deconv_attributes(DECONV), "auto_pad": "NOTSET"}


def test_unnamed_and_equally_named_nodes() -> None:
    nodes = [
        deconv_node(["x", "w", "b"], "y", ""),
        deconv_node(["x", "w", "b"], "z", "same"),
        deconv_node(["x", "w", "b"], "u", "same"),
        helper.make_node("Relu", ["y"], ["v"], name="same"),
        helper.make_node("Relu", ["z"], ["same/Conv"], name="same/Conv"),
    ]
    model = build(nodes, {"x": SHAPE}, {"v": MAP, "same/Conv": MAP, "u": MAP}, KNOWN)
    assert [site.id for site in sites(load(model))] == ["ConvTranspose@y", "same", "same#2"]
    for converted in assert_gone_and_equal(model, original=evaluate):  # the runtime wants unique names
        values = [name for node in converted.graph.node for name in node.output]
        assert len(set(values)) == len(values)


def test_two_deconvs_in_a_row_and_outputs_that_keep_their_names() -> None:
    nodes = [
        deconv_node(["x", "w", "b"], "y", "first"),
        helper.make_node("Relu", ["y"], ["r"]),
        deconv_node(["r", "w", "b"], "z", "second"),
        helper.make_node("Neg", ["z"], ["n"]),
    ]
    model = build(nodes, {"x": SHAPE}, {"z": MAP, "r": MAP, "n": MAP}, KNOWN)
    assert [site.epilogue for site in sites(load(model))] == [("Relu",), ()]
    for converted in assert_gone_and_equal(model):
        assert [value.name for value in converted.graph.output] == ["z", "r", "n"]


def test_a_deconv_behind_an_output_shape_below_its_input() -> None:
    """ONNX's inference loses the rank there; that is no reason to reject what follows."""
    cut = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="cut", output_shape=[2, 2], strides=[1, 1])
    nodes = [cut, helper.make_node("Relu", ["y"], ["r"]), deconv_node(["r", "w", "b"], "z", "second")]
    model = build(nodes, {"x": SHAPE}, {"z": MAP}, KNOWN)
    found = sites(load(model))
    assert [site.deconv.in_sizes for site in found] == [DECONV.in_sizes, (2, 2)]
    np.testing.assert_array_equal(run(convert(model), {"x": X})["z"], evaluate(model, {"x": X})["z"])


def test_the_output_that_bodies_read() -> None:
    branches = [
        helper.make_graph([helper.make_node(op, ["y"], [op])], op, [], [helper.make_tensor_value_info(op, 1, MAP)])
        for op in ("Neg", "Relu")
    ]
    nodes = [
        deconv_node(["x", "w", "b"], "y"),
        helper.make_node("If", ["c"], ["z"], then_branch=branches[0], else_branch=branches[1]),
    ]
    model = build(nodes, {"x": SHAPE}, {"z": MAP}, {**KNOWN, "c": np.asarray(True)})
    assert_gone_and_equal(model)


def test_a_deconv_whose_output_nothing_reads() -> None:
    nodes = [deconv_node(["x", "w", "b"], "y"), helper.make_node("Relu", ["x"], ["z"])]
    assert_gone_and_equal(build(nodes, {"x": SHAPE}, {"z": MAP}, KNOWN))


def test_an_epilogue_whose_parameters_stand_behind_it() -> None:
    """Parameters from Constant nodes that come later in the file than the deconv, and are shared."""
    nodes = [
        deconv_node(["x", "w", "b"], "y", "first"),
        deconv_node(["x", "w", "b"], "z", "second"),
        helper.make_node("Constant", [], ["c"], value=tensor("", np.array([2, 3], np.float32).reshape(2, 1, 1))),
        helper.make_node("Mul", ["y", "c"], ["m"]),
        helper.make_node("Add", ["c", "z"], ["a"]),
    ]
    model = build(nodes, {"x": SHAPE}, {"m": MAP, "a": MAP}, KNOWN)
    for converted in assert_gone_and_equal(model):
        assert "Constant" not in {node.op_type for node in converted.graph.node}


def test_a_model_without_deconvs_is_the_same() -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"])], {"x": SHAPE}, {"y": MAP}, {"unused": X})
    loaded = load(model)
    assert sites(loaded) == ()
    found = written(FRONTEND.splice(loaded, {}))
    del found.graph.value_info[:]  # the types of initializers, which are stated twice now
    assert found == model


def test_the_original_model_is_not_changed() -> None:
    loaded = load(single(DECONV, WEIGHTS, [helper.make_node("Relu", ["y"], ["z"])], output="z"))
    before = written(loaded).SerializeToString(deterministic=True)
    (site,) = sites(loaded)
    for _, program in programs(loaded, site):
        FRONTEND.splice(loaded, {site.id: program})
        FRONTEND.emit(loaded, site, program)
    assert written(loaded).SerializeToString(deterministic=True) == before


def test_every_candidate_alone_is_a_sound_model() -> None:
    loaded = load(single(DECONV, WEIGHTS, [helper.make_node("Relu", ["y"], ["z"])], output="z"))
    (site,) = sites(loaded)
    for candidate, program in programs(loaded, site):
        alone = onnx.load_from_string(FRONTEND.emit(loaded, site, program))
        onnx.checker.check_model(alone, full_check=True)
        np.testing.assert_array_equal(run(alone, {"x": X})["y"], np.maximum(WANTED, 0), str(candidate))
        onnx.checker.check_model(onnx.load_from_string(FRONTEND.emit(loaded, site, program, WEIGHTS)), full_check=True)


# Sparse and stored elsewhere


def external(folder: Path, model: onnx.ModelProto) -> Path:
    """The model with all tensors in a file beside it."""
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_external_data_stay_external(tmp_path: Path) -> None:
    more = {"big": np.arange(4096, dtype=np.float32)}
    model = single(DECONV, WEIGHTS, [helper.make_node("Neg", ["big"], ["n"])], more)
    model.graph.output.append(helper.make_tensor_value_info("n", 1, [None]))
    path = external(tmp_path, model)
    loaded = FRONTEND.load(path)
    (site,) = sites(loaded)
    for candidate, program in programs(loaded, site):
        out = tmp_path / "out" / "new.onnx"
        out.parent.mkdir(exist_ok=True)
        FRONTEND.save(FRONTEND.splice(loaded, {site.id: program}), out)
        assert sorted(each.name for each in out.parent.iterdir()) == ["new.onnx", "new.onnx.data"]
        onnx.checker.check_model(out, full_check=True)
        plain = onnx.load(out, load_external_data=False)
        (big,) = [each for each in plain.graph.initializer if each.name == "big"]
        assert {each.key: each.value for each in big.external_data}["location"] == "new.onnx.data"
        found = run(onnx.load(out), {"x": X})
        np.testing.assert_array_equal(found["y"], WANTED, str(candidate))
        np.testing.assert_array_equal(found["n"], -more["big"])


def test_a_written_model_can_be_converted_again(tmp_path: Path) -> None:
    path = external(tmp_path, single(DECONV, WEIGHTS))
    FRONTEND.save(FRONTEND.load(path), tmp_path / "again.onnx")
    (site,) = sites(FRONTEND.load(tmp_path / "again.onnx"))
    np.testing.assert_array_equal(site.weights.kernel, WEIGHTS.kernel)


def test_float64_evaluation_agrees_with_the_definition() -> None:
    (found,) = evaluate(single(DECONV, WEIGHTS), {"x": X}).values()
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, WANTED)


def test_initializers_are_read_in_every_storage_form() -> None:
    model = single(DECONV, WEIGHTS)
    typed = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=WEIGHTS.kernel.shape)
    typed.float_data.extend(WEIGHTS.kernel.ravel())
    model.graph.initializer[0].CopyFrom(typed)
    np.testing.assert_array_equal(numpy_helper.to_array(typed), WEIGHTS.kernel)
    assert_gone_and_equal(model)
