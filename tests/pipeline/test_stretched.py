"""The road for convolutions of stretched maps: what is chosen, proved, kept apart and refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

import splitdeconv
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.bound import least_work
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.measuring.cache import site_key
from splitdeconv.pipeline.compiling import site_inputs
from splitdeconv.pipeline.sites import site_table
from splitdeconv.proof.sites import noise_of_site, prove_site
from splitdeconv.targets import target
from tests.formats.onnx import stretched_models as models
from tests.formats.onnx.stretched_models import model_of, resize

REAL = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
MODEL = model_of(resize(), kernel=REAL)


def loaded(model: onnx.ModelProto = MODEL) -> OnnxModel:
    found = OnnxModel.from_object(model)
    assert found is not None
    return found


def test_without_a_target_they_stay_native_unless_a_lowering_is_asked_for() -> None:
    plain = splitdeconv.convert(MODEL, target="generic")
    (choice,) = plain.plan.choices
    assert choice.chosen == NATIVE
    assert "transposed convolutions only" in choice.reason
    asked = splitdeconv.convert(MODEL, target="generic", lowering="differences")
    (choice,) = asked.plan.choices
    assert choice.chosen.lowering == "differences"
    assert asked.verdict.passed
    (proof,) = asked.verdict.proofs
    assert proof.exact


SKIP = model_of(models.skip(), kernel=np.tile(REAL, (1, 2, 1, 1)))


@pytest.mark.parametrize("source", [MODEL, SKIP], ids=["plain", "skip"])
def test_every_form_passes_its_trial_and_the_bound_on_noise(source: onnx.ModelProto) -> None:
    model, runner = loaded(source), target("onnxruntime")
    (site,) = model.find().sites
    for candidate in candidates(site.deconv, "NCHW")[0]:
        program = lower(site.deconv, "NCHW", candidate)
        assert prove_site(model, site, program, runner).exact, candidate
        check = noise_of_site(model, site, program, runner)
        assert check is not None
        assert check.passed, candidate


def test_the_bound_of_a_skip_connection_has_its_other_convolution() -> None:
    model = loaded(SKIP)
    (site,) = model.find().sites
    program = least_work(site.deconv, "NCHW")
    assert program.inputs
    assert target("onnxruntime").compile(model.emit(site, program)).run(site_inputs(model, site))


def test_a_broken_sum_fails_its_trial() -> None:
    model = loaded()
    (site,) = model.find().sites
    program = next(
        lower(site.deconv, "NCHW", each) for each in candidates(site.deconv, "NCHW")[0] if each.lowering == "split"
    )
    first = program.steps[0]
    blocks = tuple(
        tuple(tuple(0 if isinstance(tap, range) else tap for tap in taps) for taps in block)
        for block in first.op.blocks  # type: ignore[attr-defined]
    )
    op = dataclasses.replace(first.op, blocks=blocks)  # type: ignore[call-arg]
    broken = dataclasses.replace(program, steps=(dataclasses.replace(first, op=op), *program.steps[1:]))
    assert not prove_site(model, site, broken, target("onnxruntime")).exact


def test_equal_geometry_of_another_origin_has_another_key() -> None:
    (site,) = loaded().find().sites
    plain = dataclasses.replace(site.deconv, written_out=None)
    environment = target("onnxruntime").environment()
    assert site_key(site.deconv, (), [], environment) != site_key(plain, (), [], environment)


@pytest.mark.parametrize(("most", "refused"), [(1.5, True), (1.8, False)])
def test_growth_is_refused_beyond_its_limit(most: float, refused: bool) -> None:
    model = loaded()
    (site,) = model.find().sites
    table = site_table(model, site, None, max_growth=most)
    composite = [each for each in table.refusals if str(each.candidate) == "native:deconv"]
    assert bool(composite) == refused
    if refused:
        assert composite[0].reason == "stores 1.78 times as many weights, more than 1.5"
    assert NATIVE in [option.candidate for option in table.options]


def test_inspect_counts_the_nodes_as_they_stand_and_says_what_is_left_alone(tmp_path: Path) -> None:
    found = splitdeconv.inspect(MODEL)
    (site,) = found.findings.sites
    assert site.deconv.native_macs() == 9 * 3 * 4 * 10 * 12
    assert found.findings.other_macs == 0
    left = splitdeconv.inspect(model_of(resize(), strides=[2, 2]))
    assert "stride 2" in left.findings.skipped[0].reason
