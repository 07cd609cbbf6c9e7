"""Nothing is timed that has not been proved: trials of forms, and what runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

pytest.importorskip("onnxruntime")

import splitdeconv
from splitdeconv import targets
from splitdeconv.choosing import planner
from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.formats.model import Model, Site
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.measuring.cache import Timings
from splitdeconv.pipeline import convert
from splitdeconv.pipeline.compiling import ENOUGH, Trials, compile_site
from splitdeconv.pipeline.in_model import Settled
from splitdeconv.pipeline.open import Options, runner_for
from splitdeconv.pipeline.sites import site_table, with_times
from splitdeconv.results.plan import Option, Plan
from splitdeconv.results.times import NO_SECONDS, UNTRIED, Measurement, Untimed
from splitdeconv.results.verdict import Verdict
from tests.onnx_models import load, single, sites
from tests.strategies import integer_tensors

DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 3), Axis(3, 3, 1, 0, 1, 1, 4)), 2, 2, has_bias=True)
MODEL = load(single(DECONV, integer_tensors(DECONV, 0, "float32")[1]))
SPLIT = Candidate("split", "union", "transpose")


def with_taps_reversed(program: Program) -> Program:
    """A program whose convolution reads its blocks in the wrong order."""
    steps = [
        replace(step, op=replace(step.op, blocks=step.op.blocks[::-1])) if isinstance(step.op, Conv) else step
        for step in program.steps
    ]
    return replace(program, steps=tuple(steps))


def test_a_form_that_is_not_equal_is_refused_before_it_is_timed() -> None:
    (site,) = sites(MODEL)
    program = lower(site.deconv, "NCHW", SPLIT)
    runner = targets.target("onnxruntime", threads=1)
    assert Trials(runner).refusal(MODEL, site, SPLIT, program) == ""
    reason = Trials(runner).refusal(MODEL, site, SPLIT, with_taps_reversed(program))
    assert reason.startswith("is not equal to the definition: ")


def test_equal_sites_share_a_trial() -> None:
    (site,) = sites(MODEL)
    trials = Trials(targets.target("onnxruntime", threads=1))
    program = lower(site.deconv, "NCHW", SPLIT)
    assert trials.refusal(MODEL, site, SPLIT, program) == ""
    assert trials.refusal(MODEL, replace(site, id="other"), SPLIT, with_taps_reversed(program)) == ""


def test_where_all_forms_are_refused_a_few_are_tried_without_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    (site,) = sites(MODEL)
    tried: list[Candidate] = []

    def refuse(_self: Trials, _model: Model, _site: Site, candidate: Candidate, _program: Program) -> str:
        tried.append(candidate)
        return "is not equal"

    monkeypatch.setattr(Trials, "refusal", refuse)
    runner = targets.target("onnxruntime", threads=1)
    offered = [option.candidate for option in site_table(MODEL, site, runner).options]
    compiled, others = compile_site(MODEL, site, offered, runner, Trials(runner), seconds=0)
    assert list(compiled) == [NATIVE]
    assert len(tried) == ENOUGH < len(others)
    assert {others[each].runs for each in tried} == {False}


def test_a_lower_precision_is_proved_in_the_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    class Runtime:
        gives_outputs, name = True, "openvino"

        def in_full_precision(self) -> Runtime:
            return self

    full = Runtime()

    def open_target(name: str, **options: Any) -> Runtime:
        asked.append((name, options))
        return full

    monkeypatch.setattr(targets, "target", open_target)
    low = cast("targets.Target", Runtime())
    assert runner_for(MODEL, low, Options()) is low
    assert cast("Any", runner_for(MODEL, low, Options(precision="bfloat16"))) is full
    assert asked == [("openvino", {"threads": 0})]


def test_an_estimating_target_needs_no_runtime_without_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    real = targets.target

    def without_onnxruntime(name: str, **options: Any) -> targets.Target:
        if name == "onnxruntime":
            raise MissingExtraError("target 'onnxruntime'", "onnxruntime", "onnxruntime")
        return real(name, **options)

    monkeypatch.setattr(targets, "target", without_onnxruntime)
    model = single(DECONV, integer_tensors(DECONV, 0, "float32")[1])
    conversion = splitdeconv.convert(model, target="accelerator", verify=False, cache=False)
    (choice,) = conversion.plan.choices
    assert [option for option in choice.options if option.time is not None]
    with pytest.raises(UsageError, match="verification runs the model"):
        splitdeconv.convert(model, target="accelerator", cache=False)


def test_what_was_not_tried_is_not_chosen_where_nothing_can_be_compared() -> None:
    """As where the first forms are refused, and no seconds are left for the others."""
    (site,) = sites(MODEL)
    table = site_table(MODEL, site, targets.target("onnxruntime", threads=1))
    first, second, third, *others = (str(option.candidate) for option in table.options)
    time = Measurement(1.0, 1.0, 1.0, 5, "measured", (1.0,))
    outcomes: dict[str, Measurement | Untimed] = {first: time, second: NO_SECONDS, **dict.fromkeys(others, UNTRIED)}
    few = with_times(table, Timings({**outcomes, third: UNTRIED}, 1.0))
    assert [str(option.candidate) for option in few.options] == [first, second]
    assert {each.reason for each in few.refusals[len(table.refusals) :]} == {UNTRIED.reason}
    assert len(with_times(table, Timings({**outcomes, third: time}, 1.0)).options) == len(table.options)


def a_rewritten_form(options: Sequence[Option], deconv: Deconv, _missing: str) -> tuple[Candidate, str]:
    """The one of least work, whatever the machine's clock says."""
    (best, *_) = (each for each in planner.order(options, deconv) if each != NATIVE)
    return best, "by the rule"


def test_a_form_that_passes_its_trial_and_fails_the_proof_gives_way_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it was asked for: then the proof has failed."""
    proved: list[str] = []
    raced: list[float] = []

    def settle(_case: object, plan: Plan, _original: object, _target: object, seconds: float) -> Settled:
        raced.append(seconds)
        return Settled(plan)

    def prove_wrongly(verdict: Verdict) -> Verdict:
        proved.append("")
        if len(proved) > 1 or not verdict.proofs:
            return verdict
        wrong = tuple(replace(proof, exact=False, detail="3 of 294 outputs differ") for proof in verdict.proofs)
        return replace(verdict, proofs=wrong)

    real = convert.prove
    monkeypatch.setattr(convert, "prove", lambda *args, **options: prove_wrongly(real(*args, **options)))
    monkeypatch.setattr(planner, "_fastest", a_rewritten_form)
    monkeypatch.setattr(convert, "_settled", settle)
    found = splitdeconv.convert(MODEL.to_object(), target="onnxruntime", budget=2.0, cache=False)
    assert raced[1:] == [raced[0] / 2], "however many forms fail, the races end"
    (choice,) = found.plan.choices
    (refused,) = (each for each in choice.refusals if "does not compute the definition" in each.reason)
    assert refused.candidate not in (choice.chosen, NATIVE)
    proved.clear()
    with pytest.raises(splitdeconv.VerificationError, match="3 of 294 outputs differ"):
        splitdeconv.convert(MODEL.to_object(), target="onnxruntime", lowering="split", budget=2.0, cache=False)
