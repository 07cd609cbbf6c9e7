"""Deconvs inside of If, Loop and Scan and of model-local functions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tests.onnx_models import (
    OPSET,
    build,
    deconv_attributes,
    evaluate,
    load,
    programs,
    sites,
    tensor,
    written,
)
from tests.onnx_sites import DECONV, KNOWN, MAP, SHAPE, WANTED, WEIGHTS, X, assert_gone_and_equal, deconv_node


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


def function(*, with_parameter: bool = False, name: str = "up", opset: int = OPSET) -> onnx.FunctionProto:
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
    return helper.make_function("local", name, ["x"], ["r"], nodes, [helper.make_opsetid("", opset)], parameters)


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


def test_a_function_of_an_opset_whose_constants_hold_no_whole_numbers() -> None:
    """It has no initializers, and Constant takes int64 from opset 9 on: sizes are attributes or floats."""
    node = helper.make_node("up", ["x"], ["y"], domain="local")
    found = [function(opset=8)]
    model = build([node], {"x": SHAPE}, {"y": MAP}, {}, opset=8, ir_version=8, functions=found, domains={"local": 1})
    assert_gone_and_equal(model)


def test_a_function_in_between_outputs() -> None:
    """The deconv's output is the function's output, and a Relu behind it is another."""
    local = function()
    local.output.append("y")
    node = helper.make_node("up", ["x"], ["z", "u"], domain="local")
    model = build([node], {"x": SHAPE}, {"z": MAP, "u": MAP}, {}, functions=[local], domains={"local": 1})
    (site,) = sites(load(model))
    assert site.epilogue == ()
    assert_gone_and_equal(model)


def test_a_function_whose_attribute_is_a_parameter_is_inlined() -> None:
    node = helper.make_node("up", ["x"], ["z"], domain="local", steps=[2, 2])
    local = function(with_parameter=True)
    model = build([node], {"x": SHAPE}, {"z": MAP}, {}, functions=[local], domains={"local": 1})
    loaded = load(model)
    assert loaded.notes == (
        "function 'local::up' is inlined where anything is rewritten: its deconvs differ from call to call",
    )
    (site,) = sites(loaded)
    assert site.deconv.strides == (2, 2)


def test_a_function_whose_weights_are_parameters_is_inlined_and_its_weights_are_constant() -> None:
    local = function()
    del local.node[:2]
    local.input.extend(["w", "b"])
    node = helper.make_node("up", ["x", "w", "b"], ["z"], domain="local")
    model = build([node], {"x": SHAPE}, {"z": MAP}, KNOWN, functions=[local], domains={"local": 1})
    (site,) = sites(load(model))
    assert site.deconv.run_time == ()
    assert_gone_and_equal(model)


def test_other_domains_are_untouched() -> None:
    foreign = helper.make_node("ConvTranspose", ["x", "w"], ["z"], name="foreign", domain="com.example", some=[1, 2])
    nodes = [deconv_node(["x", "w", "b"], "y"), foreign]
    model = build(nodes, {"x": SHAPE}, {"y": MAP, "z": MAP}, KNOWN, domains={"com.example": 3})
    loaded = load(model)
    (site,) = sites(loaded)
    for _, program in programs(loaded, site):
        found = written(loaded.splice({site.id: program}))
        (kept,) = [node for node in found.graph.node if node.domain == "com.example"]
        assert kept == foreign
        assert {each.domain: each.version for each in found.opset_import} == {"": OPSET, "com.example": 3}
