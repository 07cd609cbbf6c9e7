"""Keras' transposed convolutions, as TensorFlow's converter writes them: batch open, or height and width too."""

from __future__ import annotations

import copy
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as tfl
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.formats.tflite.fixed_sizes import FixedTensors, settled_by_inputs
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.shapes import Open, shape_value
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline import sizes
from splitdeconv.pipeline.convert import convert
from splitdeconv.pipeline.open import Options
from splitdeconv.pipeline.request import ConvertRequest, RestoreRequest
from splitdeconv.pipeline.restore import restore
from splitdeconv.targets.litert import LiteRt
from tests.fixtures.make_keras import ARCHIVE, KINDS, OPEN, TYPES, channels, name_of
from tests.tflite_models import Tree

REFERENCE, BUILTIN = OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
XNNPACK = OpResolverType.BUILTIN
FORMS = ("split:union:transpose", "split:crop:rows", "split_rows", "split_phases:rows", "split:union:depth_to_space")
KEPT = ("float32", "float16", "int8", "int16")  # hybrid kernels quantise the maps of both operators differently
EVERY = [(kind, dtype, opened) for kind in KINDS for dtype in TYPES for opened in OPEN]
SOME = [("4x4/2", "float32", "sizes"), ("3x3/3", "int8", "sizes"), ("1d", "int16", "sizes"), ("5x5/2", "int8", "batch")]


@cache
def archive() -> dict[str, bytes]:
    with tarfile.open(ARCHIVE) as found:
        files = {entry.name: found.extractfile(entry) for entry in found}
        return {name: file.read() for name, file in files.items() if file is not None}


def loaded(kind: str, dtype: str, opened: str) -> TfliteModel:
    model = TfliteModel.from_object(archive()[name_of(kind, dtype, opened)])
    assert model is not None
    return model


def with_whole_weights(model: TfliteModel) -> TfliteModel:
    """The model with its float32 constants rounded: a folded BatchNormalization leaves none of them whole."""
    graph, root = Graph(model.root, 0), copy.copy(model.root)
    root.buffers = list(root.buffers)
    for tensor in graph.tensors:
        data = root.buffers[tensor.buffer].data
        if tensor.type == tfl.TensorType.FLOAT32 and data is not None:
            whole = np.round(np.frombuffer(data, np.float32))
            root.buffers[tensor.buffer] = tfl.BufferT(data=np.frombuffer(whole.tobytes(), np.uint8))
    return replace(model, contents=replace(model.contents, root=root))


def run(model: TfliteModel, shape: tuple[int, ...], kernels: Any) -> Any:
    """The output on whole numbers of an input of ``shape``."""
    made = Interpreter(model_content=model.to_object(), experimental_op_resolver_type=kernels)
    (given,), (wanted,) = made.get_input_details(), made.get_output_details()
    made.resize_tensor_input(given["index"], shape)
    made.allocate_tensors()
    made.set_tensor(given["index"], np.random.default_rng(0).integers(-4, 5, shape).astype(given["dtype"]))
    made.invoke()
    return made.get_tensor(wanted["index"])


def fixed(model: TfliteModel, shape: tuple[int, ...]) -> TfliteModel:
    """The model with these sizes written into it."""
    (given,) = model.inputs()
    found, said = sizes.fixed(model, [{given.name: shape}], {}, LiteRt(), Options())
    assert len(said) == 1
    assert "fixed" in said[0]
    assert isinstance(found, TfliteModel)
    return found


def shapes(kind: str, dtype: str, opened: str) -> list[tuple[int, ...]]:
    """Inputs to run on: of two batches, or of several sizes; 1 among them."""
    ins = channels(dtype)[0]
    if kind == "1d":
        return [(2, 5, ins), (1, 5, ins)] if opened == "batch" else [(1, 1, ins), (2, 4, ins), (1, 9, ins)]
    return [(2, 5, 5, ins), (1, 5, 5, ins)] if opened == "batch" else [(1, 1, 2, ins), (2, 4, 3, ins), (1, 7, 9, ins)]


@pytest.mark.parametrize(("kind", "dtype", "opened"), EVERY)
def test_each_has_one_site_whose_open_sizes_are_left_open(kind: str, dtype: str, opened: str) -> None:
    findings = loaded(kind, dtype, opened).find()
    (site,) = findings.sites
    assert not findings.skipped
    assert not site.notes
    assert site.deconv.batch is None
    assert (None in site.deconv.in_sizes) == (opened == "sizes")


