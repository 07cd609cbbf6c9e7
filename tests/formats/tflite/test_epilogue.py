"""Operators behind a deconv: what joins it with the same bits, what joins it in fused numerics only, what stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert")

from splitdeconv import formats
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.targets.litert import LiteRtModel, interpreter
from tests.examples import examples
from tests.tflite_models import Case, build, cases, loaded, random_input

QUANTISED = ("int8", "int8_per_channel", "uint8", "int16")
SPLIT = Candidate("split", "union", "transpose")


def run(content: bytes, x: Array, kernels: str = "reference") -> Array:
    runner = LiteRtModel(interpreter(content, kernels, 1))
    (name,) = runner.inputs
    (y,) = runner.run({name: x}).values()
    return y


def joined(case: Case, numerics: str = "exact") -> tuple[str, ...]:
    (site,) = loaded(build(case), numerics).find().sites
    return site.epilogue


@pytest.mark.parametrize(
    ("kind", "after", "numerics", "wanted"),
    [
        ("float32", ("ADD", "RELU="), "exact", ("ADD", "RELU")),
        ("float16", ("CROP", "ADD", "RELU6="), "exact", ("STRIDED_SLICE", "ADD", "RELU6")),
        ("int8", ("RELU=",), "exact", ("RELU",)),
        ("int8", ("RELU*",), "exact", ()),
        ("int8", ("RELU*",), "fused", ("RELU",)),
        ("int8_per_channel", ("ADD", "RELU*"), "exact", ()),
        ("int8_per_channel", ("ADD", "RELU*"), "fused", ("ADD", "RELU")),
        ("int16", ("CROP", "RELU="), "exact", ("STRIDED_SLICE", "RELU")),
        ("uint8", ("CROP", "ADD"), "exact", ("STRIDED_SLICE",)),
        ("float32", ("RELU6=", "RELU_N1_TO_1="), "exact", ("RELU6",)),
    ],
)
def test_which_operators_join(kind: str, after: tuple[str, ...], numerics: str, wanted: tuple[str, ...]) -> None:
    assert joined(Case(kind=kind, after=after, same=False), numerics) == wanted


def test_a_second_reader_keeps_the_epilogue_out() -> None:
    model = loaded(build(Case(after=("RELU=",))))
    graph = model.root.subgraphs[0]
    graph.outputs = np.append(graph.outputs, graph.operators[0].outputs).astype(np.int32)
    (site,) = model.find().sites
    assert site.epilogue == ()


def test_a_crop_that_leaves_nothing_does_not_join() -> None:
    model = loaded(build(Case(after=("CROP",), same=False)))
    graph = model.root.subgraphs[0]
    (cropped,) = graph.operators[1].outputs
    _, *others = graph.tensors[cropped].shape
    graph.tensors[cropped].shape = np.array([1, 0, *others[1:]], np.int32)
    (site,) = model.find().sites
    assert site.epilogue == ()


after = st.lists(st.sampled_from(["RELU=", "RELU6=", "CROP", "ADD", "RELU*"]), max_size=3).map(tuple)


@given(cases(("float32", "float16", *QUANTISED)), after)
@examples(12, 400)
def test_exact_numerics_keep_the_bits_behind_any_epilogue(case: Case, after: tuple[str, ...]) -> None:
    case = case.with_(after=after, activation=0)
    model = loaded(build(case))
    x = random_input(case, case.seed)
    wanted = run(build(case), x)
    for site in model.find().sites:
        for candidate in (SPLIT, Candidate("native", after="relayout")):
            program = lower(site.deconv, "NHWC", candidate)
            np.testing.assert_array_equal(run(model.splice({site.id: program}).to_object(), x), wanted)
        alone = [
            run(model.emit(site, lower(site.deconv, "NHWC", candidate)).read(), x)
            for candidate in (Candidate("native"), SPLIT)
        ]
        np.testing.assert_array_equal(alone[1], alone[0])


@given(cases(("int8", "int8_per_channel", "int16")))
@examples(12, 400)
def test_fused_numerics_differ_by_two_steps_at_most_and_are_nearer_to_float64(case: Case) -> None:
    case = case.with_(after=("ADD", "RELU*"), activation=0, in_channels=case.in_channels + 4)
    model = loaded(build(case), "fused")
    x = random_input(case, case.seed)
    for site in model.find().sites:
        assert site.epilogue == ("ADD", "RELU")
        before, after = (
            run(model.emit(site, lower(site.deconv, "NHWC", candidate)).read(), x)
            for candidate in (Candidate("native"), SPLIT)
        )
        found = model.difference(site, x, before, after)
        assert found.passed, found
        assert found.error_after <= found.error_before + 0.05, found


def test_unknown_numerics_are_refused() -> None:
    with pytest.raises(UsageError, match="--numerics fast: tflite models know exact, fused"):
        formats.model_class("tflite", "fast")
