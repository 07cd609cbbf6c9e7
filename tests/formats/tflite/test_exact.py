"""Rewritten TFLite models give the original's bits, in the interpreter that runs them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from hypothesis import given

pytest.importorskip("ai_edge_litert")

from splitdeconv.formats.tflite import file, way_back
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.targets.litert import LiteRt, LiteRtModel, interpreter
from tests.examples import examples
from tests.tflite_models import Case, build, cases, loaded, random_input

KERNELS = ("xnnpack", "reference")


@cache
def litert(kernels: str) -> LiteRt:
    return LiteRt(kernels)


def rewrites(case: Case, kernels: str = "reference") -> Iterator[tuple[Candidate, bytes]]:
    """The model under every candidate that the front-end does not refuse for these kernels."""
    model = loaded(build(case)).seen_by(litert(kernels))
    sites = model.find().sites
    if not sites:
        return
    (site,) = sites
    for candidate in candidates(site.deconv, "NHWC")[0]:
        program = lower(site.deconv, "NHWC", candidate)
        if candidate.lowering == "native" or model.refuse(site, program):
            continue
        yield candidate, model.splice({site.id: program}).to_object()


def known_gap(kernels: str, case: Case, candidate: Candidate) -> bool:
    """Data types that LiteRT's own DEPTH_TO_SPACE does not take."""
    if candidate.form != "depth_to_space":
        return False
    return case.kind == "int16" or (kernels == "reference" and case.activation_type != "float32")


def assert_same_bits(case: Case) -> None:
    for kernels in KERNELS:
        if kernels == "reference" and case.kind == "hybrid":
            continue  # float32 results differ in the last bit; test_trials has hybrid sites
        x = random_input(case, case.seed + 1)
        before = LiteRtModel(interpreter(build(case), kernels, 1)).run({"x": x})["y"]
        for candidate, content in rewrites(case, kernels):
            if known_gap(kernels, case, candidate):
                continue
            after = LiteRtModel(interpreter(content, kernels, 1)).run({"x": x})["y"]
            np.testing.assert_array_equal(after, before, f"{kernels} {candidate}")


@given(cases())
@examples(12, 2_000)
def test_every_rewrite_gives_the_original_bits(case: Case) -> None:
    assert_same_bits(case)


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_a_bias_with_leading_ones_is_a_bias(kind: str) -> None:
    case = Case(kind, bias_rank=4)
    assert list(rewrites(case))
    assert_same_bits(case)


def test_the_rewritten_subgraph_is_read_once_for_all_its_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time grew with the square of their number."""
    root = loaded(build(Case())).root
    graph, read = root.subgraphs[0], list[object]()
    monkeypatch.setattr(way_back, "Graph", lambda *args: (read.append(args), Graph(*args))[1])
    for number in range(3):
        further = copy.copy(graph.operators[0])
        tensor = copy.copy(graph.tensors[further.outputs[0]])
        graph.tensors.append(tensor)
        tensor.name, further.outputs = f"y{number}", [len(graph.tensors) - 1]
        graph.operators.append(further)
        graph.outputs = [*graph.outputs, *further.outputs]
    model = loaded(file.pack(root))
    sites = model.find().sites
    assert len(sites) == 4
    model.splice({site.id: lower(site.deconv, "NHWC", Candidate("split", "union", "transpose")) for site in sites})
    assert len(read) == 1
