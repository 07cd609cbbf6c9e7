"""Convolutions whose channels become pixels: found by where elements go, and as ConvTranspose with the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import splitdeconv
from splitdeconv.deconv import reference
from splitdeconv.deconv.sub_pixel import SubPixel, define_sub_pixel
from splitdeconv.deconv.weights import Array, Weights
from tests.examples import examples
from tests.models import op_types
from tests.onnx_models import OPSET, build, load, run, written


@st.composite
def sub_pixels(draw: st.DrawFn) -> SubPixel:
    """Any order of channels, 1 to 3 axes, uneven pads, dilation, groups."""
    rank = draw(st.sampled_from([1, 2, 2, 3]))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    dilations = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    pads = tuple(
        (draw(st.integers(0, (k - 1) * d)), draw(st.integers(0, (k - 1) * d)))
        for k, d in zip(kernel, dilations, strict=True)
    )
    factors = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    groups, each, ins = draw(st.sampled_from([1, 1, 2])), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    per_group = each * int(np.prod(factors))
    order = [place + group * per_group for group in range(groups) for place in draw(st.permutations(range(per_group)))]
    return SubPixel(kernel, dilations, pads, factors, groups, ins * groups, tuple(order))


def values(spec: SubPixel, seed: int = 0, size: int = 5) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    shapes = (
        (2, spec.in_channels, *(size + number for number in range(len(spec.kernel)))),
        (len(spec.channels), spec.in_channels // spec.groups, *spec.kernel),
        (len(spec.channels),),
    )
    x, kernel, bias = (rng.integers(-4, 5, shape).astype(np.float32) for shape in shapes)
    return x, kernel, bias


@examples(10, 300)
@given(sub_pixels())
def test_it_is_the_deconv_whose_split_it_is(spec: SubPixel) -> None:
    x, kernel, _ = values(spec)
    assert spec.refuse() is None
    deconv = spec.deconv(2, x.shape[2:], "float32")
    found = reference.deconv(x, Weights(spec.deconv_kernel(kernel)), deconv)
    np.testing.assert_array_equal(found, define_sub_pixel(x, kernel, None, spec))


PLAIN = SubPixel((3, 2), (1, 2), ((1, 1), (2, 0)), (2, 2), 1, 3, tuple(range(8)))
NAMES = {"x": ["N", 3, None, None]}


def shuffle(kind: str, shape: tuple[int, ...]) -> tuple[list[onnx.NodeProto], dict[str, Array], tuple[int, ...]]:
    """Nodes from ``v`` to ``y``, and the order of channels that they make, for a factor of 2 on both axes."""
    batch, channels, height, width = shape
    count = channels // 4
    block = tuple(phase * count + channel for channel in range(count) for phase in range(4))
    if kind in ("DCR", "CRD"):
        node = helper.make_node("DepthToSpace", ["v"], ["y"], blocksize=2, mode=kind)
        return [node], {}, block if kind == "DCR" else tuple(range(channels))
    first = [batch, count, 2, 2, height, width] if kind == "torch" else [batch, 2, 2, count, height, width]
    perm = [0, 1, 4, 2, 5, 3] if kind == "torch" else [0, 3, 4, 1, 5, 2]
    nodes = [
        helper.make_node("Reshape", ["v", "first"], ["v1"]),
        helper.make_node("Transpose", ["v1"], ["v2"], perm=perm),
        helper.make_node("Reshape", ["v2", "last"], ["y"]),
    ]
    last = [batch, count, 2 * height, 2 * width]
    constants = {"first": np.array(first), "last": np.array(last)}
    return nodes, constants, tuple(range(channels)) if kind == "torch" else block


def sub_pixel_model(
    kind: str, spec: SubPixel = PLAIN, *, biased: bool = True, alike: bool = False, dims: object = None
) -> tuple[onnx.ModelProto, Array, Array]:
    """A model, an input, and the output by definition."""
    x, kernel, bias = values(spec)
    sizes = [
        size + sum(pads) - (k - 1) * d
        for size, k, d, pads in zip(x.shape[2:], spec.kernel, spec.dilations, spec.pads, strict=True)
    ]
    nodes, constants, channels = shuffle(kind, (2, len(spec.channels), *sizes))
    spec = replace(spec, channels=channels)
    bias = np.full_like(bias, 3) if alike else bias
    begin, end = zip(*spec.pads, strict=True)
    conv = helper.make_node(
        "Conv",
        ["x", "w", *(["b"] if biased else [])],
        ["v"],
        name="conv",
        pads=[*begin, *end],
        dilations=list(spec.dilations),
        group=spec.groups,
    )
    known = {"w": kernel, **({"b": bias} if biased else {}), **constants}
    model = build([conv, *nodes], {"x": dims or x.shape}, {"y": [None] * 4}, known)  # type: ignore[dict-item]
    return model, x, define_sub_pixel(x, kernel, bias if biased else None, spec)


def turned(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    loaded = load(model)
    sites, left = loaded.sub_pixels()
    return written(loaded.turned(sites)) if sites else model, tuple(each.reason for each in left)


@pytest.mark.parametrize("kind", ["DCR", "CRD", "torch", "reshaped"])
@pytest.mark.parametrize("bias", ["none", "alike", "of each phase"])
def test_every_way_to_write_it_is_found_and_keeps_the_bits(kind: str, bias: str) -> None:
    model, x, wanted = sub_pixel_model(kind, biased=bias != "none", alike=bias == "alike")
    found, left = turned(model)
    phases = ["Reshape", "Add", "Reshape"] if bias == "of each phase" else []
    assert (op_types(found), left) == (["ConvTranspose", *phases], ())
    np.testing.assert_array_equal(run(found, {"x": x})["y"], wanted)
    np.testing.assert_array_equal(run(model, {"x": x})["y"], wanted)


def test_open_sizes_stay_open() -> None:
    model, x, wanted = sub_pixel_model("DCR", dims=("N", 3, "H", "W"))
    found, _ = turned(model)
    assert op_types(found)[0] == "ConvTranspose"
    np.testing.assert_array_equal(run(found, {"x": x})["y"], wanted)


def test_groups_are_those_of_the_finer_map_or_it_stays() -> None:
    grouped = SubPixel((3, 3), (1, 1), ((1, 1), (1, 1)), (2, 2), 2, 4, tuple(range(8)))
    model, x, wanted = sub_pixel_model("CRD", grouped)
    found, _ = turned(model)
    assert op_types(found)[0] == "ConvTranspose"
    np.testing.assert_array_equal(run(found, {"x": x})["y"], wanted)
    assert turned(sub_pixel_model("DCR", grouped)[0])[1] == ("the phases of a channel come from several groups",)


def test_pads_wider_than_the_kernel_stay() -> None:
    wide = replace(PLAIN, pads=((3, 1), (2, 0)))
    reason = "its pads are wider than its kernel, and a ConvTranspose has no negative ones"
    assert turned(sub_pixel_model("DCR", wide)[0])[1] == (reason,)


def test_what_is_no_finer_map_is_not_asked_about() -> None:
    model, _, _ = sub_pixel_model("torch")
    next(node for node in model.graph.node if node.op_type == "Transpose").attribute[0].ints[:] = [0, 1, 2, 4, 3, 5]
    assert turned(model) == (model, ())


def test_an_overridable_weight_stays() -> None:
    model, _, _ = sub_pixel_model("DCR")
    model.graph.input.append(helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [8, 3, 3, 2]))
    assert turned(model)[1] == ("input 'w' could replace its weights at run time",)


def test_restore_gives_the_convolution_back(tmp_path: Path) -> None:
    model, x, wanted = sub_pixel_model("torch")
    found, _ = turned(model)
    onnx.save(found, tmp_path / "turned.onnx")
    again = splitdeconv.restore(tmp_path / "turned.onnx")
    assert op_types(again.model) == ["Conv", "Reshape", "Transpose", "Reshape"]
    weight = next(each for each in again.model.graph.initializer if each.name == "w")
    assert weight == next(each for each in model.graph.initializer if each.name == "w")
    np.testing.assert_array_equal(run(again.model, {"x": x})["y"], wanted)
    assert again.model.opset_import[0].version == OPSET
