"""Quantised sites of TFLite models on trial: their definition, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

pytest.importorskip("ai_edge_litert")

from splitdeconv.deconv.definition import Definition, fixed_point_deconv
from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array, Quantisation, Weights
from splitdeconv.formats.model import Model, Site
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.compiling import compile_equal_work
from splitdeconv.proof.sites import fingerprint, noise_of_site, prove_site, wrong_numbers
from splitdeconv.results.bench import EQUAL_WORK
from splitdeconv.targets.litert import LiteRt, LiteRtModel
from tests.examples import examples
from tests.tflite_models import Case, build, cases, loaded

QUANTISED = ("int8", "int8_per_channel", "uint8", "int16")
KINDS = (*QUANTISED, "hybrid")
KERNELS = ("xnnpack", "reference")
SPLIT = Candidate("split", "union", "transpose")


@cache
def litert(kernels: str) -> LiteRt:
    return LiteRt(kernels)


@pytest.fixture(params=KERNELS)
def runner(request: pytest.FixtureRequest) -> LiteRt:
    return litert(request.param)


def site_of(case: Case) -> tuple[TfliteModel, Site]:
    model = loaded(build(case))
    (site,) = model.find().sites
    return model, site


def offered(model: Model, site: Site, runner: LiteRt) -> list[Program]:
    found = [lower(site.deconv, "NHWC", each) for each in candidates(site.deconv, "NHWC")[0]]
    return [each for each in found if model.refuse(site, each) is None and runner.refuse(each) is None]


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_is_proved_with_its_own_types(kind: str, runner: LiteRt) -> None:
    model, site = site_of(Case(kind, activation=1, after=("CROP",)))
    forms = offered(model, site, runner)
    assert len(forms) > 3
    for program in forms:
        assert prove_site(model, site, program, runner).exact, program.name
        assert wrong_numbers(model, site, program, runner) is None, program.name


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_runs_what_is_written(kind: str) -> None:
    """The operators that meet the drawn values are of the site's types."""
    model, site = site_of(Case(kind))
    (x, *_) = loaded(model.emit(site, lower(site.deconv, "NHWC", SPLIT), site.weights).read()).inputs()
    assert x.dtype == ("float32" if kind == "hybrid" else kind.split("_", maxsplit=1)[0])
    (convolution,) = loaded(model.emit(site, lower(site.deconv, "NHWC", NATIVE), site.weights).read()).find().sites
    assert convolution.weights.kernel.dtype == site.weights.kernel.dtype
    assert convolution.deconv.quant == site.deconv.quant


def with_taps_reversed(program: Program) -> Program:
    steps = [
        replace(step, op=replace(step.op, blocks=step.op.blocks[::-1])) if isinstance(step.op, Conv) else step
        for step in program.steps
    ]
    return replace(program, steps=tuple(steps))


@pytest.mark.parametrize("kind", KINDS)
def test_a_form_with_its_taps_in_wrong_places_is_not_exact(kind: str, runner: LiteRt) -> None:
    model, site = site_of(Case(kind))
    proof = prove_site(model, site, with_taps_reversed(lower(site.deconv, "NHWC", SPLIT)), runner)
    assert not proof.exact
    assert "outputs differ" in proof.detail


class OneStepHigher(LiteRt):
    """A runtime that rounds some stored outputs up by a step too much."""

    def compile(self, model: bytes | Path, *, whole: bool = False) -> LiteRtModel:
        real = super().compile(model, whole=whole)
        run = real.run

        def higher(inputs: Mapping[str, Array]) -> dict[str, Array]:
            found = run(inputs)
            for y in found.values():
                y.reshape(-1)[::5] = np.minimum(y.reshape(-1)[::5], np.iinfo(y.dtype).max - 1) + 1
            return found

        real.run = higher  # type: ignore[method-assign]
        return real


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_runtime_that_rounds_wrong_is_found(kind: str) -> None:
    """Of the outputs that are no ties; its own deconv is judged by the same definition."""
    model, site = site_of(Case(kind))
    program = lower(site.deconv, "NHWC", SPLIT)
    assert not prove_site(model, site, program, OneStepHigher()).exact


