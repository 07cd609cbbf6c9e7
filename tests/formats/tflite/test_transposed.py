"""Transposed convolutions other than TRANSPOSE_CONV, and weights that are not stored as they are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as tfl
from hypothesis import given
from hypothesis import strategies as st

import splitdeconv
from splitdeconv.deconv import reference
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.convert import convert
from splitdeconv.pipeline.request import ConvertRequest
from splitdeconv.targets.litert import LiteRtModel, interpreter
from tests.examples import examples
from tests.tflite_models import Tree, quant

RNG = np.random.default_rng(0)


def whole(*shape: int) -> Any:
    return RNG.integers(-4, 5, shape).astype(np.float32)


def opened(tree: Tree) -> TfliteModel:
    model = TfliteModel.from_object(tree.packed([0], [len(tree.graph.tensors) - 1]))
    assert model is not None
    return model


def mediapipe(
    sizes: tuple[int, int], kernel: tuple[int, int], options: tuple[int, ...], name: str = "Convolution2DTransposeBias"
) -> TfliteModel:
    """A model of MediaPipe's operator; ``options`` are padding, stride_width, stride_height."""
    tree, same = Tree(), options[0] == 1
    x = tree.tensor("float32", (1, *sizes, 3), "x")
    w = tree.tensor("float32", (5, *kernel, 3), "w", values=whole(5, *kernel, 3))
    bias = tree.tensor("float32", (5,), "b", values=whole(5))
    strides = (options[2], options[1]) if len(options) > 2 else (1, 1)
    out = [_mediapipe_size(*each, same=same) for each in zip(sizes, kernel, strides, strict=True)]
    y = tree.tensor("float32", (1, *out, 5), "y")
    tree.custom(name, [x, w, bias], y, np.asarray(options, "<i4").tobytes())
    return opened(tree)


def _mediapipe_size(size: int, kernel: int, stride: int, *, same: bool) -> int:
    pads = max(0, kernel - (size - 1) % stride - 1) if same else 0
    return stride * (size - 1) + kernel - pads


def rewritten(model: TfliteModel, form: str) -> TfliteModel:
    """The model with its one deconv in another form."""
    (site,) = model.find().sites
    return model.splice({site.id: lower(site.deconv, "NHWC", Candidate.parse(form))})


def run(model: TfliteModel, x: Any) -> Any:
    """The output on ``x``, by LiteRT's built-in kernels."""
    (y,) = LiteRtModel(interpreter(model.to_object(), "builtin", 1)).run({"x": x}).values()
    return y


def names(model: TfliteModel) -> list[str]:
    graph = Graph(model.root, 0)
    return [graph.name(operator) for operator in range(len(graph.operators))]


def by_definition(model: TfliteModel, x: Any) -> Any:
    (site,) = model.find().sites
    return np.moveaxis(reference.definition(np.moveaxis(x, -1, 1), site.weights, site.deconv), 1, -1)


def scattered(model: TfliteModel, x: Any, strides: tuple[int, int], *, same: bool) -> Any:
    """MediaPipe's own loops: each input pixel onto the output, moved by half of the pads."""
    content = [np.frombuffer(model.root.buffers[n].data, np.float32) for n in (1, 2)]
    outs, rows, columns, ins = model.root.subgraphs[0].tensors[1].shape
    w = content[0].reshape(outs, rows, columns, ins)
    totals = [
        max(0, kernel - (size - 1) % stride - 1) if same else 0
        for size, kernel, stride in zip(x.shape[1:3], (rows, columns), strides, strict=True)
    ]
    y = np.zeros(model.root.subgraphs[0].tensors[3].shape) + content[1]
    for row, column, i, j in np.ndindex(*x.shape[1:3], rows, columns):
        at, beside = row * strides[0] + i - totals[0] // 2, column * strides[1] + j - totals[1] // 2
        if 0 <= at < y.shape[1] and 0 <= beside < y.shape[2]:
            y[0, at, beside] += w[:, i, j] @ x[0, row, column]
    return y


@examples(8, 80)
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    same=st.booleans(),
)
def test_mediapipes_operator_is_read_as_it_computes(
    sizes: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int], same: bool
) -> None:
    model = mediapipe(sizes, kernel, (1 if same else 2, strides[1], strides[0]))
    x = whole(1, *sizes, 3)
    np.testing.assert_array_equal(by_definition(model, x), scattered(model, x, strides, same=same))


@pytest.mark.parametrize("padding", [1, 2])
def test_rewritten_and_as_transpose_conv_it_has_the_same_bits(padding: int) -> None:
    """Also as one TRANSPOSE_CONV, which is the form ``native:simplified``; the custom operator itself is no form."""
    model = mediapipe((4, 6), (3, 4), (padding, 2, 3))
    (site,) = model.find().sites
    x = whole(1, 4, 6, 3)
    wanted = scattered(model, x, (3, 2), same=padding == 1)
    offered = [
        each
        for each in candidates(site.deconv, "NHWC")[0]
        if model.refuse(site, lower(site.deconv, "NHWC", each)) is None
    ]
    assert NATIVE not in offered
    assert "native:simplified" in map(str, offered)
    for candidate in offered[:4]:
        np.testing.assert_array_equal(run(rewritten(model, str(candidate)), x), wanted, str(candidate))


def test_its_conversion_never_leaves_it() -> None:
    found = convert(mediapipe((4, 6), (2, 2), (1, 2, 2)), None, ConvertRequest(target="litert", budget=1))
    assert found.plan.choices[0].chosen != NATIVE
    assert "the original is never kept: TFLite does not define the custom operator" in found.plan.choices[0].reason
    assert found.verdict.passed


