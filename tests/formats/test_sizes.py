"""What a model is made of: operators by type, and the memory that its maps take at once."""

from __future__ import annotations

import math

import onnx
import pytest

from splitdeconv.formats.alive import GraphStep, peak_bytes
from splitdeconv.formats.onnx import OnnxModel
from tests.models import deconv_model


def test_a_value_lives_until_its_last_reader() -> None:
    chain = [GraphStep(("x",), {"a": 10}), GraphStep(("a",), {"b": 20}), GraphStep(("b",), {"y": 1})]
    assert peak_bytes({"x": 5}, chain, ["y"]) == 5 + 10 + 20
    skip = [*chain[:2], GraphStep(("b", "a"), {"y": 4})]
    assert peak_bytes({"x": 5}, skip, ["y"]) == 5 + 10 + 20 + 4


def test_what_nobody_reads_goes_at_once_and_outputs_stay() -> None:
    steps = [GraphStep(("x",), {"a": 10, "unread": 30}), GraphStep(("x",), {"b": 20})]
    assert peak_bytes({"x": 5}, steps, ["a", "b"]) == 5 + 10 + 30
    assert peak_bytes({"x": 5}, [*steps, GraphStep(("b",), {"c": 9})], ["a", "b", "c"]) == 5 + 10 + 30
    assert peak_bytes({"x": 5}, [*steps, GraphStep(("b",), {"c": 11})], ["a", "b", "c"]) == 5 + 10 + 20 + 11


def test_a_view_keeps_what_it_shares() -> None:
    steps = [
        GraphStep(("x",), {"a": 10}),
        GraphStep(("a",), {"v": 10}, is_view=True),
        GraphStep(("x",), {"b": 7}),
        GraphStep(("v", "b"), {"y": 1}),
    ]
    assert peak_bytes({"x": 5}, steps, ["y"]) == 5 + 10 + 7 + 1
    assert peak_bytes({"x": 5}, [GraphStep(("constant",), {"v": 3}, is_view=True)], ["v"]) == 5 + 3


def test_an_onnx_model() -> None:
    model = OnnxModel.from_object(deconv_model(("N", 4, 5, 6), strides=[2, 2], pads=[1, 1, 1, 1], then=("Relu",)))
    assert model is not None
    assert model.operator_counts() == {"ConvTranspose": 1, "Relu": 1}
    large = 3 * 10 * 12
    assert model.peak_bytes() == 4 * (4 * 5 * 6 + 2 * large), "x, and the map on both sides of Relu"
    assert model.peak_bytes({"x": (2, 4, 5, 6)}) == 8 * (4 * 5 * 6 + 2 * large)


def test_sizes_that_are_unknown_give_no_number() -> None:
    model = OnnxModel.from_object(deconv_model((1, 4, "h", "w")))
    assert model is not None
    assert model.peak_bytes() is None


def test_operators_of_functions_are_counted() -> None:
    model = deconv_model((1, 4, 5, 6), strides=[2, 2])
    opsets = [onnx.helper.make_opsetid("", 17)]
    relu = onnx.helper.make_node("Relu", ["x"], ["y"])
    model.functions.append(onnx.helper.make_function("own", "Positive", ["x"], ["y"], [relu], opsets))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    (node,) = model.graph.node
    model.graph.node.append(onnx.helper.make_node("Positive", ["up"], [node.output[0]], domain="own"))
    node.output[0] = "up"
    found = OnnxModel.from_object(model)
    assert found is not None
    assert found.operator_counts() == {"ConvTranspose": 1, "own::Positive": 1, "Relu": 1}


def test_a_tflite_model() -> None:
    pytest.importorskip("ai_edge_litert")
    from tests.tflite_models import Case, build, loaded  # noqa: PLC0415

    case = Case(kind="int8")
    model = loaded(build(case))
    assert model.operator_counts() == {"TRANSPOSE_CONV": 1}
    assert model.peak_bytes() == math.prod(case.in_sizes) * 3 + math.prod(case.out_sizes) * 5
    assert model.peak_bytes({"x": (2, *case.in_sizes, 3)}) is None, "the file says nothing of other sizes"


def test_a_program_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    from splitdeconv.formats.torch.exported import ExportedModel  # noqa: PLC0415

    network = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 3, 4, 2, 1), torch.nn.ReLU()).eval()
    model = ExportedModel.from_object(torch.export.export(network, (torch.zeros(1, 4, 5, 6),)))
    assert model is not None
    assert model.operator_counts() == {"aten.conv_transpose2d": 1, "aten.relu": 1}
    assert model.peak_bytes() == 4 * (4 * 5 * 6 + 2 * 3 * 10 * 12)


def test_a_module_of_pytorch_by_its_layers() -> None:
    torch = pytest.importorskip("torch")
    from splitdeconv.formats.torch.modules import ModuleModel  # noqa: PLC0415

    network = torch.nn.Sequential(torch.nn.ConvTranspose2d(4, 3, 4, 2, 1), torch.nn.Sequential(torch.nn.ReLU()))
    model = ModuleModel.of(network, None)
    assert model.operator_counts() == {"ConvTranspose2d": 1, "ReLU": 1}
    assert model.peak_bytes() is None
