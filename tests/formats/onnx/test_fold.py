"""Arithmetic with constants around a deconv in its weights: what goes, what stays and why, and that numbers stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import splitdeconv
from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.onnx.quantised_layer import qdq_model
from splitdeconv.pipeline.prepared import NOTHING
from splitdeconv.proof.folded import check_fold
from tests.examples import examples
from tests.formats.onnx.test_epilogue import Link, chain_model, norm, per_channel
from tests.models import op_types
from tests.onnx_models import build, evaluate, load, run, written
from tests.onnx_quantised import random_weights
from tests.strategies import deconvs, integer_tensors

PLAIN = Deconv((Axis(3, 2, 1, 1, 0, 1, 4), Axis(4, 2, 1, 1, 1, 0, 3)), 4, 6, 2, 1, has_bias=True)
ONES = np.array([1, -1, 2, 3], np.float32).reshape(1, 4, 1, 1)


def fold(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The model with everything folded, checked in full; and the reasons for what stays."""
    loaded = load(model)
    folds, left = loaded.foldable()
    return written(loaded.folded(folds)), tuple(each.reason for each in left)


def equal(model: onnx.ModelProto, folded: onnx.ModelProto, x: Array) -> None:
    for name, wanted in evaluate(model, {"x": x}).items():
        np.testing.assert_array_equal(evaluate(folded, {"x": x})[name], wanted)
        np.testing.assert_array_equal(run(folded, {"x": x})[name], wanted)


def linear(channels: int, rank: int) -> list[Link]:
    """Nodes that keep whole numbers whole, and are all folded."""
    each, number = per_channel(channels, rank), np.float32(2)
    return [
        norm(channels),
        Link("Mul", (number,)),
        Link("Mul", (each,), data_input=1),
        Link("Add", (per_channel(channels, rank, 1, rank),)),
        Link("Sub", (each,)),
        Link("Sub", (each,), data_input=1),
        Link("Div", (np.float32(0.5),)),
    ]


@examples(8, 300)
@given(deconvs(negative_pads=False), st.data())
def test_whatever_is_linear_behind_a_deconv_is_folded_exactly(deconv: Deconv, data: st.DataObject) -> None:
    offered = linear(deconv.out_channels, len(deconv.axes) + 2)
    links = data.draw(st.lists(st.sampled_from(offered), min_size=1, max_size=3))
    model, x = chain_model(deconv, links)
    folded, left = fold(model)
    assert op_types(folded) == ["ConvTranspose"]
    assert not left
    for name, wanted in evaluate(model, {"x": x}).items():
        np.testing.assert_array_equal(evaluate(folded, {"x": x})[name], wanted)


def test_it_ends_at_what_is_not_linear() -> None:
    links = [norm(6), Link("Relu"), norm(6)]
    model, x = chain_model(PLAIN, links)
    folded, _ = fold(model)
    assert op_types(folded) == ["ConvTranspose", "Relu", "BatchNormalization"]
    equal(model, folded, x)


def test_a_number_divided_by_the_map_stays() -> None:
    model, _ = chain_model(PLAIN, [Link("Div", (np.float32(1),), data_input=1)])
    assert fold(model) == (written(load(model)), ())


def test_a_crop_between_stays() -> None:
    model, x = chain_model(PLAIN, [Link("Slice", (np.array([1]), np.array([5]), np.array([2]))), norm(6)])
    folded, _ = fold(model)
    assert op_types(folded) == ["ConvTranspose", "Slice"]
    equal(model, folded, x)


def in_front(links: list[onnx.NodeProto], constants: dict[str, Array], deconv: Deconv) -> tuple[onnx.ModelProto, Array]:
    """``links`` from ``x`` to ``v`` before a deconv."""
    x, weights = integer_tensors(deconv, 0, "float32")
    axes = deconv.axes
    node = helper.make_node(
        "ConvTranspose",
        ["v", "w"],
        ["y"],
        name="site",
        strides=[axis.stride for axis in axes],
        pads=[axis.pad_begin for axis in axes] + [axis.pad_end for axis in axes],
        group=deconv.groups,
    )
    return build([*links, node], {"x": x.shape}, {"y": [None] * 4}, {"w": weights.kernel, **constants}), x


