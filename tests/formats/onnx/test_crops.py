"""Crops behind a deconv: every way to write one becomes part of the pads, and what is no crop stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from tests.examples import examples
from tests.onnx_models import OPSET, conversions, count, load, run, single, sites, written
from tests.strategies import deconvs, integer_tensors

PLAIN = Deconv((Axis(5, 2, 1, 0, 1, 0, 4), Axis(4, 3, 1, 0, 0, 1, 5)), 2, 3, 1, 2, has_bias=True)
SIZES = [size or 0 for size in PLAIN.out_sizes]  # 10 and 17
OPEN = np.iinfo(np.int64).max

Nodes = tuple[list[onnx.NodeProto], dict[str, Array]]


def slice_nodes(starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None, step: int = 1) -> Nodes:
    lists: dict[str, Any] = {"starts": starts, "ends": ends}
    if axes is not None:
        lists |= {"axes": axes, "steps": [step] * len(axes)}
    known = {name: np.asarray(values, np.int64) for name, values in lists.items()}
    return [helper.make_node("Slice", ["y", *known], ["z"], name="crop")], known


def pad_nodes(pads: Sequence[int], mode: str = "constant", axes: Sequence[int] | None = None) -> Nodes:
    known = {"pads": np.asarray(pads, np.int64)}
    inputs = ["y", "pads"]
    if axes is not None:
        known["axes"] = np.asarray(axes, np.int64)
        inputs += ["", "axes"]
    return [helper.make_node("Pad", inputs, ["z"], name="crop", mode=mode)], known


def two_slices() -> Nodes:
    """One for each axis, as PyTorch exports it, with an activation between them."""
    nodes = [
        helper.make_node("Slice", ["y", "s0", "e0", "a0"], ["m"]),
        helper.make_node("Relu", ["m"], ["r"]),
        helper.make_node("Slice", ["r", "s1", "e1", "a1"], ["z"]),
    ]
    values = {"s0": 1, "e0": -2, "a0": 2, "s1": 3, "e1": OPEN, "a1": -1}
    return nodes, {name: np.array([value], np.int64) for name, value in values.items()}


CROPS: dict[str, tuple[Nodes, Any]] = {
    "ends from behind": (slice_nodes([1, 2], [-2, -3], [2, 3]), ((1, 2), (2, 3))),
    "ends as sizes": (slice_nodes([1, 0], [SIZES[0] - 1, SIZES[1] - 4], [2, 3]), ((1, 1), (0, 4))),
    "starts from behind": (slice_nodes([-6], [OPEN], [-1]), ((0, 0), (SIZES[1] - 6, 0))),
    "no axes": (slice_nodes([0, 0, 2], [2, 3, OPEN]), None),  # the batch and channels are not known to stay whole
    "no axes, open ends": (slice_nodes([0, 0, 2], [OPEN, OPEN, OPEN]), ((2, 0), (0, 0))),
    "beyond the end": (slice_nodes([0], [SIZES[0] + 9], [2]), ((0, 0), (0, 0))),
    "negative pads": (pad_nodes([0, 0, -1, 0, 0, 0, -2, -3]), ((1, 2), (0, 3))),
    "negative pads on axes": (pad_nodes([-4, -3], axes=[3]), ((0, 0), (4, 3))),
    "pads on no axis": (pad_nodes([], axes=[]), ((0, 0), (0, 0))),
    "two slices and an activation": (two_slices(), ((1, 2), (3, 0))),
    "every second pixel": (slice_nodes([0], [OPEN], [2], step=2), None),
    "channels": (slice_nodes([1], [OPEN], [1]), None),
    "reflected": (pad_nodes([0, 0, -1, 0, 0, 0, 0, 0], mode="reflect"), None),
    "pads of both signs": (pad_nodes([0, 0, -1, 0, 0, 0, 2, 0]), None),
    "nothing left": (slice_nodes([5], [-5], [2]), None),
}


def cropped_model(nodes: Nodes, deconv: Deconv = PLAIN, **options: Any) -> tuple[onnx.ModelProto, Array]:
    x, weights = integer_tensors(deconv, 0, "float32")
    return single(deconv, weights, nodes[0], nodes[1], output="z", **options), x


@pytest.mark.parametrize("name", CROPS)
def test_what_is_a_crop_is_counted_in_the_pads(name: str) -> None:
    nodes, crop = CROPS[name]
    model, x = cropped_model(nodes)
    (site,) = sites(load(model))
    assert site.deconv.crop == (crop or ())
    if name in ("reflected", "nothing left"):
        return  # no runtime takes these
    wanted = run(model, {"x": x})["z"]
    if crop:
        assert site.deconv.out_sizes == wanted.shape[2:]
        assert site.deconv.uncropped_sizes == PLAIN.out_sizes
    for candidate, converted in conversions(model):
        np.testing.assert_array_equal(run(converted, {"x": x})["z"], wanted, str(candidate))


def test_the_deconv_that_simplified_its_crop_is_one_node() -> None:
    model, x = cropped_model(CROPS["two slices and an activation"][0])
    loaded = load(model)
    (site,) = sites(loaded)
    program = lower(site.deconv, "NCHW", Candidate("native", "simplified"))
    converted = written(loaded.splice({site.id: program}))
    assert [node.op_type for node in converted.graph.node] == ["ConvTranspose", "Relu"]
    np.testing.assert_array_equal(run(converted, {"x": x})["z"], run(model, {"x": x})["z"])


def test_native_alone_keeps_its_crop() -> None:
    model, x = cropped_model(CROPS["ends from behind"][0])
    loaded = load(model)
    (site,) = sites(loaded)
    program = lower(site.deconv, "NCHW", Candidate("native"))
    alone = onnx.load_model_from_string(loaded.emit(site, program).read())
    assert [node.op_type for node in alone.graph.node] == ["ConvTranspose", "Slice"]
    np.testing.assert_array_equal(run(alone, {"x": x})["y"], run(model, {"x": x})["z"])


def test_attributes_of_old_opsets() -> None:
    node = helper.make_node("Slice", ["y"], ["z"], name="crop", starts=[1, 0], ends=[OPEN, -3], axes=[2, 3])
    model, x = cropped_model(([node], {}), opset=9)
    (site,) = sites(load(model))
    assert site.deconv.crop == ((1, 0), (0, 3))
    wanted = run(model, {"x": x})["z"]
    for candidate, converted in conversions(model):
        np.testing.assert_array_equal(run(converted, {"x": x})["z"], wanted, str(candidate))


def test_open_sizes_take_only_cuts_that_hold_for_all() -> None:
    dims = (None, PLAIN.in_channels, None, None)
    model, x = cropped_model(CROPS["ends from behind"][0], in_dims=dims)
    (site,) = sites(load(model))
    assert site.deconv.crop == ((1, 2), (2, 3))
    larger = np.concatenate([x, x], axis=3)
    for candidate, converted in conversions(model):
        for feed in (x, larger):
            found, wanted = (run(each, {"x": feed})["z"] for each in (converted, model))
            np.testing.assert_array_equal(found, wanted, str(candidate))
    for name in ("ends as sizes", "starts from behind"):
        model, _ = cropped_model(CROPS[name][0], in_dims=dims)
        assert sites(load(model))[0].deconv.crop == ()


def test_a_map_that_is_read_before_the_crop_too_is_not_cropped() -> None:
    nodes, known = slice_nodes([1], [-1], [2])
    more = [*nodes, helper.make_node("Shape", ["y"], ["shape"]), helper.make_node("Cast", ["shape"], ["whole"], to=1)]
    model, x = cropped_model((more, known))
    model.graph.output.append(helper.make_tensor_value_info("whole", onnx.TensorProto.FLOAT, [4]))
    assert sites(load(model))[0].deconv.crop == ()
    wanted = run(model, {"x": x})
    for candidate, converted in conversions(model):
        for name, values in run(converted, {"x": x}).items():
            np.testing.assert_array_equal(values, wanted[name], str(candidate))


@examples(10, 400)
@given(deconv=deconvs(negative_pads=False), data=st.data())
def test_random_crops(deconv: Deconv, data: st.DataObject) -> None:
    starts, ends, axes = [], [], []
    for number, size in enumerate(deconv.out_sizes):
        begin = data.draw(st.integers(0, (size or 1) - 1))
        starts.append(begin)
        ends.append(data.draw(st.one_of(st.just(OPEN), st.integers(begin + 1, size or 1))))
        axes.append(number + 2)
    model, x = cropped_model(slice_nodes(starts, ends, axes), deconv, opset=OPSET, out_rank=len(axes) + 2)
    assert sites(load(model))[0].deconv.crop
    whole = reference.deconv(x.astype(np.float64), integer_tensors(deconv, 0)[1], deconv)
    wanted = whole[(..., *(slice(start, min(end, 1000)) for start, end in zip(starts, ends, strict=True)))]
    for candidate, converted in conversions(model):
        if candidate.window == "simplified":
            assert count(converted, "Slice") == 0
        if candidate.lowering != "native" or all(axis.output_pad < axis.stride for axis in deconv.axes):
            np.testing.assert_array_equal(run(converted, {"x": x})["z"], wanted, str(candidate))
