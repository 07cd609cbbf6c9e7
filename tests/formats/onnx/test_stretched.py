"""Convolutions behind upsamplings and inserted zeros: found by where elements go, and rewritten bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st

from splitdeconv.deconv.spec import WrittenOut
from splitdeconv.deconv.weights import Array
from tests.examples import examples
from tests.formats.onnx import stretched_models as models
from tests.formats.onnx.stretched_checks import PAD, assert_rewritten, dense, emitted, integers, the_site
from tests.formats.onnx.stretched_models import CHANNELS, SIZES, model_of, node, numbers, resize, then
from tests.onnx_models import OPSET, conversions, load, run, sites

UPSAMPLED = {
    "scales": resize(),
    "half_pixel": resize(coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_floor"),
    "tf_half_pixel_for_nn": resize((1, 1, 3, 2), coordinate_transformation_mode="tf_half_pixel_for_nn"),
    "round_prefer_floor": resize(nearest_mode="round_prefer_floor"),
    "unequal": resize((1, 1, 4, 1)),
    "sizes": models.resize_by_sizes(10, 18),
    "recomputed": models.recomputed_scale(),
    "repeat_interleave": models.repeat_interleave(),
    "keras": models.keras_tiles(),
    "gather_nd": models.gather_nd(),
    "lines": models.lines(),
    "ones": models.ones(),
}


@pytest.mark.parametrize("name", UPSAMPLED)
def test_upsampling_in_every_way_is_found(name: str) -> None:
    model = model_of(UPSAMPLED[name])
    site = the_site(model)
    assert site.id == "site"
    assert site.deconv.written_out == WrittenOut("repeat", (3, 3), (1, 1))
    assert_rewritten(model)


@pytest.mark.parametrize("name", ["one_tap", "upfirdn2d", "scatter_nd", "concat_with_zeros"])
def test_inserted_zeros_in_every_way_are_found(name: str) -> None:
    model = model_of(getattr(models, name)())
    assert the_site(model).deconv.written_out == WrittenOut("zeros", (3, 3), (1, 1))
    assert_rewritten(model)


@pytest.mark.parametrize("opset", [9, 10, 11, 13, 18, 19, OPSET])
def test_every_opset(opset: int) -> None:
    scales = np.array([1, 1, 2, 3], np.float32)
    if opset < 11:
        front = [node("Upsample" if opset < 10 else "Resize", ["x", "scales"], "u", mode="nearest")], {"scales": scales}
    else:
        front = resize((1, 1, 2, 3))
        if opset < 13:
            front[0][0].input[1] = "roi"
            front[1]["roi"] = np.zeros(0, np.float32)
    assert_rewritten(model_of(front, opset=opset))


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        (dense(1, 1), {"pads": [0] * 4}),
        (dense(1, 1), {"pads": [1, 0, 0, 2]}),
        (dense(3, 3), {"dilations": [2, 2], "pads": [2] * 4}),
        (dense(3, 3), {"dilations": [4, 2], "pads": [3, 1, 2, 0]}),
        (dense(5, 2), {"pads": [2, 0, 1, 1]}),
        (dense(7, 7), {"pads": [3] * 4}),
        (dense(3, 4), {"pads": None, "auto_pad": "SAME_UPPER"}),
        (dense(3, 3), {"pads": None, "auto_pad": "VALID"}),
        (dense(3, 3, channels=1, outs=6), {"group": 3}),
    ],
)
def test_kernels_dilations_pads_and_groups(kernel: Array, attributes: dict[str, Any]) -> None:
    assert_rewritten(model_of(resize(), kernel=kernel, **attributes))


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank: int) -> None:
    sizes = (4, 3, 5)[:rank]
    kernel = models.kernel_of((4, CHANNELS, *(3,) * rank))
    front = resize((1, 1, *(2,) * rank))
    model = model_of(front, kernel=kernel, dims=(1, CHANNELS, *sizes), pads=[1] * (2 * rank))
    assert_rewritten(model, (1, CHANNELS, *sizes))


def test_a_deconv_of_stride_1_behind_an_upsampling_is_a_convolution_with_its_filter_turned() -> None:
    kernel = models.kernel_of((CHANNELS, 4, 3, 3))
    model = model_of(resize(), kernel=kernel, op_type="ConvTranspose", pads=[1, 0, 1, 2])
    assert the_site(model).deconv.written_out is not None
    assert_rewritten(model)


def test_two_upsamplings_are_one() -> None:
    model = model_of(
        then(
            resize((1, 1, 2, 1)),
            [
                lambda x, y: node(
                    "Resize",
                    [x, "", "again"],
                    y,
                    mode="nearest",
                    coordinate_transformation_mode="asymmetric",
                    nearest_mode="floor",
                )
            ],
            {"again": np.array([1, 1, 2, 3], np.float32)},
        )
    )
    assert the_site(model).deconv.strides == (4, 3)
    assert_rewritten(model)


def test_element_wise_nodes_between_go_before() -> None:
    scale = models.kernel_of((CHANNELS, 1, 1), 5)
    front = then(
        resize(),
        [
            lambda x, y: node("Mul", [x, "scale"], y),
            lambda x, y: node("Add", ["one", x], y),
            lambda x, y: node("Relu", [x], y),
        ],
        {"scale": scale, "one": np.ones((), np.float32)},
    )
    model = model_of(front)
    assert [stage.node.op_type for stage in the_site(model).origin.nodes[1].stages] == ["Mul", "Add", "Relu"]
    assert_rewritten(model)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
def test_pads_between(mode: str) -> None:
    front = then(resize(), [lambda x, y: node("Pad", [x, "pad"], y, mode=mode)], {"pad": PAD})
    assert_rewritten(model_of(front, pads=[0] * 4))


def test_zeros_stay_zeros_through_functions_that_keep_them() -> None:
    nodes = [lambda x, y: node("Pad", [x, "pad"], y), lambda x, y: node("Relu", [x], y)]
    assert_rewritten(model_of(then(resize(), nodes, {"pad": PAD}), pads=[0] * 4))


def test_and_functions_that_do_not_keep_them_leave_the_site_alone() -> None:
    nodes = [lambda x, y: node("Pad", [x, "pad"], y), lambda x, y: node("Sigmoid", [x], y)]
    found = load(model_of(then(resize(), nodes, {"pad": PAD}), pads=[0] * 4)).find()
    assert not found.sites
    (skipped,) = found.skipped
    assert "cannot be shown to repeat each pixel" in skipped.reason


@pytest.mark.parametrize("front", ["scales", "recomputed", "half_pixel"])
def test_open_sizes(front: str) -> None:
    model = model_of(UPSAMPLED[front], dims=("n", CHANNELS, "h", "w"))
    assert the_site(model).deconv.strides == (2, 2)
    for shape in ((2, CHANNELS, 5, 6), (1, CHANNELS, 1, 9)):
        assert_rewritten(model, shape)


def test_sizes_that_are_fixed_while_the_input_is_open_have_no_ratio() -> None:
    found = load(model_of(models.resize_by_sizes(10, 18), dims=(1, CHANNELS, "h", "w"))).find()
    assert not found.sites
    assert "whole number of times, whatever the size" in found.skipped[0].reason


def test_large_maps_of_fixed_sizes_keep_their_factor() -> None:
    """They are followed with few channels; few columns would look stretched further."""
    model = model_of(models.resize_by_sizes(1280, 1280), dims=(1, CHANNELS, 640, 640))
    assert the_site(model).deconv.strides == (2, 2)


@pytest.mark.parametrize(
    ("front", "attributes", "reason"),
    [
        (resize(mode="linear"), {}, "its upsampling is linear"),
        (resize((1, 1, 1.5, 2)), {}, "whole number of times"),
        (resize(coordinate_transformation_mode="half_pixel", nearest_mode="floor"), {}, "inside of a pixel's copies"),
        (
            resize((1, 1, 3, 3), coordinate_transformation_mode="align_corners", nearest_mode="floor"),
            {},
            "whole number",
        ),
        (resize(), {"strides": [2, 2]}, "has stride 2"),
        (resize(), {"dilations": [3, 3], "pads": [3] * 4}, "nothing to save"),
    ],
)
def test_what_must_stay_stays_with_a_reason(front: Any, attributes: dict[str, Any], reason: str) -> None:
    found = load(model_of(front, **attributes)).find()
    assert not found.sites
    (skipped,) = found.skipped
    assert skipped.site == "site"
    assert reason in skipped.reason


def test_a_dense_deconv_ends_the_search_for_an_upsampling() -> None:
    def deconv(x: str, y: str) -> onnx.NodeProto:
        return node("ConvTranspose", [x, "d"], y, name="dense", strides=[2, 2])

    front = then(resize(mode="linear"), [deconv], {"d": models.kernel_of((CHANNELS, CHANNELS, 2, 2))})
    found = load(model_of(front)).find()
    assert [site.id for site in found.sites] == ["dense"]
    assert not found.skipped


def test_an_upsampled_map_that_is_an_output_stays() -> None:
    model = model_of(resize(), outputs={"y": [None] * 4, "u": [None] * 4})
    feeds = {"x": integers(1, CHANNELS, *SIZES)}
    wanted = run(model, feeds)
    for _, converted in conversions(model):
        found = run(converted, feeds)
        np.testing.assert_array_equal(found["y"], wanted["y"])
        np.testing.assert_array_equal(found["u"], wanted["u"])


def test_two_readers_are_both_rewritten_and_the_upsampling_goes() -> None:
    second = node("Conv", ["u", "w"], "z", name="second", pads=[0, 1, 2, 0])
    model = model_of(resize(), after=[second], outputs={"y": [None] * 4, "z": [None] * 4})
    assert {site.id for site in sites(load(model))} == {"site", "second"}
    assert_rewritten(model)


@pytest.mark.parametrize("batch", [2, None])
def test_channels_that_count_as_items_of_the_batch(batch: int | None) -> None:
    """StyleGAN2's ``upfirdn2d``: one filter for maps that a Reshape puts into the batch; here for two channels each."""
    opened = node("Reshape", ["x", "open"], "x6"), node("Pad", ["x6", "zeros"], "padded")
    nodes = [*opened, node("Reshape", ["padded", "closed"], "u")]
    known = {
        "open": numbers(-1, 2, 5, 1, 6, 1),
        "zeros": numbers(*[0] * 9, 1, 0, 1),
        "closed": numbers(-1, 2, 10, 12),
    }
    model = model_of((nodes, known), dims=(batch, 6, *SIZES), kernel=models.kernel_of((4, 2, 3, 3)))
    assert the_site(model).deconv.batch == (None if batch is None else 6)
    assert_rewritten(model, (2, 6, *SIZES))
    if batch is not None:
        alone = emitted(model)
        x = {"x": integers(6, 2, *SIZES)}
        (wanted,) = run(alone["native"], x).values()
        np.testing.assert_array_equal(run(alone["split_phases:concat"], x)["y"], wanted)


