"""Convolutions behind upsamplings and inserted zeros: found by where elements go, and rewritten bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert")
from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.spec import WrittenOut
from splitdeconv.formats.tflite.moves import nearest
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.proof.sites import noise_of_site, prove_site, wrong_numbers
from tests.examples import crossed, examples
from tests.formats.tflite import stretched_models as models
from tests.formats.tflite.stretched_checks import (
    SHAPE,
    STRETCHING,
    assert_rewritten,
    forms,
    litert,
    operators,
    run,
    the_site,
    whole_numbers,
)
from tests.formats.tflite.stretched_models import CHANNELS, SIZES, constant, keras, model_of, pad, resize, unary
from tests.tflite_models import loaded

UPSAMPLED = {
    "resize": model_of(resize()),
    "half_pixel_centers": model_of(resize(halfPixelCenters=True)),
    "unequal": model_of(resize(3, 1)),
    "keras": model_of(keras()),
    "keras_open": model_of(models.keras_open, open_batch=True),
    "keras_open_sizes": model_of(keras(2, 3), open_batch=True),
    "gather_nd": model_of(models.gather_nd),
    "lines": model_of(models.lines),
    "pack": model_of(models.packed),
    "twice": model_of(resize(), keras(1, 3)),
}


ZEROS = {
    "stablehlo_pad": model_of(models.stablehlo_pad()),
    "stablehlo_pad_edges": model_of(models.stablehlo_pad(3, 2, (1, 0, 2, 1)), same=False),
    "dilate": model_of(models.dilate),
    "one_tap": model_of(models.one_tap),
    "upfirdn2d": model_of(models.padded_zeros, pad(), same=False),
}


@pytest.mark.parametrize("name", UPSAMPLED)
def test_upsampling_in_every_way_is_found(name: str) -> None:
    _, site = the_site(UPSAMPLED[name])
    assert site.id == "site"
    assert site.deconv.written_out == WrittenOut("repeat", (3, 3), (1, 1))
    assert_rewritten(UPSAMPLED[name], least=10)


@pytest.mark.parametrize("name", ZEROS)
def test_inserted_zeros_in_every_way_are_found(name: str) -> None:
    _, site = the_site(ZEROS[name])
    assert site.deconv.written_out == WrittenOut("zeros", (3, 3), (1, 1))
    assert_rewritten(ZEROS[name], least=10)


def test_a_source_with_its_channels_first_is_transposed() -> None:
    assert_rewritten(model_of(models.channels_first, dims=(1, CHANNELS, *SIZES)), (1, CHANNELS, *SIZES))


def test_upfirdn2d_of_channels_first_is_found() -> None:
    content = model_of(models.torch_upfirdn2d, dims=(1, CHANNELS, *SIZES), kernel=(4, 4), same=False)
    _, site = the_site(content)
    assert site.deconv.written_out == WrittenOut("zeros", (4, 4), (1, 1))
    assert_rewritten(content, (1, CHANNELS, *SIZES), most=4)


def test_large_maps_with_their_channels_first_keep_their_factor() -> None:
    """They are followed with few channels; few columns would look stretched further, to sizes that are fixed."""
    dims = (1, CHANNELS, 640, 640)
    _, site = the_site(model_of(models.to_channels_last, resize(), dims=dims, weights="float16"))
    assert site.deconv.strides == (2, 2)


@pytest.mark.parametrize("content", [model_of(models.line_of_columns, dims=(1, CHANNELS, 6), kernel=(1, 3))])
def test_a_map_of_columns_is_seen_with_a_height_of_one(content: bytes) -> None:
    assert_rewritten(content, (1, CHANNELS, 6))


def test_a_map_of_one_axis_is_seen_with_a_height_of_one() -> None:
    content = model_of(models.line_of_pixels, dims=(2, 6, CHANNELS), kernel=(1, 5))
    _, site = the_site(content)
    assert site.deconv.strides == (1, 2)
    assert_rewritten(content, (2, 6, CHANNELS))


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": (1, 1)},
        {"dilations": (2, 2)},
        {"kernel": (1, 5), "dilations": (1, 2), "same": False},
        {"kernel": (5, 2)},
        {"kernel": (3, 4), "same": False, "activation": 1},
        {"kernel": (2, 2), "activation": 3},
        {"kind": "DEPTHWISE_CONV_2D", "outs": 2},
        {"kind": "DEPTHWISE_CONV_2D", "outs": 1, "activation": 1},
        {"kind": "TRANSPOSE_CONV"},
        {"kind": "TRANSPOSE_CONV", "same": False, "kernel": (2, 4), "activation": 1},
        {"weights": "float16"},
        {"weights": "int8_opened"},
        {"keep": True},
        {"kernel": (4, 1), "dims": (1, 1, 4, CHANNELS)},
        {"outs": 6, "groups": 3},
    ],
)
def test_kernels_dilations_groups_and_stored_types(changes: dict[str, Any]) -> None:
    assert_rewritten(model_of(resize(), **changes), changes.get("dims", SHAPE))


@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 1, 1)])
def test_three_axes(kernel: Sequence[int]) -> None:
    dims = (1, 2, 3, 4, CHANNELS)
    content = model_of(models.keras_3d, dims=dims, kernel=kernel, kind="CONV_3D", dilations=(1, 1, 1), activation=1)
    assert_rewritten(content, dims)


def test_element_wise_operators_between_go_before() -> None:
    content = model_of(
        resize(),
        constant("MUL", [1, 2, 3]),
        constant("ADD", 1.0),
        constant("SUB", [[[1, -2, 0]]], first=True),
        unary("RELU"),
    )
    _, site = the_site(content)
    assert len(site.origin.nodes[0].stretched.stages) == 4
    assert_rewritten(content)


@pytest.mark.parametrize("between", [pad(), pad("SYMMETRIC"), pad("REFLECT"), models.crop])
def test_pads_and_crops_between(between: models.Write) -> None:
    assert_rewritten(model_of(resize(), between, same=False))


def test_zeros_stay_zeros_through_functions_that_keep_them() -> None:
    assert_rewritten(model_of(resize(), pad(), unary("RELU"), same=False))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (model_of(resize(), pad(), unary("LOGISTIC"), same=False), "a whole number of times"),
        (model_of(resize(3, 3, alignCorners=True)), "a whole number of times"),
        (model_of(resize(47, 1), dims=(1, 5, 2, CHANNELS)), "a whole number of times"),
        (model_of(models.bilinear), "its upsampling is bilinear"),
        (model_of(resize(), strides=2), "has stride 2"),
        (model_of(resize(), dilations=(3, 3)), "nothing to save"),
        (model_of(resize(), weights="int8"), "do not fit into the weights' type"),
        (model_of(keras(), weights="hybrid"), "do not fit into the weights' type"),
    ],
)
def test_what_must_stay_stays_with_a_reason(content: bytes, reason: str) -> None:
    found = loaded(content).find()
    assert not found.sites
    (skipped,) = found.skipped
    assert skipped.site == "site"
    assert reason in skipped.reason


def test_two_readers_are_both_rewritten_and_the_upsampling_goes() -> None:
    content = models.two_readers()
    assert len(loaded(content).find().sites) == 2
    model = loaded(content)
    programs = {site.id: list(forms(model, site))[-1][1] for site in model.find().sites}
    converted = model.splice(programs).to_object()
    assert not STRETCHING & set(operators(converted))
    x = whole_numbers(SHAPE)
    for found, right in zip(run(converted, x), run(content, x), strict=True):
        np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("factor", [2, 3, 41, 47, 55, 61])
def test_coordinates_are_those_of_litert(factor: int) -> None:
    content = models.resized(factor)
    (found,) = run(content, np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1))
    np.testing.assert_array_equal(found.reshape(-1), nearest(5, 5 * factor))
    whole = np.array_equal(nearest(5, 5 * factor), np.arange(5 * factor) // factor)
    assert whole == (factor < 41)


INT8 = {
    "1×1": model_of(resize(), weights="int8", kernel=(1, 1)),
    "dilated": model_of(keras(), unary("RELU"), weights="int8", dilations=(2, 2)),
    "depthwise 1×1": model_of(resize(), weights="int8", kernel=(1, 1), kind="DEPTHWISE_CONV_2D", outs=2),
    "zeros": model_of(models.stablehlo_pad(), weights="int8", activation=1),
    "depthwise zeros": model_of(
        models.stablehlo_pad(), weights="int8", kernel=(4, 4), kind="DEPTHWISE_CONV_2D", outs=2, same=False
    ),
    "dilate": model_of(models.dilate, weights="int8"),
    "upfirdn2d": model_of(models.padded_zeros, pad(), weights="int8", same=False),
}


@pytest.mark.parametrize("name", INT8)
def test_int8_where_no_weights_are_summed(name: str) -> None:
    assert_rewritten(INT8[name], dtype="int8")


def proved() -> dict[str, bytes]:
    some = {name: UPSAMPLED[name] for name in ("resize", "keras")} | {"zeros": ZEROS["dilate"]}
    opened = {"float16": model_of(resize(), weights="float16"), "hybrid": model_of(models.dilate, weights="hybrid")}
    return some | INT8 | opened


@pytest.mark.parametrize(("name", "kernels"), crossed([*proved()], ["xnnpack", "reference"]))
def test_every_form_is_proved_against_the_definition(name: str, kernels: str) -> None:
    model, site = the_site(proved()[name])
    runner = litert(kernels)
    for _, program in forms(model, site):
        if kernels == "reference" and model.unportable(program):
            continue
        assert prove_site(model, site, program, runner).exact, program.name
        assert wrong_numbers(model, site, program, runner) is None, program.name
        noise = noise_of_site(model, site, program, runner)
        assert noise is None or noise.passed, program.name


def test_a_form_whose_sums_lack_a_weight_is_not_exact() -> None:
    model, site = the_site(UPSAMPLED["resize"])
    program = lower(site.deconv, "NHWC", Candidate("split_phases", form="depth_to_space"))

    def broken(op: Conv) -> Conv:
        shorter = tuple(
            tuple(
                tuple(range(tap.start, tap.stop - 1) if isinstance(tap, range) else tap for tap in taps)
                for taps in block
            )
            for block in op.blocks
        )
        return replace(op, blocks=shorter)

    steps = [replace(step, op=broken(step.op)) if isinstance(step.op, Conv) else step for step in program.steps]
    proof = prove_site(model, site, replace(program, steps=tuple(steps)), litert("xnnpack"))
    assert not proof.exact
    assert "outputs differ" in proof.detail


def test_native_alone_is_all_operators_of_the_model() -> None:
    model, site = the_site(UPSAMPLED["keras"])
    made = {str(candidate): operators(model.emit(site, program).read()) for candidate, program in forms(model, site)}
    assert made["native"] == ["RESHAPE", "TILE", "RESHAPE", "RESHAPE", "TILE", "RESHAPE", "CONV_2D"]
    assert made["native:deconv"] == ["TRANSPOSE_CONV"]


def test_what_others_read_of_an_upsampled_map_is_in_every_forms_time() -> None:
    model, site = the_site(model_of(resize(), keep=True))
    for candidate, program in forms(model, site):
        alone = model.emit(site, program).read()
        assert operators(alone).count("RESIZE_NEAREST_NEIGHBOR") == 1, candidate
        assert len(run(alone, whole_numbers(SHAPE))) == 2


def test_an_upsampled_map_that_nobody_else_reads_goes() -> None:
    model, site = the_site(UPSAMPLED["keras"])
    for candidate, program in forms(model, site):
        left = set(operators(model.splice({site.id: program}).to_object()))
        assert candidate == NATIVE or not left & STRETCHING, candidate


def test_half_of_a_pair_is_no_site_of_its_own() -> None:
    found = loaded(ZEROS["one_tap"]).find()
    assert [site.id for site in found.sites] == ["site"]
    assert not found.skipped


def test_the_convolution_is_not_counted_with_the_rest_of_the_model() -> None:
    assert loaded(UPSAMPLED["resize"]).find().other_macs == 0


@st.composite
def whole_models(draw: st.DrawFn) -> tuple[bytes, tuple[int, ...], str]:
    """A convolution of a stretched map, with a pad, a crop or an activation between; the input's shape and type."""
    sizes = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    factors = draw(st.sampled_from([(2, 2), (3, 2), (1, 2), (4, 1), (3, 3)]))
    weights = draw(st.sampled_from(["float32", "float32", "float16", "int8"]))
    kind = draw(st.sampled_from(["resize", "keras", "zeros"]))
    front = {"resize": resize, "keras": keras, "zeros": models.stablehlo_pad}[kind](*factors)
    between = draw(st.sampled_from(["", "RELU", "PAD", "SYMMETRIC", "CROP"]))
    stretched = [(n - 1) * s + 1 if kind == "zeros" else n * s for n, s in zip(sizes, factors, strict=True)]
    if (between == "SYMMETRIC" and kind == "zeros") or (between == "CROP" and min(sizes) < 4):
        between = ""  # mirrored zeros, and single pixels that are left over, are no stretched map
    writes = {"": [], "RELU": [unary("RELU")], "PAD": [pad()], "SYMMETRIC": [pad("SYMMETRIC")], "CROP": [models.crop]}
    grown = {"PAD": 2, "SYMMETRIC": 2, "CROP": -2}.get(between, 0)
    order = draw(st.sampled_from([None, None, ("v", "s"), ("s", "v", "s")]))
    if order and between == "CROP":
        between, grown = "", 0  # a crop behind a concatenation is not looked through
    dilations = [draw(st.sampled_from([1, 1, 2, 3])) for _ in range(2)]
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    room = all(n + grown >= (k - 1) * d + 1 for n, k, d in zip(stretched, kernel, dilations, strict=True))
    operator = draw(st.sampled_from(["CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D"]))
    groups = draw(st.sampled_from([1, 1, CHANNELS])) if (operator, weights) == ("CONV_2D", "float32") else 1
    content = model_of(
        front,
        *([models.beside(*order)] if order else []),
        *writes[between],
        dims=(draw(st.integers(1, 2)), *sizes, CHANNELS),
        kernel=kernel,
        dilations=dilations,
        kind=operator,
        outs=groups * draw(st.integers(1, 3)),
        groups=groups,
        same=not room or draw(st.booleans()),
        activation=draw(st.sampled_from([0, 1, 3])),
        weights=weights,
        seed=draw(st.integers(0, 100)),
    )
    shape = tuple(int(size) for size in loaded(content).inputs()[0].shape or ())
    return content, shape, "int8" if weights == "int8" else "float32"


def assert_random_model_is_rewritten(content: bytes, shape: tuple[int, ...], dtype: str) -> None:
    """Some forms are right bit for bit, or it is skipped with a reason, or no map's pixels can be told apart."""
    found = loaded(content).find()
    if found.sites:
        assert_rewritten(content, shape, dtype, most=5)
    else:
        event("no site: " + "".join(each.reason for each in found.skipped))
        assert found.skipped or min(shape[1:3]) < 2, "a stretched map was overlooked"


@given(whole_models())
@examples(60, 10_000)
def test_random_models(case: tuple[bytes, tuple[int, ...], str]) -> None:
    assert_random_model_is_rewritten(*case)
