"""Models that bring a runtime down are refused with a reason; the command, and the other models, go on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

pytest.importorskip("onnxruntime")

import splitdeconv
from splitdeconv import targets
from splitdeconv.deconv.network import Compilable
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.times import FEWEST_ROUNDS, Untimed, timed
from splitdeconv.targets import CompileError, Target
from splitdeconv.targets.target import measure_those_that_run
from tests.crashing_runtime import (
    DIES_WHEN_COMPILED,
    DIES_WHEN_RUN,
    DIES_WHEN_TIMED,
    STOPS_WHEN_TIMED,
    CrashingRuntime,
    that,
)
from tests.onnx_models import build
from tests.targets.test_runtimes import conv_model, identity

NATIVE = Candidate("native")


@pytest.fixture
def crashing() -> Target:
    return CrashingRuntime()


SOUND = conv_model(3 * identity(4), (1, 4, 5, 6))
X = np.arange(120, dtype=np.float32).reshape(1, 4, 5, 6)
CRASH = r"crashes on this model \(SIGSEGV\)"


def test_a_model_that_brings_the_runtime_down_is_refused_and_the_others_run_on(crashing: Target) -> None:
    sound, deadly = crashing.compile(Compilable(SOUND)), crashing.compile(Compilable(that(DIES_WHEN_RUN, SOUND)))
    np.testing.assert_array_equal(sound.run({"x": X})["y"], 3 * X)
    with pytest.raises(CompileError, match=CRASH):
        deadly.run({"x": X})
    np.testing.assert_array_equal(sound.run({"x": X})["y"], 3 * X)
    with pytest.raises(CompileError, match=CRASH):
        crashing.compile(Compilable(that(DIES_WHEN_COMPILED, SOUND)))
    assert timed(crashing.measure({NATIVE: sound}, {"x": X}, 0.01))[NATIVE].rounds >= FEWEST_ROUNDS


@pytest.mark.parametrize("does", [DIES_WHEN_TIMED, STOPS_WHEN_TIMED])
def test_which_of_several_models_stops_when_timed_is_found(crashing: Target, does: str) -> None:
    models = {"first": SOUND, "bad": that(does, SOUND), "last": SOUND}
    compiled = {name: crashing.compile(Compilable(model)) for name, model in models.items()}
    outcomes = measure_those_that_run(crashing, compiled, {"x": X}, 0.05)
    assert set(timed(outcomes)) == {"first", "last"}
    reasons = ("no more of this", "crashes on this model (SIGSEGV)")
    assert outcomes["bad"] in [Untimed(reason, runs=False) for reason in reasons]


def test_models_that_all_stop_have_reasons_and_no_times(crashing: Target) -> None:
    compiled = {"only": crashing.compile(Compilable(that(STOPS_WHEN_TIMED, SOUND)))}
    assert measure_those_that_run(crashing, compiled, {"x": X}, 0.05) == {
        "only": Untimed("no more of this", runs=False)
    }


def test_what_is_no_longer_needed_is_forgotten(crashing: Target) -> None:
    folder = Path(crashing._runtime._folder.name)  # type: ignore[attr-defined]
    model = crashing.compile(Compilable(SOUND))
    model.run({"x": X})
    del model
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("does", [DIES_WHEN_RUN, STOPS_WHEN_TIMED])
def test_a_deconv_on_which_the_runtime_crashes_does_not_end_the_conversion(
    does: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site's stand-alone models are called after it."""
    monkeypatch.setitem(targets.TARGETS, "crashing", "tests.crashing_runtime:CrashingRuntime")
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["a"], name="sound", strides=[2, 2]),
        helper.make_node("ConvTranspose", ["a", "w"], ["y"], name=does, strides=[2, 2]),
    ]
    model = build(nodes, {"x": (1, 4, 5, 5)}, {"y": [None] * 4}, {"w": np.ones((4, 4, 4, 4), np.float32)})
    result = splitdeconv.convert(model, target="crashing", cache=False, budget=1.0, lowering="col2im")
    sound, deadly = result.plan.choices
    reason = "no more of this" if does == STOPS_WHEN_TIMED else "crashes on this model (SIGSEGV)"
    assert reason in {refusal.reason for refusal in deadly.refusals}
    assert sound.chosen.lowering == "col2im"
    assert result.verdict.passed