def offered(deconv: Deconv) -> list[Program]:
    """Those of ``FORMS`` that there are of the deconv."""
    return [lower(deconv, "NHWC", each) for each in candidates(deconv, "NHWC")[0] if str(each) in FORMS]


def check_bits(kind: str, dtype: str, opened: str) -> None:
    model = with_whole_weights(loaded(kind, dtype, opened)).seen_by(LiteRt("reference"))
    (site,) = model.find().sites
    programs = offered(site.deconv)
    written = [
        model.splice({site.id: each}) for each in programs if not (model.refuse(site, each) or model.unportable(each))
    ]
    assert len(written) > 1
    for shape in shapes(kind, dtype, opened):
        wanted = run(model, shape, REFERENCE)
        for each in written:
            np.testing.assert_array_equal(run(each, shape, REFERENCE), wanted, f"{shape}")
            if dtype != "int8":
                np.testing.assert_array_equal(run(each, shape, BUILTIN), wanted, f"{shape}")


@pytest.mark.parametrize(("kind", "dtype", "opened"), SOME)
def test_rewritten_it_has_equal_bits_on_the_same_kernels_for_all_sizes(kind: str, dtype: str, opened: str) -> None:
    check_bits(kind, dtype, opened)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "dtype", "opened"), [each for each in EVERY if each[1] in KEPT])
def test_all_have_equal_bits(kind: str, dtype: str, opened: str) -> None:
    check_bits(kind, dtype, opened)


def check_fixed_bits(kind: str, dtype: str, opened: str) -> None:
    """One set of sizes in the file: the original's shapes are constant then, and XNNPACK takes it, too."""
    original, shape = with_whole_weights(loaded(kind, dtype, opened)), shapes(kind, dtype, opened)[-1]
    model = fixed(original, shape).seen_by(LiteRt())
    graph = Graph(model.root, 0)
    assert not any(None in graph.shape(tensor) for tensor in range(len(graph.tensors)) if graph.producer(tensor))
    assert "SHAPE" not in model.operator_counts()
    np.testing.assert_array_equal(run(model, shape, REFERENCE), run(original, shape, REFERENCE))
    (site,) = model.find().sites
    programs = offered(site.deconv)
    written = [model.splice({site.id: each}) for each in programs if not model.refuse(site, each)]
    assert written
    wanted = run(model, shape, XNNPACK)
    for each in written:
        np.testing.assert_array_equal(run(each, shape, XNNPACK), wanted)


@pytest.mark.parametrize(
    ("kind", "dtype", "opened"),
    [("2x2/2", "hybrid", "sizes"), ("normalised", "float16", "sizes"), ("1d", "int8", "batch")],
)
def test_with_fixed_sizes_it_has_equal_bits_in_xnnpack(kind: str, dtype: str, opened: str) -> None:
    check_fixed_bits(kind, dtype, opened)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "dtype", "opened"), EVERY)
def test_all_have_equal_bits_with_fixed_sizes(kind: str, dtype: str, opened: str) -> None:
    check_fixed_bits(kind, dtype, opened)


@pytest.mark.long
@pytest.mark.parametrize(("kind", "dtype", "opened"), EVERY)
def test_all_convert_on_the_default_kernels_where_sizes_are_given(kind: str, dtype: str, opened: str) -> None:
    model = loaded(kind, dtype, opened)
    (given,) = model.inputs()
    request = ConvertRequest(lowering="split", budget=1, in_shapes={given.name: shapes(kind, dtype, opened)[-1]})
    found = convert(model, None, request)
    assert found.plan.choices[0].chosen != NATIVE
    assert found.verdict.passed


@pytest.mark.parametrize(("dtype", "lowering"), [("hybrid", "split"), ("int8", "native")])
def test_given_sizes_are_those_of_the_file(tmp_path: Path, dtype: str, lowering: str) -> None:
    model, out = loaded("4x4/2", dtype, "sizes"), tmp_path / "out.tflite"
    (given,) = model.inputs()
    shape = (1, 6, 5, channels(dtype)[0])
    found = convert(model, out, ConvertRequest(target="generic", lowering=lowering, in_shapes={given.name: shape}))
    assert (found.plan.choices[0].chosen == NATIVE) == (lowering == "native")
    assert found.verdict.passed
    assert (
        f"the sizes that the model left open are fixed: '{given.name}' {'×'.join(map(str, shape))}"
        in found.record.notes
    )
    assert TfliteModel.load(out).inputs()[0].shape == shape
    if lowering == "native":
        assert found.record.notes[-1].endswith("the model is written otherwise unchanged")
    else:
        back = restore(out, tmp_path / "back.tflite", RestoreRequest()).restored
        np.testing.assert_array_equal(run_on(back, shape), run_on(model, shape))


