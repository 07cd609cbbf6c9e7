"""Third-party cases of ConvTranspose through the ONNX front-end, with every candidate of every lowering."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.backend.test.case import node as backend_cases

from splitdeconv.deconv import reference
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.lowerings import candidates
from tests.conftest import SHARED
from tests.onnx_models import OPSET, RUNTIME_OPSETS, build, conversions, count, load, run, sites
from tests.strategies import integer_tensors

# The expected values were computed in float32 by others: two sums of n products in two orders differ by at most
# 2·n roundings of the sum of magnitudes (Higham, 2nd ed., (3.4)); one rounding of float32 is 2⁻²⁴. The cases are
# printed with 5 to 9 significant digits, which adds 10⁻⁵ of the largest value.
ROUNDING = 2.0**-24
PRINTED = 1e-5

CASES = SHARED / "conformance" / "ort_convtranspose_cases.json"
REJECTED = 3


@cache
def cases() -> dict[str, dict[str, Any]]:
    return {case["name"]: case for case in json.loads(CASES.read_text())["cases"]} if CASES.is_file() else {}


def array(case: Mapping[str, Any], name: str) -> Array:
    return np.asarray(case[name], np.float32).reshape(case[f"{name}_shape"])


def model_of(case: Mapping[str, Any], opset: int) -> onnx.ModelProto:
    known = {"W": array(case, "W")}
    if case["B"] is not None:
        known["B"] = np.asarray(case["B"], np.float32)
    attributes = {name: value for name, value in case["attrs"].items() if value != []}
    node = helper.make_node("ConvTranspose", ["X", *known], ["Y"], name="site", **attributes)
    return build([node], {"X": case["X_shape"]}, {"Y": [None] * len(case["Y_shape"])}, known, opset=opset)


def tolerance(x: Array, weight: Array, bias: Array | None) -> float:
    products = weight.shape[0] * int(np.prod(weight.shape[2:]))
    largest = float(np.max(np.abs(x), initial=0.0)) * float(np.max(np.abs(weight)))
    total = products * largest + (0.0 if bias is None else float(np.max(np.abs(bias))))
    return 2 * (products + 1) * ROUNDING * total + PRINTED * total


def assert_every_candidate_gives(model: onnx.ModelProto, feeds: Mapping[str, Array], wanted: Array) -> None:
    """Expected outputs within the bound of rounding, and the definition bit for bit on integers."""
    (site,) = sites(load(model))
    (name,) = feeds
    weights = site.weights
    bound = tolerance(feeds[name], weights.kernel, weights.bias)
    x, integers = integer_tensors(replace(site.deconv, batch=feeds[name].shape[0]), seed=1, dtype="float32")
    exact = reference.deconv(x.astype(np.float64), integers, site.deconv)
    tried = set()
    for candidate, converted in conversions(model):
        (found,) = run(converted, feeds).values()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=bound, err_msg=str(candidate))
        assert count(converted, "ConvTranspose") == (candidate.lowering == "native")
        tried.add(candidate)
    for candidate, converted in conversions(with_weights(model, integers)):
        if candidate.lowering == "native":
            continue  # the runtime's own deconv is no oracle
        (found,) = run(converted, {name: x}).values()
        np.testing.assert_array_equal(found, exact, str(candidate))
    assert tried == set(candidates(site.deconv, "NCHW")[0])


def with_weights(model: onnx.ModelProto, weights: Weights) -> onnx.ModelProto:
    """The same model with other values in its initializers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for initializer, values in zip(copy.graph.initializer, (weights.kernel, weights.bias), strict=False):
        assert values is not None, "a bias where the model has one"
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float32), initializer.name))
    return copy


@pytest.mark.parametrize("opset", [OPSET, *(pytest.param(each, marks=pytest.mark.long) for each in (7, 11))])
@pytest.mark.parametrize("name", sorted(name for name, case in cases().items() if not case["expect_failure"]))
def test_a_case_of_onnx_runtime(name: str, opset: int) -> None:
    case = cases()[name]
    assert_every_candidate_gives(model_of(case, opset), {"X": array(case, "X")}, array(case, "Y"))


@pytest.mark.parametrize("name", sorted(name for name, case in cases().items() if case["expect_failure"]))
def test_a_case_that_must_be_rejected(name: str) -> None:
    (skipped,) = load(model_of(cases()[name], 11)).find().skipped
    assert re.search(r"^(kernel_shape|bias) .* wanted|but the weight's kernel is", skipped.reason)


def test_all_cases_are_there(shared: Path) -> None:
    assert len(cases()) == 34
    assert sum(case["expect_failure"] for case in cases().values()) == REJECTED


@cache
def backend() -> dict[str, Any]:
    """The onnx package's own node tests."""
    importlib.import_module("onnx.backend.test.case.node.convtranspose")
    found = {case.name: case for case in backend_cases._NodeTestCases}
    return {name: case for name, case in found.items() if name.startswith("test_convtranspose")}


def test_the_onnx_package_has_its_cases() -> None:
    assert len(backend()) >= 10


@pytest.mark.parametrize("name", sorted(backend()))
def test_a_case_of_the_onnx_package(name: str) -> None:
    case = backend()[name]
    ((inputs, (wanted,)),) = case.data_sets
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    opset = min(each.version for each in model.opset_import if each.domain == "")
    names = [value.name for value in model.graph.input]
    known = dict(zip(names[1:], inputs[1:], strict=True))
    node = model.graph.node[0]
    node.name = "site"
    rebuilt = build(
        [node],
        {names[0]: inputs[0].shape},
        {node.output[0]: [None] * wanted.ndim},
        known,
        opset=min(opset, RUNTIME_OPSETS[-1]),
    )
    assert_every_candidate_gives(rebuilt, {names[0]: inputs[0]}, wanted)
