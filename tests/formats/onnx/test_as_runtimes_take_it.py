"""Models that are not quite as ONNX wants them, and that runtimes take."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

pytest.importorskip("onnxruntime")

import splitdeconv
from splitdeconv.errors import InputError
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.open_sizes import definite_shapes
from splitdeconv.proof.inputs import LARGEST_VOLUME
from splitdeconv.proof.whole import Given
from tests.onnx_models import build, load

KERNEL = np.arange(8 * 4 * 4, dtype=np.float32).reshape(8, 1, 4, 4)


def test_nodes_that_are_not_in_order_are_sorted_with_a_note() -> None:
    """As ONNX Runtime's float16 tool writes them: what casts the input stands last."""
    nodes = [
        helper.make_node("ConvTranspose", ["a", "w"], ["b"], name="site", strides=[2, 2], group=8),
        helper.make_node("Relu", ["b"], ["y"]),
        helper.make_node("Neg", ["x"], ["a"]),
    ]
    model = build(nodes, {"x": (1, 8, 5, 5)}, {"y": [None] * 4}, {"w": KERNEL})
    result = splitdeconv.convert(model, target="generic", lowering="split")
    assert result.record.converted == ("site",)
    assert result.verdict.passed
    assert "its nodes were not in order, which ONNX wants: they are sorted" in result.record.notes
    assert load(model).ir.graph[0].op_type == "Neg"


def test_nodes_in_a_circle_are_an_error() -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    model = build(nodes, {"x": (1, 8, 5, 5)}, {"b": [None] * 4}, {})
    with pytest.raises(InputError, match="not a sound ONNX model"):
        load(model)


@pytest.mark.parametrize("lowering", ["split", "split_phases", "zero_insert"])
def test_a_normalisation_of_each_channel_that_says_spatial_0(lowering: str) -> None:
    """As MXNet writes it; runtimes take it where they fold it into the deconv before it."""
    names = ["scale", "shift", "mean", "variance"]
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["a"], name="site", strides=[2, 2], group=8),
        helper.make_node("BatchNormalization", ["a", *names], ["y"], spatial=0),
    ]
    known = {"w": KERNEL, **{name: np.linspace(1, 2, 8, dtype=np.float32) for name in names}}
    model = build(nodes, {"x": (1, 8, 5, 5)}, {"y": [None] * 4}, known, opset=8, ir_version=3)
    result = splitdeconv.convert(model, target="generic", lowering=lowering)
    assert result.plan.choices[0].chosen.lowering == lowering
    assert result.verdict.passed


def volumes(channels: int, *nodes: onnx.NodeProto) -> OnnxModel:
    dims = ("n", channels, "d", "h", "w")
    return load(build(nodes, {"x": dims}, {"y": [None] * 5}, {"w": np.ones((channels, 1, 4, 4, 4), np.float32)}))


@pytest.mark.parametrize(("channels", "sizes"), [(1, (32, 48)), (64, (16, 12))])
def test_open_sizes_of_volumes_keep_to_a_budget_of_elements(channels: int, sizes: tuple[int, int]) -> None:
    model = volumes(channels, helper.make_node("Relu", ["x"], ["y"]))
    for trial, size in enumerate(sizes):
        feeds = Given({}).feeds(model, trial)
        assert not isinstance(feeds, str)
        assert feeds["x"].shape == (1 + trial, channels, size, size, size)
        assert feeds["x"].size <= LARGEST_VOLUME


def test_open_volumes_are_as_small_as_the_maps_behind_them_need() -> None:
    """Of 48³ two upsamplings make 192 × 768²."""
    up = helper.make_node("ConvTranspose", ["x", "w"], ["a"], strides=[2, 4, 4])
    model = volumes(1, up, helper.make_node("ConvTranspose", ["a", "w"], ["y"], strides=[2, 4, 4]))
    assert [dict(Given({}).feeds(model, trial))["x"].shape[2:] for trial in range(2)] == [(16, 16, 16), (12, 12, 12)]
    shapes, notes = definite_shapes(model, {})
    assert shapes["x"] == (1, 1, 16, 16, 16)
    assert notes == ("measured with assumed sizes for 'x' 1×1×16×16×16; --input-shape sets others",)


@pytest.mark.parametrize(
    ("dims", "size"), [((1, 80, "t"), 256), ((1, 2, "t"), 16_384), ((1, 3, "h", "w"), 256), ((1, 4, "d", "h", "w"), 64)]
)
def test_open_sizes_for_measuring_are_sensible_and_stated(dims: tuple[int | str, ...], size: int) -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"])], {"x": dims}, {"y": [None] * len(dims)}, {})  # type: ignore[dict-item]
    shapes, notes = definite_shapes(load(model), {})
    assert set(shapes["x"][2:]) == {size}
    assert str(size) in notes[0]


def test_sites_of_pytorchs_exporter_are_called_by_their_modules() -> None:
    """What ``torch.onnx.export(dynamo=True)`` notes of a module that is called twice, and of a function."""
    scopes = (["", "up", "convolution"], ["", "up", "convolution_1"], ["", "body", "body.1", "convolution_2"])
    nodes = [
        helper.make_node("ConvTranspose", [f"t{number}", "w"], [f"t{number + 1}"], name=f"node_convolution_{number}")
        for number in range(4)
    ]
    for node, found in zip(nodes, (*scopes, ["", "convolution_3"]), strict=True):
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(found))
    model = load(build(nodes, {"t0": (1, 2, 3, 3)}, {"t4": [None] * 4}, {"w": np.ones((2, 2, 2, 2), np.float32)}))
    names = [site.id for site in model.find().sites]
    assert names == ["up", "up#2", "body.1", "node_convolution_3"]