def run_on(model: Any, shape: tuple[int, ...]) -> Any:
    return run(model, shape, BUILTIN)


def test_sizes_stay_open_where_several_are_given_or_it_does_not_run_on_them() -> None:
    model = loaded("4x4/2", "float32", "sizes")
    (given,) = model.inputs()
    for several in ([(1, 4, 4, 3), (1, 6, 6, 3)], [(1, 4, 4, 5)]):
        found, said = sizes.fixed(model, [{given.name: shape} for shape in several], {}, LiteRt(), Options())
        assert found is model
        assert not said


def test_sizes_that_follow_from_values_stay_open() -> None:
    """A RESHAPE to a shape that is an input, or computed from one, has the sizes of one run only."""
    tree = Tree()
    x, wanted = tree.tensor("float32", (1, 4), "x"), tree.tensor("int32", (2,), "wanted")
    one, y = tree.tensor("int32", (), "one", values=0), tree.tensor("float32", (1, 4), "y")
    more, z = tree.tensor("int32", (2,), "more"), tree.tensor("float32", (1, 4), "z")
    for tensor in (x, y, z):
        tree.graph.tensors[tensor].shapeSignature = np.array([-1, 4], np.int32)
    tree.operator("ADD", 1, [wanted, one], more, tfl.AddOptionsT())
    tree.operator("RESHAPE", 1, [x, more], y, tfl.ReshapeOptionsT())
    tree.operator("RELU", 1, [x], z)
    model = TfliteModel.from_object(tree.packed([x, wanted], [y, z]))
    assert model is not None
    assert settled_by_inputs(model.root) == FixedTensors(maps=(x, z), numbers=())


def test_hybrid_layers_keep_their_kernels_and_the_reason_is_said() -> None:
    model = loaded("4x4/2", "hybrid", "batch")
    for kernels in ("xnnpack", "reference"):
        (choice,) = convert(model, None, ConvertRequest(target=f"litert:{kernels}", budget=1)).plan.choices
        assert choice.chosen == NATIVE
        assert "quantise its input in another way; --input-shape fixes its sizes" in choice.reason


def test_int8_with_an_open_batch_converts_on_the_reference_kernels_and_where_one_step_is_allowed() -> None:
    model = loaded("4x4/2", "int8", "batch")
    exact = ConvertRequest(target="litert:reference", lowering="split", budget=1)
    assert convert(model, None, exact).verdict.passed
    fused = TfliteModel.from_object(model.to_object(), "fused")
    found = convert(fused, None, ConvertRequest(target="generic", numerics="fused"))
    assert found.plan.choices[0].chosen != NATIVE
    assert found.verdict.passed


def test_fused_numerics_are_compared_where_sizes_are_open() -> None:
    """The original's own output shape grows with its input in the comparison, too."""
    model = TfliteModel.from_object(archive()[name_of("1d", "int8", "sizes")], "fused")
    found = convert(model, None, ConvertRequest(target="generic", numerics="fused"))
    assert found.record.converted
    assert found.verdict.passed


def test_shape_arithmetic_is_read_as_a_factor_and_an_addend() -> None:
    graph = Graph(loaded("3x3/3", "float32", "sizes").root, 0)
    (deconv,) = (n for n in range(len(graph.operators)) if graph.name(n) == "TRANSPOSE_CONV")
    x = graph.inputs_of(deconv)[2]
    batch, rows, columns, outs = shape_value(graph, graph.inputs_of(deconv)[0]) or []
    assert (batch, outs) == (Open((x, 0)), 4)
    assert (rows, columns) == (Open((x, 1), 3), Open((x, 2), 3))  # 3·(n − 1) + 3


def test_sizes_of_a_run_are_those_that_were_given() -> None:
    model = loaded("4x4/2", "float32", "sizes")
    (given,) = model.inputs()
    found = convert(model, None, ConvertRequest(budget=1, in_shapes={given.name: (1, 9, 7, 3)}))
    assert found.record.work[0].deconv.in_sizes == (9, 7)