def test_what_a_trial_depends_on_is_part_of_the_keys() -> None:
    known = {fingerprint(site_of(Case(kind, seed=seed))[1]) for kind in QUANTISED for seed in (0, 1)}
    assert len(known) == 2 * len(QUANTISED)
    assert fingerprint(site_of(Case("hybrid"))[1]) == ()


def test_hybrid_sites_are_held_against_real_values_too(runner: LiteRt) -> None:
    model, site = site_of(Case("hybrid"))
    found = noise_of_site(model, site, lower(site.deconv, "NHWC", SPLIT), runner)
    assert found is not None
    assert found.passed
    assert found.before > 1e-4, "the input was not quantised, so the hybrid kernels did not run"


@given(cases(QUANTISED))
@examples(12, 1_000)
def test_litert_agrees_with_the_definition(case: Case) -> None:
    model = loaded(build(case))
    for site in model.find().sites:
        for kernels in KERNELS:
            assert wrong_numbers(model, site, lower(site.deconv, "NHWC", NATIVE), litert(kernels)) is None


ONE = Deconv((Axis(1, 1), Axis(1, 1)), 1, 1)


def defined(sums: list[int], m: float, x_type: str = "int16", y_type: str = "int16") -> Definition:
    """Results of 1×1 sums that are the input itself, multiplied by ``m``."""
    one, zero = np.asarray(1, np.float32), np.asarray(0, np.int32)
    quant = Quantisation(x_type, np.asarray(m, np.float32), 0, one, zero, y_type, one, 0, fixed_point=True)
    x = np.array(sums, np.int64).reshape(1, 1, 1, -1)
    return fixed_point_deconv(x, Weights(np.ones((1, 1, 1, 1), np.int8), None, quant), ONE)


def test_ties_may_fall_to_either_side_and_nothing_else_may() -> None:
    found = defined([0, 511, 512, 513, 600, -512, -600, 1536], 2.0**-10, "int8", "int8")
    # One unit before the shift is 2⁻⁹, two of the sum: from 510 to 514 a kernel that rounds twice may give 0 or 1.
    assert found.lowest.reshape(-1).tolist() == [0, 0, 0, 0, 1, -1, -1, 1]
    assert found.highest.reshape(-1).tolist() == [0, 1, 1, 1, 1, 0, -1, 2]
    assert found.misses(found.lowest + np.int8(2)).all()
    assert found.steps(found.highest + np.int8(3)).tolist() == [[[[3] * 8]]]


def test_a_short_multiplier_may_be_off_by_what_15_bits_leave_out() -> None:
    """1.0001 is 16386 · 2⁻¹⁴ in 15 bits: 30,000 becomes 30,003.66 instead of 30,003."""
    found = defined([30000], 1.0001)
    assert (found.lowest.item(), found.highest.item()) == (30003, 30004)


def test_stored_results_saturate() -> None:
    found = defined([10000, -10000], 1.0, "int8", "int8")
    assert found.lowest.reshape(-1).tolist() == found.highest.reshape(-1).tolist() == [127, -128]


def test_nan_is_never_right() -> None:
    assert Definition.of(np.zeros(2)).misses(np.array([0.0, np.nan])).tolist() == [False, True]


class TakesAll:
    """A target that compiles everything and runs nothing."""

    reshape_is_free = gives_outputs = False

    def compile(self, model: object) -> object:
        return model


@pytest.mark.parametrize("kind", ["float32", "int8_per_channel", "int16"])
def test_every_type_has_a_convolution_of_least_work(kind: str) -> None:
    model = loaded(build(Case(kind)))
    (site,) = model.find().sites
    assert list(compile_equal_work(model, site, TakesAll())) == [EQUAL_WORK]  # type: ignore[arg-type]
