"""Quantised convolutions of stretched maps: bit-equal on stored integers, or refused with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import event, given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.deconv.weights import Array
from splitdeconv.proof.sites import prove_site
from splitdeconv.targets import target
from tests.examples import examples
from tests.formats.onnx import stretched_models as models
from tests.formats.onnx.stretched_models import CHANNELS, SIZES, Nodes, node, numbers, resize
from tests.onnx_models import load, programs, run, sites, written

TYPES = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}
X_SCALE, Y_SCALE = np.float32(2.0**-5), np.float32(2.0)


def quantised_front(front: Nodes, around: Sequence[str]) -> Nodes:
    """The nodes with a QuantizeLinear and a DequantizeLinear behind each of those that make ``around``."""
    nodes, known = front
    made = []
    for each in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(each)
        made.append(copy)
        for number, output in enumerate(copy.output):
            if output in around:
                copy.output[number] = f"{output}_raw"
                made.append(node("QuantizeLinear", [f"{output}_raw", "x_scale", "x_zero"], f"{output}_stored"))
                made.append(node("DequantizeLinear", [f"{output}_stored", "x_scale", "x_zero"], output))
    return made, known


def model_of(
    front: Nodes,
    *,
    around: Sequence[str] = ("u",),
    kernel: Array | None = None,
    activation: str = "uint8",
    weight: str = "int8",
    per_channel: bool = True,
    x_zero: int = 3,
    dims: Sequence[Any] = (1, CHANNELS, *SIZES),
    after: Sequence[str] = (),
    outputs: Sequence[str] = ("y_stored",),
    stored: bool = True,
    opset: int = 17,
    **attributes: Any,
) -> onnx.ModelProto:
    """``x_stored`` (or real ``x``), ``front`` from ``x`` to ``u``, a quantised convolution, ``after``, ``y_stored``."""
    rng = np.random.default_rng(1)
    shape = (4, CHANNELS, 3, 3) if kernel is None else kernel.shape
    whole = rng.integers(-63, 64, shape).astype(weight) if kernel is None else kernel.astype(weight)
    scales = np.asarray(2.0 ** rng.integers(-6, -3, shape[0]) if per_channel else 2.0**-5, np.float32)
    zero = 0 if activation == "int8" else 7
    nodes, known = quantised_front(front, around)
    known = {
        **known,
        "x_scale": X_SCALE,
        "x_zero": np.asarray(x_zero, activation),
        "w": whole,
        "w_scale": scales,
        "w_zero": np.zeros(scales.shape, weight),
        "b": rng.integers(-500, 500, shape[0]).astype(np.int32),
        "b_scale": np.asarray(X_SCALE * scales, np.float32),
        "b_zero": np.zeros(scales.shape, np.int32),
        "y_scale": Y_SCALE,
        "y_zero": np.asarray(zero, activation),
    }
    axis = {"axis": 0} if per_channel else {}
    first = [node("DequantizeLinear", ["x_stored", "x_scale", "x_zero"], "x")] if stored else []
    chain = ["y", *(f"y{number}" for number in range(len(after)))]
    made = [
        *first,
        *nodes,
        node("DequantizeLinear", ["w", "w_scale", "w_zero"], "w_real", **axis),
        node("DequantizeLinear", ["b", "b_scale", "b_zero"], "b_real", **axis),
        node("Conv", ["u", "w_real", "b_real"], "y", name="site", **{"pads": [1] * 4, **attributes}),
        *(node(op_type, [chain[n]], chain[n + 1]) for n, op_type in enumerate(after)),
        node("QuantizeLinear", [chain[-1], "y_scale", "y_zero"], "y_stored"),
    ]
    kind = TYPES[activation]
    entry = ("x_stored", kind) if stored else ("x", TensorProto.FLOAT)
    graph = helper.make_graph(
        made,
        "quantised",
        [helper.make_tensor_value_info(*entry, dims)],
        [
            helper.make_tensor_value_info(
                name, kind if name.endswith("stored") else TensorProto.FLOAT, [None] * len(dims)
            )
            for name in outputs
        ],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in known.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def stored_input(model: onnx.ModelProto, shape: Sequence[int]) -> dict[str, Array]:
    (entry,) = model.graph.input
    rng = np.random.default_rng(2)
    kind = entry.type.tensor_type.elem_type
    if kind == TensorProto.FLOAT:
        return {entry.name: rng.integers(-200, 200, shape).astype(np.float32) * X_SCALE}
    limits = np.iinfo("int8" if kind == TensorProto.INT8 else "uint8")
    return {entry.name: rng.integers(limits.min, limits.max + 1, shape).astype(limits.dtype)}


def assert_rewritten(model: onnx.ModelProto, shape: Sequence[int] = (1, CHANNELS, *SIZES)) -> set[str]:
    """Every form gives the bits of the model, alone and within it; returns the lowerings."""
    loaded = load(model)
    (site,) = sites(loaded)
    assert site.deconv.quant is not None
    assert site.deconv.written_out is not None
    feeds = stored_input(model, shape)
    wanted = run(model, feeds)
    assert all(len(np.unique(each)) > 4 for each in wanted.values())
    names: set[str] = set()
    for candidate, program in programs(loaded, site):
        found = run(written(loaded.splice({site.id: program})), feeds)
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values, str(candidate))
        names.add(candidate.lowering)
    return names


ZEROS = ["one_tap", "upfirdn2d", "scatter_nd", "concat_with_zeros"]


@pytest.mark.parametrize("name", ZEROS)
@pytest.mark.parametrize("activation", TYPES)
def test_inserted_zeros_are_split_in_every_form(name: str, activation: str) -> None:
    front: Nodes = getattr(models, name)()
    names = assert_rewritten(model_of(front, activation=activation))
    assert {"split", "split_phases", "split_rows", "zero_insert"} <= names


@pytest.mark.parametrize("around", [(), ("lattice",), ("x6", "padded", "lattice", "u")])
def test_wherever_the_quantisers_stand(around: Sequence[str]) -> None:
    assert_rewritten(model_of(models.upfirdn2d(), around=around))


def test_a_map_that_is_only_quantised_behind_the_stretching_is_quantised_before_it() -> None:
    assert_rewritten(model_of(models.upfirdn2d(), stored=False))
    assert_rewritten(model_of(resize(), kernel=np.full((4, CHANNELS, 1, 1), 17), pads=[0] * 4, stored=False))


PAD = numbers(0, 0, 1, 1, 0, 0, 1, 1)
ONE_BY_ONE = np.random.default_rng(3).integers(-63, 64, (4, CHANNELS, 1, 1))
THREE = np.random.default_rng(3).integers(-40, 41, (4, CHANNELS, 3, 3))


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        (ONE_BY_ONE, {"pads": [0] * 4}),
        (ONE_BY_ONE, {"pads": [1, 0, 2, 0], "per_channel": False}),
        (THREE, {"dilations": [2, 2], "pads": [2] * 4}),
        (THREE, {"dilations": [4, 2], "pads": [3, 1, 4, 0], "activation": "int8", "weight": "uint8"}),
    ],
)
def test_what_goes_before_the_upsampling_whole_is_exact(kernel: Array, attributes: dict[str, Any]) -> None:
    assert assert_rewritten(model_of(resize(), kernel=kernel, **attributes)) == {"native", "convolve_first"}


def test_epilogues_borders_and_other_orders_of_axes() -> None:
    edge = models.then(resize(), [lambda x, y: node("Pad", [x, "pad"], y, mode="edge")], {"pad": PAD})
    assert_rewritten(model_of(edge, around=("v0", "u"), kernel=ONE_BY_ONE, pads=[0] * 4, after=["Relu"]))
    assert_rewritten(model_of(models.keras_tiles(), kernel=ONE_BY_ONE, pads=[0] * 4))
    last = [
        node("Reshape", ["x", "opened"], "x6"),
        node("Pad", ["x6", "zeros"], "padded"),
        node("Reshape", ["padded", "closed"], "v"),
        node("Transpose", ["v"], "u", perm=[0, 3, 1, 2]),
    ]
    known = {
        "opened": numbers(1, 5, 1, 6, 1, CHANNELS),
        "zeros": numbers(*[0] * 8, 1, 0, 1, 0),
        "closed": numbers(1, 10, 12, CHANNELS),
    }
    assert_rewritten(model_of((last, known), dims=(1, 5, 6, CHANNELS), after=["Relu"]), (1, 5, 6, CHANNELS))


def test_groups_with_several_outputs_each() -> None:
    kernel = np.random.default_rng(5).integers(-63, 64, (6, 1, 3, 3))
    assert_rewritten(model_of(models.upfirdn2d(), kernel=kernel, group=3))


@pytest.mark.parametrize("kept", ["u", "u_stored"])
def test_what_others_read_stays_and_is_in_every_forms_time(kept: str) -> None:
    model = model_of(models.upfirdn2d(), outputs=("y_stored", kept))
    assert_rewritten(model)
    loaded = load(model)
    (site,) = sites(loaded)
    feeds = stored_input(model, (1, CHANNELS, *SIZES))
    for candidate, program in programs(loaded, site):
        (alone,) = feeds.values()
        found = run(onnx.load_from_string(loaded.emit(site, program).content), {"x": alone})
        np.testing.assert_array_equal(found["y"], run(model, feeds)["y_stored"], str(candidate))
        np.testing.assert_array_equal(found["kept"], run(model, feeds)[kept], str(candidate))


@pytest.mark.parametrize("front", ["upfirdn2d", "one_by_one"])
def test_trials_of_every_form(front: str) -> None:
    zeros = front == "upfirdn2d"
    made = model_of(models.upfirdn2d()) if zeros else model_of(resize(), kernel=ONE_BY_ONE, pads=[1] * 4)
    loaded, runner = load(made), target("onnxruntime", threads=1)
    (site,) = sites(loaded)
    tried = set()
    for candidate, program in programs(loaded, site):
        if runner.refuse(program) is None:
            assert prove_site(loaded, site, program, runner).exact, candidate
            tried.add(candidate.quant)
    assert {"qdq", "qlinear", "float"} <= tried


def test_native_alone_is_the_models_own_nodes() -> None:
    loaded = load(model_of(models.upfirdn2d(), around=("lattice", "u"), after=["Relu"]))
    (site,) = sites(loaded)
    native = {str(candidate): program for candidate, program in programs(loaded, site)}["native"]
    made = onnx.load_from_string(loaded.emit(site, native).content)
    operators = [each.op_type for each in made.graph.node]
    assert operators.count("Pad") == 2
    assert operators.count("Reshape") == 2
    assert operators[-3:] == ["Conv", "Relu", "QuantizeLinear"]
    assert operators.count("DequantizeLinear") == 5


def reason_of(model: onnx.ModelProto) -> str:
    found = load(model).find()
    assert not found.sites
    (skipped,) = found.skipped
    return skipped.reason


def with_other_scale(model: onnx.ModelProto) -> onnx.ModelProto:
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "other"))
    for each in model.graph.node:
        if each.output[0] in ("lattice_stored", "lattice"):
            each.input[1] = "other"
    return model


def test_what_must_stay_stays_with_the_true_reason() -> None:
    assert "sums of its weights over the copies" in reason_of(model_of(resize()))
    skip = model_of(models.skip(), around=("v", "s"), kernel=np.full((4, 2 * CHANNELS, 3, 3), 5))
    assert "rounded twice" in reason_of(skip)
    assert "rounded twice" in reason_of(model_of(models.skip(), kernel=np.full((4, 2 * CHANNELS, 3, 3), 5)))
    assert "another scale" in reason_of(with_other_scale(model_of(models.upfirdn2d(), around=("lattice", "u"))))
    relu = models.then(models.upfirdn2d(), [lambda x, y: node("Relu", [x], y)], {})
    assert "Relu between" in reason_of(model_of(relu, around=("v0", "u")))
    wide = model_of(models.upfirdn2d())
    wide.graph.node[-1].CopyFrom(node("Identity", ["y"], "y_stored"))
    wide.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    assert "not quantised itself" in reason_of(wide)


def test_stored_zeros_are_no_zeros_where_the_zero_point_is_another() -> None:
    """A Pad of stored numbers with 0 puts −3·scale around each pixel."""
    nodes, known = models.upfirdn2d()
    renamed = [
        node(
            each.op_type,
            [each.input[0].replace("x", "x_stored", 1) if each.input[0] == "x" else each.input[0], *each.input[1:]],
            each.output[0],
        )
        for each in nodes[:-1]
    ]
    behind = [node("DequantizeLinear", ["lattice", "x_scale", "x_zero"], "real"), node("Pad", ["real", "around"], "u")]
    typed = {**known, "nothing": np.zeros((), np.uint8)}
    renamed[1].input.append("nothing")
    front = ([*renamed, *behind], typed)
    assert not load(model_of(front, around=(), stored=True, x_zero=3)).find().sites
    assert_rewritten(model_of(front, around=(), stored=True, x_zero=0))


@st.composite
def whole_models(draw: st.DrawFn) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """A quantised convolution behind inserted zeros, or an upsampling that it goes before."""
    sizes = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    factors = draw(st.sampled_from([(2, 2), (3, 2), (1, 2), (3, 3)]))
    zeros = draw(st.booleans())
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    if zeros:
        dilations = [draw(st.sampled_from([1, 1, 2, 3])) for _ in range(2)]
        wide = [size * factor for size, factor in zip(sizes, factors, strict=True)]
        behind = (factors[0] - 1, 0, factors[1] - 1)
        known = {
            "opened": numbers(1, CHANNELS, sizes[0], 1, sizes[1], 1),
            "zeros": numbers(*[0] * 9, *behind),
            "closed": numbers(1, CHANNELS, *wide),
        }
        names = [
            ("Reshape", "x", "opened", "x6"),
            ("Pad", "x6", "zeros", "padded"),
            ("Reshape", "padded", "closed", "u"),
        ]
        front: Nodes = ([node(op, [x, by], y) for op, x, by, y in names], known)
    else:
        dilations = [factor * draw(st.integers(1, 2)) for factor in factors]
        front = resize((1, 1, *factors))
    stretched = [size * factor for size, factor in zip(sizes, factors, strict=True)]
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    pads = [draw(st.integers(0, 3)) for _ in range(4)]
    for axis in range(2):
        pads[2 + axis] += max(0, reach[axis] + 1 - (stretched[axis] + pads[axis] + pads[2 + axis]))
    groups = draw(st.sampled_from([1, 1, CHANNELS]))
    weight = np.random.default_rng(draw(st.integers(0, 100))).integers(-63, 64, (6, CHANNELS // groups, *kernel))
    dims = (1, CHANNELS, *sizes)
    model = model_of(
        front,
        kernel=weight,
        dims=dims,
        pads=pads,
        dilations=dilations,
        group=groups,
        activation=draw(st.sampled_from(sorted(TYPES))),
        per_channel=draw(st.booleans()),
        x_zero=draw(st.integers(0, 100)),
        stored=draw(st.booleans()),
    )
    return model, dims


def assert_random_model_is_rewritten(model: onnx.ModelProto, shape: tuple[int, ...]) -> None:
    """One candidate of each lowering and quantised form; a map of one pixel may not be stretched at all."""
    loaded, feeds = load(model), stored_input(model, shape)
    found_sites = sites(loaded)
    if not found_sites:
        event("no site: " + "".join(each.reason for each in loaded.find().skipped))
        return
    (site,) = found_sites
    wanted, seen = run(model, feeds)["y_stored"], set()
    for candidate, program in programs(loaded, site):
        if (candidate.lowering, candidate.quant) not in seen:
            seen.add((candidate.lowering, candidate.quant))
            found = run(written(loaded.splice({site.id: program})), feeds)["y_stored"]
            np.testing.assert_array_equal(found, wanted, str(candidate))


@given(whole_models())
@examples(6, 2_000)
def test_random_models(case: tuple[onnx.ModelProto, tuple[int, ...]]) -> None:
    assert_random_model_is_rewritten(*case)