def test_a_scale_in_front_goes_in_whatever_the_borders() -> None:
    model, x = in_front([helper.make_node("Mul", ["s", "x"], ["v"])], {"s": ONES}, PLAIN)
    folded, left = fold(model)
    assert (op_types(folded), left) == (["ConvTranspose"], ())
    equal(model, folded, x)


def test_a_shift_in_front_stays_where_the_border_meets_less_of_it() -> None:
    model, _ = in_front([helper.make_node("Add", ["x", "s"], ["v"])], {"s": ONES}, PLAIN)
    assert fold(model)[1] == (
        "Add not folded: at the border its outputs meet less of the shift in front of it than inside",
    )


def test_a_shift_in_front_goes_in_where_every_output_meets_all_of_it() -> None:
    """A stride of 1 and pads that cut the border off."""
    whole = Deconv((Axis(3, 1, 1, 2, 2, 0, 6), Axis(2, 1, 1, 1, 1, 0, 5)), 4, 6, 2, 1)
    links = [helper.make_node("Mul", ["x", "s"], ["u"]), helper.make_node("Add", ["u", "s"], ["v"])]
    model, x = in_front(links, {"s": ONES}, whole)
    folded, left = fold(model)
    assert (op_types(folded), left) == (["ConvTranspose"], ())
    equal(model, folded, x)


def test_a_map_that_the_arithmetic_spreads_over_channels_keeps_it() -> None:
    model, _ = in_front([helper.make_node("Mul", ["x", "s"], ["v"])], {"s": ONES}, PLAIN)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    assert fold(model)[0] == written(load(model))


def test_what_stands_between_two_deconvs_goes_into_the_first() -> None:
    weight = np.ones((2, 2, 2, 2), np.float32)
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["a"], name="first", strides=[2, 2]),
        helper.make_node("Mul", ["a", "s"], ["b"]),
        helper.make_node("ConvTranspose", ["b", "w"], ["y"], name="second", strides=[2, 2]),
    ]
    constants = {"w": weight, "s": np.array([2, 3], np.float32).reshape(2, 1, 1)}
    model = build(nodes, {"x": [1, 2, 3, 3]}, {"y": [None] * 4}, constants)
    folded, _ = fold(model)
    assert op_types(folded) == ["ConvTranspose", "ConvTranspose"]
    kept = {each.name for each in folded.graph.initializer}
    assert "w" in kept, "the second one's weight, which was shared, stays"
    equal(model, folded, np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3))


def test_the_convolution_of_an_upsampled_map_is_folded_too() -> None:
    stretch = helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="nearest")
    nodes = [
        helper.make_node("Conv", ["u", "w"], ["a"], name="conv", pads=[1, 1, 1, 1], group=2),
        helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["y"], epsilon=0.0),
    ]
    rng = np.random.default_rng(0)
    three = {name: rng.integers(-3, 4, 6).astype(np.float32) for name in "gbm"}
    weight = rng.integers(-3, 4, (6, 2, 3, 3)).astype(np.float32)
    constants = {"w": weight, "v": np.ones(6, np.float32), **three}
    scales = {"scales": np.array([1, 1, 2, 2], np.float32)}
    folded, _ = fold(build([stretch, *nodes], {"x": [1, 4, 3, 3]}, {"y": [None] * 4}, {**constants, **scales}))
    assert op_types(folded) == ["Resize", "Conv"]
    x = rng.integers(-3, 4, (1, 4, 3, 3)).astype(np.float32)
    rest = build(nodes, {"u": [1, 4, 6, 6]}, {"y": [None] * 4}, constants)
    wanted = evaluate(rest, {"u": x.repeat(2, axis=2).repeat(2, axis=3)})
    np.testing.assert_array_equal(run(folded, {"x": x})["y"], wanted["y"])


