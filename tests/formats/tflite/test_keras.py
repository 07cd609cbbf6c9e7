"""Keras' transposed convolutions, as TensorFlow's converter writes them: batch open, or height and width too."""

from __future__ import annotations

import tarfile
from functools import cache
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert.interpreter import Interpreter, OpResolverType

from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.shapes import Open, shape_value
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.convert import convert
from splitdeconv.pipeline.request import ConvertRequest
from splitdeconv.targets.litert import LiteRt
from tests.fixtures.make_keras import ARCHIVE, KINDS, OPEN, TYPES, channels, name_of

REFERENCE, BUILTIN = OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
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


def run(model: TfliteModel, shape: tuple[int, ...], kernels: Any) -> Any:
    """The output on whole numbers of an input of ``shape``."""
    made = Interpreter(model_content=model.to_object(), experimental_op_resolver_type=kernels)
    (given,), (wanted,) = made.get_input_details(), made.get_output_details()
    made.resize_tensor_input(given["index"], shape)
    made.allocate_tensors()
    made.set_tensor(given["index"], np.random.default_rng(0).integers(-4, 5, shape).astype(given["dtype"]))
    made.invoke()
    return made.get_tensor(wanted["index"])


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


def check_bits(kind: str, dtype: str, opened: str) -> None:
    model = loaded(kind, dtype, opened).seen_by(LiteRt("reference"))
    (site,) = model.find().sites
    forms = (
        "split:union:transpose",
        "split:crop:rows",
        "split_rows",
        "split_phases:rows",
        "split:union:depth_to_space",
    )
    programs = [lower(site.deconv, "NHWC", Candidate.parse(form)) for form in forms]
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


def test_hybrid_layers_keep_their_kernels_and_the_reason_is_said() -> None:
    model = loaded("4x4/2", "hybrid", "batch")
    for kernels in ("xnnpack", "reference"):
        (choice,) = convert(model, None, ConvertRequest(target=f"litert:{kernels}", budget=1)).plan.choices
        assert choice.chosen == NATIVE
        assert "quantise its input in another way" in choice.reason


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
    assert convert(model, None, ConvertRequest(target="generic", numerics="fused")).verdict.passed


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
