"""Convolutions whose channels become pixels: found by where elements go, and as TRANSPOSE_CONV with the same bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as tfl

import splitdeconv
from splitdeconv.deconv.sub_pixel import SubPixel, define_sub_pixel
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import SubPixelSite
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.proof.sub_pixel import prove_sub_pixel
from splitdeconv.targets import target
from tests.formats.tflite.test_fold import operators, run
from tests.tflite_models import Tree, loaded, quant

SIZES, CHANNELS, ROWS, COLUMNS = (5, 6), 3, 2, 3
RELU = 1


def sub_pixel_model(
    kind: str = "DEPTH_TO_SPACE",
    bias: str = "of each phase",
    *,
    kernel: tuple[int, int] = (3, 2),
    same: bool = True,
    dilations: tuple[int, int] = (1, 1),
    weights: str = "float32",
    activation: int = 0,
    open_batch: bool = False,
    groups: int = 1,
    outs: int = 2,
) -> tuple[TfliteModel, Array, Array]:
    """A model, an input of whole numbers, and the output by definition (before the activation, channels last)."""
    rng, tree = np.random.default_rng(0), Tree()
    factors = (2, 2) if kind == "DEPTH_TO_SPACE" else (ROWS, COLUMNS)
    depth = outs * int(np.prod(factors))
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    pads = tuple((r // 2, r - r // 2) if same else (0, 0) for r in reach)
    sizes = [size if same else size - r for size, r in zip(SIZES, reach, strict=True)]
    w = rng.integers(-4, 5, (depth, CHANNELS // groups, *kernel)).astype(np.float32)
    b = rng.integers(-4, 5, depth).astype(np.float32)
    b = np.full_like(b, 3) if bias == "alike" else b
    x = tree.tensor("float32", (2, *SIZES, CHANNELS), "x")
    operands = [x, _stored(tree, np.moveaxis(w, 1, -1), weights), tree.tensor("float32", (depth,), "b", values=b)]
    v = tree.tensor("float32", (2, *sizes, depth), "conv;more")
    options = tfl.Conv2DOptionsT(padding=0 if same else 1, strideH=1, strideW=1, fusedActivationFunction=activation)
    options.dilationHFactor, options.dilationWFactor = dilations
    tree.operator("CONV_2D", 6 if groups > 1 else 5 if weights == "int8" else 1, operands, v, options)
    finer = (2, sizes[0] * factors[0], sizes[1] * factors[1], outs)
    y = tree.tensor("float32", finer, "y")
    if kind == "DEPTH_TO_SPACE":
        tree.operator("DEPTH_TO_SPACE", 1, [v], y, tfl.DepthToSpaceOptionsT(blockSize=2))
    else:
        _written_out(tree, v, y, (2, *sizes, *factors, outs))
    if open_batch:
        for each in (x, v, y):
            tree.graph.tensors[each].shapeSignature = np.array([-1, *tree.graph.tensors[each].shape[1:]], np.int32)
    order = np.arange(depth).reshape(*factors, outs).transpose(2, 0, 1).reshape(-1)
    spec = SubPixel(kernel, dilations, pads, factors, groups, CHANNELS, tuple(int(each) for each in order))
    values = rng.integers(-4, 5, (2, *SIZES, CHANNELS)).astype(np.float32)
    wanted = define_sub_pixel(np.moveaxis(values, -1, 1), w, b, spec)
    return loaded(tree.packed([x], [y])), values, np.moveaxis(wanted, 1, -1)


def _stored(tree: Tree, values: Array, kind: str) -> int:
    if kind == "float32":
        return tree.tensor("float32", values.shape, "w", values=values)
    if kind == "int8":
        return tree.tensor("int8", values.shape, "w", quant(0.5), values)
    stored, opened = (
        tree.tensor("float16", values.shape, "w16", values=values),
        tree.tensor("float32", values.shape, "w"),
    )
    tree.operator("DEQUANTIZE", 3, [stored], opened, tfl.DequantizeOptionsT())
    return opened


def _written_out(tree: Tree, v: int, y: int, split: tuple[int, ...]) -> None:
    batch, height, width, rows, columns, outs = split
    first, second = (
        tree.tensor("int32", (6,), f"n{n}", values=each) for n, each in enumerate((split, (0, 1, 3, 2, 4, 5)))
    )
    apart = tree.tensor("float32", split, "apart")
    turned = tree.tensor("float32", (batch, height, rows, width, columns, outs), "turned")
    tree.operator("RESHAPE", 1, [v, first], apart, tfl.ReshapeOptionsT())
    tree.operator("TRANSPOSE", 4, [apart, second], turned, tfl.TransposeOptionsT())
    last = tree.tensor("int32", (4,), "last", values=tree.graph.tensors[y].shape)
    tree.operator("RESHAPE", 1, [turned, last], y, tfl.ReshapeOptionsT())


def turned(model: TfliteModel) -> tuple[TfliteModel, tuple[str, ...]]:
    sites, left = model.sub_pixels()
    return loaded(model.turned(sites).to_object()) if sites else model, tuple(each.reason for each in left)


def result(model: TfliteModel, x: Array) -> Array:
    (y,) = run(model, x).values()
    return y


@pytest.mark.parametrize("kind", ["DEPTH_TO_SPACE", "RESHAPE"])
@pytest.mark.parametrize("bias", ["alike", "of each phase"])
@pytest.mark.parametrize("activation", [0, RELU])
def test_every_way_to_write_it_is_found_and_keeps_the_bits(kind: str, bias: str, activation: int) -> None:
    model, x, wanted = sub_pixel_model(kind, bias, activation=activation)
    found, left = turned(model)
    cropped = ["STRIDED_SLICE"]  # a kernel of two columns is padded on one side
    phases = ["RESHAPE", "ADD", "RESHAPE"] if bias == "of each phase" else []
    assert (operators(found), left) == (["TRANSPOSE_CONV", *cropped, *phases], ())
    wanted = np.maximum(wanted, 0) if activation else wanted
    np.testing.assert_array_equal(result(model, x), wanted)
    np.testing.assert_array_equal(result(found, x), wanted)
    assert [site.id for site in found.find().sites] == ["conv"]


@pytest.mark.parametrize(
    ("kernel", "same", "dilations", "open_batch"),
    [((3, 3), True, (1, 1), False), ((3, 2), False, (1, 2), False), ((2, 2), True, (2, 1), True)],
)
def test_pads_dilation_and_an_open_batch_keep_the_bits(
    kernel: tuple[int, int], same: bool, dilations: tuple[int, int], open_batch: bool
) -> None:
    model, x, wanted = sub_pixel_model(kernel=kernel, same=same, dilations=dilations, open_batch=open_batch)
    np.testing.assert_array_equal(result(turned(model)[0], x), wanted)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"weights": "int8"}, "is quantised: its weights would be stored in another order"),
        ({"weights": "float16"}, "has weights of float16, in place of which others would be stored"),
        ({"activation": 4}, "fused activation 4 is none that TRANSPOSE_CONV has"),
        ({"groups": 3, "outs": 3}, "the phases of a channel come from several groups"),
    ],
)
def test_what_stays_says_why(options: dict[str, object], reason: str) -> None:
    model, _, _ = sub_pixel_model(**options)  # type: ignore[arg-type]
    assert turned(model) == (model, (reason,))


def site_of(model: TfliteModel) -> SubPixelSite:
    ((site,), _) = model.sub_pixels()
    return site


def test_it_is_proved_on_whole_numbers_and_a_wrong_order_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _, _ = sub_pixel_model()
    runner = target("litert")
    assert prove_sub_pixel(model, site_of(model), runner).exact
    right = SubPixel.deconv_kernel
    monkeypatch.setattr(SubPixel, "deconv_kernel", lambda spec, own: np.roll(right(spec, own), 1, axis=1))
    assert not prove_sub_pixel(model, site_of(model), runner).exact


def test_the_pair_alone_is_what_the_model_has() -> None:
    model, x, wanted = sub_pixel_model("RESHAPE", activation=RELU)
    site, runner = site_of(model), target("litert")
    for as_deconv in (False, True):
        emitted = model.emit_sub_pixel(site, site.kernel, site.bias, turned=as_deconv)
        (y,) = runner.compile(emitted).run({"x": x}).values()
        np.testing.assert_array_equal(y, np.maximum(wanted, 0))


def test_restore_gives_the_convolution_back_through_both_conversions(tmp_path: Path) -> None:
    model, x, wanted = sub_pixel_model()
    once, _ = turned(model)
    twice = splitdeconv.convert(once.to_object(), target="generic", lowering="split").rewritten
    assert "TRANSPOSE_CONV" not in operators(twice)  # type: ignore[arg-type]
    for each in (once, twice):
        path = tmp_path / "turned.tflite"
        each.save(path)
        again = splitdeconv.restore(path).restored
        assert operators(again) == ["CONV_2D", "DEPTH_TO_SPACE"]  # type: ignore[arg-type]
        np.testing.assert_array_equal(result(again, x), wanted)  # type: ignore[arg-type]