def test_the_convolution_of_an_upsampled_map_and_one_beside_it_is_folded_too() -> None:
    nodes = [
        helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="nearest"),
        helper.make_node("Concat", ["u", "beside"], ["c"], axis=1),
        helper.make_node("Conv", ["c", "w"], ["a"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Mul", ["a", "s"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    weight, feeds = rng.integers(-3, 4, (4, 5, 3, 3)), {"x": [1, 3, 3, 3], "beside": [1, 2, 6, 6]}
    constants = {"w": weight.astype(np.float32), "s": ONES, "scales": np.array([1, 1, 2, 2], np.float32)}
    model = build(nodes, feeds, {"y": [None] * 4}, constants)
    folded, left = fold(model)
    assert (op_types(folded), left) == (["Resize", "Concat", "Conv"], ())
    given = {name: rng.integers(-3, 4, shape).astype(np.float32) for name, shape in feeds.items()}
    np.testing.assert_array_equal(run(folded, given)["y"], run(model, given)["y"])


@pytest.mark.parametrize(
    ("numbers", "reason"),
    [
        ((2.0, 0.0), "Mul, Div not folded: folded weights are not finite in float32"),
        ((1e-44, 3.0), "Mul, Div not folded: folded weights are too small for float32"),
    ],
)
def test_what_overflows_or_vanishes_is_not_folded(numbers: tuple[float, float], reason: str) -> None:
    times, over = (np.float32(each) for each in numbers)
    model, _ = chain_model(PLAIN, [Link("Mul", (times,)), Link("Div", (over,))])
    assert fold(model)[1] == (reason,)


def test_quantised_deconvs_keep_what_stands_behind_them() -> None:
    deconv = replace(PLAIN, quant=Quant("uint8", "int8", per_channel=True))
    proto = qdq_model(deconv, random_weights(deconv, 0), epilogue=("Relu",))
    relu = next(node for node in proto.graph.node if node.op_type == "Relu")
    relu.op_type = "Mul"
    relu.input.append("two")
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(2), "two"))
    loaded = load(proto)
    folds, left = loaded.foldable()
    assert not folds
    assert [each.reason for each in left] == ["Mul not folded: is quantised: folding would quantise its weights anew"]


def test_constants_that_callers_may_replace_are_not_folded() -> None:
    model, _ = chain_model(PLAIN, [Link("Mul", (np.float32(2),))], as_inputs=["p0_0"])
    assert fold(model)[1] == ("Mul not folded: input 'p0_0' could replace a constant at run time",)


def float_chain() -> onnx.ModelProto:
    """Weights that folding rounds."""
    rng = np.random.default_rng(1)
    parameters = tuple(rng.uniform(0.5, 1.5, 6).astype(np.float32) for _ in range(4))
    model, _ = chain_model(PLAIN, [Link("BatchNormalization", parameters), Link("Relu")])
    return model


def test_the_proof_is_to_the_noise_bound_and_fails_beyond_it() -> None:
    loaded = load(float_chain())
    folds, _ = loaded.foldable()
    (site,) = loaded.folded(folds).find().sites
    assert check_fold(folds[0], site).passed
    wrong = replace(site, weights=replace(site.weights, kernel=site.weights.kernel * np.float32(1 + 1e-4)))
    assert not check_fold(folds[0], wrong).passed


def test_a_conversion_says_what_it_folded_and_restore_refuses_it(tmp_path: Path) -> None:
    onnx.save(float_chain(), tmp_path / "model.onnx")
    out = tmp_path / "out.onnx"
    found = splitdeconv.convert(tmp_path / "model.onnx", out, target="generic", fold=True)
    assert op_types(onnx.load(out))[0] == "Conv"
    assert "BatchNormalization" not in op_types(onnx.load(out))
    assert [(each.site, each.operators) for each in found.record.folded] == [("site", ("BatchNormalization",))]
    assert found.verdict.folds
    text = str(found)
    assert "folded into 'site': BatchNormalization" in text
    assert "1 of 1 folded sites within the noise bound, not bit-equal" in text
    with pytest.raises(splitdeconv.InputError, match="BatchNormalization became part of its weights"):
        splitdeconv.restore(out)


def test_a_native_site_is_folded_too() -> None:
    found = splitdeconv.convert(float_chain(), target="generic", fold=True, lowering="native")
    assert op_types(found.model) == ["ConvTranspose", "Relu"]
    assert found.verdict.passed
    assert found.verdict.outputs


def test_a_site_that_is_skipped_is_not_folded() -> None:
    found = splitdeconv.convert(float_chain(), target="generic", fold=True, skip=["site"])
    assert "BatchNormalization" in op_types(found.model)
    assert not found.record.folded


def test_without_anything_to_fold_it_says_so() -> None:
    model, _ = chain_model(PLAIN, [])
    assert NOTHING in splitdeconv.convert(model, target="generic", fold=True).record.notes