def test_a_chain_of_sites() -> None:
    """The source of the second site is what the first one makes, its epilogue included."""
    after = [
        node("Relu", ["y"], "r"),
        node(
            "Resize",
            ["r", "", "scales"],
            "u2",
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        node("Conv", ["u2", "w2"], "z", name="second", pads=[1] * 4),
    ]
    nodes, known = resize()
    model = model_of(
        (nodes, {**known, "w2": models.kernel_of((2, 4, 3, 3), 3)}), after=after, outputs={"z": [None] * 4}
    )
    assert_rewritten(model)


@st.composite
def fronts(draw: st.DrawFn) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """Nodes that stretch a map of random sizes in one of several ways, its sizes, and the stretched map's."""
    sizes = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    factors = draw(st.sampled_from([(2, 2), (3, 2), (1, 2), (4, 1), (3, 3)]))
    kind = draw(st.sampled_from(["resize", "expand", "tile", "zeros"]))
    height, width = sizes
    tall, wide = (size * factor for size, factor in zip(sizes, factors, strict=True))
    opened, whole = numbers(1, CHANNELS, height, 1, width, 1), numbers(1, CHANNELS, tall, wide)
    if kind == "resize":
        return resize((1, 1, *factors)), sizes, (tall, wide)
    middle = {
        "expand": ("Expand", numbers(1, CHANNELS, height, factors[0], width, factors[1])),
        "tile": ("Tile", numbers(1, 1, 1, factors[0], 1, factors[1])),
        "zeros": ("Pad", numbers(*[0] * 9, factors[0] - 1, 0, factors[1] - 1)),
    }[kind]
    nodes = [
        node("Reshape", ["x", "opened"], "x6"),
        node(middle[0], ["x6", "middle"], "grown"),
        node("Reshape", ["grown", "whole"], "u"),
    ]
    return (nodes, {"opened": opened, "middle": middle[1], "whole": whole}), sizes, (tall, wide)


@st.composite
def whole_models(draw: st.DrawFn) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A convolution of a stretched map, with a Pad, a Slice or an activation between; and the input's sizes."""
    front, sizes, stretched = draw(fronts())
    order = draw(st.sampled_from([None, None, ("v", "s"), ("s", "v", "s")]))
    if order:
        front = models.beside(front, order, sizes, stretched)
    dilations = [draw(st.sampled_from([1, 1, 2, 3])) for _ in range(2)]
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    pads = [draw(st.integers(0, 3)) for _ in range(4)]
    between = draw(st.sampled_from(["", "Relu", "Pad", "edge", "Slice"]))
    # a border around a single pixel, or around two, is itself an upsampling of them
    assume(between != "edge" or (min(sizes) > 1 and min(stretched) > 2))
    grown = {"Pad": 1, "edge": 1, "Slice": -1}.get(between, 0)
    for axis in range(2):  # an output of one pixel at least
        pads[2 + axis] += max(0, reach[axis] + 1 - (stretched[axis] + 2 * grown + pads[axis] + pads[2 + axis]))
    if between in ("Pad", "edge"):
        mode = "constant" if between == "Pad" else "edge"
        front = then(front, [lambda x, y: node("Pad", [x, "pad"], y, mode=mode)], {"pad": PAD})
    elif between == "Slice":
        assume(min(stretched) > 2)
        cut = {"one": numbers(1, 1), "minus": numbers(-1, -1), "spatial": numbers(2, 3)}
        front = then(front, [lambda x, y: node("Slice", [x, "one", "minus", "spatial"], y)], cut)
    elif between:
        front = then(front, [lambda x, y: node(between, [x], y)], {})
    channels = CHANNELS * len(order or "x")
    groups = draw(st.sampled_from([1, 1, CHANNELS, channels]))
    weight = models.kernel_of((max(3, groups), channels // groups, *kernel), draw(st.integers(0, 100)))
    dims = (1, CHANNELS, *sizes)
    return model_of(front, kernel=weight, dims=dims, pads=pads, dilations=dilations, group=groups), dims


def assert_random_model_is_rewritten(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    """It is rewritten bit for bit, or skipped with a reason."""
    found = load(model).find()
    if found.sites:
        assert_rewritten(model, shape)
    else:
        event("no site: " + "".join(each.reason for each in found.skipped))


@given(whole_models())
@examples(150, 10_000)
def test_random_models(case: tuple[onnx.ModelProto, tuple[int, ...]]) -> None:
    assert_random_model_is_rewritten(*case)


def test_native_alone_is_all_nodes_of_the_model() -> None:
    made = emitted(model_of(models.keras_tiles()))
    native = [each.op_type for each in made["native"].graph.node]
    assert native.count("Tile") == 2
    assert native[-1] == "Conv"
    assert [each.op_type for each in made["native:deconv"].graph.node] == ["ConvTranspose"]


def test_what_others_read_of_an_upsampled_map_is_in_every_forms_time() -> None:
    readers = node("GlobalAveragePool", ["u"], "z")
    model = model_of(resize(), after=[readers], outputs={"y": [None] * 4, "z": [None] * 4})
    for name, made in emitted(model).items():
        assert [each.op_type for each in made.graph.node].count("Resize") == 1, name
        assert [output.name for output in made.graph.output] == ["y", "kept"]
