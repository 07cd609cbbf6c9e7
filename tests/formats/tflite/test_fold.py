"""Arithmetic with constants around a deconv in its weights: what goes, what stays and why, and that numbers stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as tfl

import splitdeconv
from splitdeconv.deconv import reference
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.targets.litert import LiteRtModel, interpreter
from tests.formats.tflite.stretched_models import model_of, resize
from tests.tflite_models import Case, Tree, loaded, trained_like

PLAIN = Case(in_sizes=(4, 5), kernel=(3, 4), stride=(2, 2), in_channels=3, out_channels=4)
EACH = np.array([1, -1, 2, 3], np.float32)
OPTIONS = {"ADD": tfl.AddOptionsT, "MUL": tfl.MulOptionsT, "SUB": tfl.SubOptionsT, "DIV": tfl.DivOptionsT}
Link = tuple[str, Any]  # an operator and its constant; a name behind a colon is that of its activation


def follow(tree: Tree, y: int, link: Link, label: str) -> int:
    """One operator behind ``y``: ``ADD``; ``-SUB`` with the map behind the number; ``ADD:1`` with an activation."""
    kind, values = link
    kind, _, activation = kind.partition(":")
    name, source = kind.removeprefix("-"), tree.graph.tensors[y]
    shape = tuple(int(size) for size in source.shape)
    made = tree.tensor("float32", shape, label)
    if name == "CROP":
        tree.graph.tensors[made].shape = np.array([shape[0], shape[1] - 1, shape[2], shape[3]], np.int32)
        bounds = [np.array(each) for each in ([0, 1, 0, 0], shape, [1] * 4)]
        operands = [y, *(tree.tensor("int32", (4,), f"{label}{n}", values=each) for n, each in enumerate(bounds))]
        tree.operator("STRIDED_SLICE", 1, operands, made, tfl.StridedSliceOptionsT())
        return made
    constant = tree.tensor("float32", np.shape(values), label + "constant", values=np.asarray(values))
    options = OPTIONS[name](fusedActivationFunction=int(activation or 0))
    tree.operator(name, 1, [constant, y] if kind[0] == "-" else [y, constant], made, options)
    return made


def chain(front: list[Link], behind: list[Link], case: Case = PLAIN, *, seed: int = 0) -> TfliteModel:
    """``front``, a deconv called ``site``, and ``behind``, from ``x`` to ``y``."""
    rng, tree = np.random.default_rng(seed), Tree()
    x = v = tree.tensor("float32", (case.batch, *case.in_sizes, case.in_channels), "x")
    for number, link in enumerate(front):
        v = follow(tree, v, link, f"front{number}")
    out = (case.batch, *case.out_sizes, case.out_channels)
    kernel = (case.out_channels, *case.kernel, case.in_channels)
    operands = [tree.tensor("int32", (4,), "sizes", values=np.array(out)), _weights(tree, case, rng, kernel), v]
    if case.bias:
        operands.append(tree.tensor("float32", kernel[:1], "bias", values=rng.integers(-8, 9, kernel[:1])))
    y = tree.tensor("float32", out, "site")
    options = tfl.TransposeConvOptionsT(
        padding=0 if case.same else 1,
        strideH=case.stride[0],
        strideW=case.stride[1],
        fusedActivationFunction=case.activation,
    )
    tree.operator("TRANSPOSE_CONV", 4 if case.activation else 3 if case.bias else 1, operands, y, options)
    for number, link in enumerate(behind):
        y = follow(tree, y, link, "y" if number == len(behind) - 1 else f"behind{number}")
    return loaded(tree.packed([x], [y]))


def _weights(tree: Tree, case: Case, rng: np.random.Generator, shape: tuple[int, ...]) -> int:
    if case.kind == "hybrid":
        scale = tfl.QuantizationParametersT(scale=np.array([0.01], np.float32), zeroPoint=np.array([0], np.int64))
        return tree.tensor("int8", shape, "kernel", scale, trained_like(rng, shape))
    if case.kind == "float32":
        return tree.tensor("float32", shape, "kernel", values=rng.integers(-4, 5, shape))
    stored = tree.tensor("float16", shape, "kernel16", values=rng.integers(-4, 5, shape))
    opened = tree.tensor("float32", shape, "kernel")
    tree.operator("DEQUANTIZE", 3, [stored], opened, tfl.DequantizeOptionsT())
    return opened


def run(model: TfliteModel, x: Array) -> dict[str, Array]:
    runner = LiteRtModel(interpreter(model.to_object(), "reference", 1))
    return runner.run(dict.fromkeys(runner.inputs, x))


def whole(model: TfliteModel) -> Array:
    (given,) = model.inputs()
    return np.random.default_rng(1).integers(-4, 5, [size or 1 for size in given.shape or ()]).astype(np.float32)


def operators(model: TfliteModel) -> list[str]:
    graph = Graph(model.root, 0)
    return [graph.name(operator) for operator in range(len(graph.operators))]


def fold(model: TfliteModel) -> tuple[TfliteModel, tuple[str, ...]]:
    """The model with everything folded, read anew, and the reasons for what stays; the bits are the same."""
    folds, left = model.foldable()
    folded = loaded(model.folded(folds).to_object())
    x = whole(model)
    before, after = run(model, x), run(folded, x)
    assert before.keys() == after.keys()
    for name, wanted in before.items():
        np.testing.assert_array_equal(after[name], wanted)
    assert [site.id for site in folded.find().sites] == [site.id for site in model.find().sites]
    return folded, tuple(each.reason for each in left)


NORM: list[Link] = [("MUL", EACH), ("ADD", EACH.reshape(1, 1, 1, 4))]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "behind",
    [
        NORM,
        [("MUL", 2.0), ("SUB", EACH)],
        [("-SUB", EACH), ("DIV", np.float32(0.5))],
        [("-MUL", EACH), ("ADD:1", EACH)],
        [("CROP", None), ("MUL", EACH), ("ADD:3", 1.0)],
        [("ADD", EACH), ("MUL", EACH), ("CROP", None)],
    ],
)
def test_whatever_is_linear_behind_a_deconv_is_folded_exactly(behind: list[Link], bias: bool) -> None:
    folded, left = fold(chain([], behind, PLAIN.with_(bias=bias)))
    cropped = ["STRIDED_SLICE"] if ("CROP", None) in behind else []
    assert (operators(folded), left) == (["TRANSPOSE_CONV", *cropped], ())


def test_the_definition_has_the_arithmetic_in_it() -> None:
    model = chain([], NORM)
    (site,), x = model.find().sites, whole(model)
    plain = reference.deconv(np.moveaxis(x, -1, 1), site.weights, site.deconv)
    (y,) = run(model.folded(model.foldable()[0]), x).values()
    np.testing.assert_array_equal(y, np.moveaxis(plain, 1, -1) * EACH + EACH)


def test_it_ends_at_what_is_not_linear() -> None:
    folded, _ = fold(chain([], [("MUL", EACH), ("ADD:1", EACH), ("MUL", EACH)]))
    assert operators(folded) == ["TRANSPOSE_CONV", "MUL"]
    assert fold(chain([], NORM, PLAIN.with_(activation=1)))[0].foldable() == ((), ())
    assert operators(fold(chain([], [("-DIV", EACH)]))[0]) == ["TRANSPOSE_CONV", "DIV"]


def test_a_scale_in_front_goes_in_and_a_shift_stays_where_the_border_meets_less_of_it() -> None:
    folded, left = fold(chain([("MUL", EACH[:3]), ("DIV", np.float32(0.5))], []))
    assert (operators(folded), left) == (["TRANSPOSE_CONV"], ())
    folded, left = fold(chain([("MUL", EACH[:3]), ("ADD", EACH[:3])], []))
    assert operators(folded) == ["MUL", "ADD", "TRANSPOSE_CONV"]
    assert left == ("MUL, ADD not folded: at the border its outputs meet less of the shift in front of it than inside",)


def test_a_shift_in_front_goes_in_where_every_output_meets_all_of_it() -> None:
    case = PLAIN.with_(kernel=(1, 1), stride=(1, 1), bias=False)
    folded, left = fold(chain([("SUB", EACH[:3])], [("MUL", EACH)], case))
    assert (operators(folded), left) == (["TRANSPOSE_CONV"], ())


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("float16", "has its weights stored as float16: folding would round them anew"),
        ("hybrid", "is quantised: folding would quantise its weights anew"),
    ],
)
def test_weights_of_other_types_are_not_touched(kind: str, reason: str) -> None:
    model = chain([("MUL", 2.0)], NORM, PLAIN.with_(kind=kind))
    folds, left = model.foldable()
    names = "MUL, MUL, ADD" if kind == "float16" else "MUL, ADD"
    assert (folds, [each.reason for each in left]) == ((), [f"{names} not folded: {reason}"])


@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_the_convolution_of_an_upsampled_map_is_folded_too(kind: str) -> None:
    plain = loaded(model_of(resize(), kind=kind)).root
    tree, y = Tree(plain, plain.subgraphs[0]), int(plain.subgraphs[0].outputs[0])
    channels = int(tree.graph.tensors[y].shape[-1])
    for name in ("MUL", "ADD"):
        y = follow(tree, y, (name, np.arange(channels) - 2), name)
    (x,) = tree.graph.inputs
    folded, left = fold(loaded(tree.packed([int(x)], [y])))
    assert (operators(folded), left) == (["RESIZE_NEAREST_NEIGHBOR", kind], ())
    assert folded.find().sites[0].deconv.written_out is not None


def test_a_conversion_says_what_it_folded_and_restore_refuses_it(tmp_path: Path) -> None:
    model, out = tmp_path / "model.tflite", tmp_path / "out.tflite"
    rng = np.random.default_rng(3)
    model.write_bytes(chain([], [(name, rng.uniform(0.5, 1.5, 4)) for name in ("MUL", "ADD")]).to_object())
    found = splitdeconv.convert(model, out, target="generic", fold=True)
    assert [(each.site, each.operators) for each in found.record.folded] == [("site", ("MUL", "ADD"))]
    assert {"TRANSPOSE_CONV", "MUL", "ADD"}.isdisjoint(operators(loaded(out.read_bytes())))
    assert "1 of 1 folded sites within the noise bound, not bit-equal" in str(found)
    assert "--fold puts MUL, ADD into the weights of 'site'" in str(splitdeconv.inspect(model))
    with pytest.raises(splitdeconv.InputError, match="MUL, ADD became part of its weights"):
        splitdeconv.restore(out)