@pytest.mark.parametrize(
    ("options", "name", "reason"),
    [
        ((1, 2), "Convolution2DTransposeBias", "has 8 bytes of options, wanted 12"),
        ((3, 2, 2), "Convolution2DTransposeBias", "has padding 3, wanted 1"),
        ((1, 2, 0), "Convolution2DTransposeBias", "stride is 0"),
        (
            (1, 2, 2),
            "SomebodysDeconv",
            "custom operator 'SomebodysDeconv': its meaning is not part of the TFLite format",
        ),
    ],
)
def test_what_is_not_known_is_listed_with_the_reason(options: tuple[int, ...], name: str, reason: str) -> None:
    model = mediapipe((4, 4), (2, 2), (1, 2, 2), name)
    model.root.subgraphs[0].operators[0].customOptions = np.frombuffer(np.asarray(options, "<i4").tobytes(), np.uint8)
    findings = model.find()
    assert not findings.sites
    assert reason in findings.skipped[0].reason


@pytest.mark.parametrize("same", [True, False])
def test_conv_3d_transpose_becomes_conv_3d(same: bool) -> None:
    tree, sizes, kernel, strides = Tree(), (2, 3, 4), (3, 4, 2), (2, 3, 1)
    outs = [n * s if same else (n - 1) * s + max(k, s) for n, k, s in zip(sizes, kernel, strides, strict=True)]
    x = tree.tensor("float32", (1, *sizes, 3), "x")
    shape = tree.tensor("int32", (5,), "sizes", values=(1, *outs, 5))
    w = tree.tensor("float32", (*kernel, 5, 3), "w", values=whole(*kernel, 5, 3))
    bias = tree.tensor("float32", (5,), "b", values=whole(5))
    y = tree.tensor("float32", (1, *outs, 5), "y")
    options = tfl.Conv3DOptionsT(padding=0 if same else 1, strideD=2, strideH=3, strideW=1)
    tree.operator("CONV_3D_TRANSPOSE", 1, [shape, w, x, bias], y, options)
    model, given = opened(tree), whole(1, *sizes, 3)
    wanted = run(model, given)
    np.testing.assert_array_equal(by_definition(model, given), wanted)
    for form in ("split:union:rows", "split_phases:rows", "split_rows"):
        np.testing.assert_array_equal(run(rewritten(model, form), given), wanted, form)


def moved_weights(dtype: str, *, opens: str) -> TfliteModel:
    """A TRANSPOSE_CONV whose OHWI weights are a RESHAPE and a TRANSPOSE of what is stored, and maybe dequantised."""
    tree, flat = Tree(), RNG.integers(-4, 5, (24, 5)) * (1 if dtype != "int8" else 8)
    unit = quant(0.125) if dtype == "int8" else None
    x = tree.tensor("float32", (1, 4, 4, 3), "x")
    stored = tree.tensor(dtype, (24, 5), "w", unit, flat)
    kind = dtype
    if opens == "first":
        stored, kind, unit = _dequantised(tree, stored, (24, 5)), "float32", None
    cut = tree.tensor(kind, (2, 4, 3, 5), "cut", unit)
    tree.operator("RESHAPE", 1, [stored, tree.tensor("int32", (4,), "to", values=(2, 4, 3, 5))], cut)
    turned = tree.tensor(kind, (5, 2, 4, 3), "turned", unit)
    tree.operator("TRANSPOSE", 1, [cut, tree.tensor("int32", (4,), "perm", values=(3, 0, 1, 2))], turned)
    kernel = _dequantised(tree, turned, (5, 2, 4, 3)) if opens == "last" else turned
    shape = tree.tensor("int32", (4,), "sizes", values=(1, 8, 8, 5))
    y = tree.tensor("float32", (1, 8, 8, 5), "y")
    tree.operator(
        "TRANSPOSE_CONV", 1, [shape, kernel, x], y, tfl.TransposeConvOptionsT(padding=0, strideH=2, strideW=2)
    )
    return opened(tree)


def _dequantised(tree: Tree, tensor: int, shape: tuple[int, ...]) -> int:
    found = tree.tensor("float32", shape, f"opened{tensor}")
    tree.operator("DEQUANTIZE", 3, [tensor], found, tfl.DequantizeOptionsT())
    return found


@pytest.mark.parametrize(
    ("dtype", "opens"),
    [("float32", ""), ("float16", "first"), ("float16", "last"), ("int8", "first"), ("int8", "last")],
)
def test_weights_behind_operators_that_move_them_are_folded(dtype: str, opens: str) -> None:
    model, x = moved_weights(dtype, opens=opens), whole(1, 4, 4, 3)
    new = rewritten(model, "split:union:depth_to_space")
    wanted = by_definition(model, x) if dtype == "float16" else run(model, x)  # LiteRT 2.1 has no TRANSPOSE of float16
    np.testing.assert_array_equal(run(new, x), wanted)
    left = {"float32": [], "float16": ["DEQUANTIZE"], "int8": ["DEQUANTIZE"]}[dtype] if opens == "last" else []
    assert [name for name in names(new) if name in ("DEQUANTIZE", "RESHAPE", "TRANSPOSE")] == left


@pytest.mark.parametrize("opens", ["", "last"])
def test_the_way_back_gives_the_operators_that_move_the_weights_again(opens: str) -> None:
    model = moved_weights("float16" if opens else "float32", opens=opens)
    new = rewritten(model, "split:union:depth_to_space")
    restored = splitdeconv.restore(new, verify=False).restored
    assert isinstance(restored, TfliteModel)
    assert names(restored) == names(model)
