"""QDQ convolutions of upsampled maps with filters quantised anew: only when asked, proved, and never silent."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import splitdeconv
from splitdeconv import formats
from splitdeconv.cli import main
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Model, Site
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof.sites import check_requantised, prove_site
from splitdeconv.targets import target
from tests.formats.onnx import stretched_models as models
from tests.formats.onnx.stretched_models import CHANNELS, resize
from tests.formats.onnx.test_stretched_quantised import model_of, run, stored_input
from tests.onnx_models import runs_here

ROWS = Candidate("split_rows", quant="qlinear_u8")


def trained(outs: int = 8) -> Array:
    """Weights that use all of 8 bits, so that their sums do not."""
    kernel = np.random.default_rng(0).standard_normal((outs, CHANNELS, 3, 3))
    return np.rint(kernel / np.abs(kernel).max((1, 2, 3), keepdims=True) * 127)


def asked(model: onnx.ModelProto) -> tuple[Model, Site]:
    found = formats.from_object(model, "requantised")
    (site,) = found.find().sites
    return found, site


FORMS = [
    ROWS,
    Candidate("split", "union", "depth_to_space", "qdq"),
    Candidate("split_phases", form="transpose", quant="qlinear"),
    Candidate("zero_insert", quant="qdq"),
    Candidate("split_row_groups", quant="qlinear"),
]


@pytest.mark.parametrize("candidate", FORMS, ids=str)
@pytest.mark.parametrize(("activation", "weight", "per_channel"), [("uint8", "int8", True), ("int8", "uint8", False)])
def test_places_are_proved_with_weights_whose_sums_fit(
    candidate: Candidate, activation: str, weight: str, per_channel: bool
) -> None:
    kernel = trained() + (40 if weight == "uint8" else 0)
    kernel = np.clip(kernel, 0, 255) if weight == "uint8" else kernel
    made = model_of(resize(), kernel=kernel, activation=activation, weight=weight, per_channel=per_channel)
    model, site = asked(made)
    runner = target("onnxruntime", threads=1)
    program = lower(site.deconv, "NCHW", candidate)
    assert model.refuse(site, program) is None
    if not runs_here(program):
        pytest.skip(f"the installed ONNX Runtime has no DepthToSpace of {activation} numbers")
    proof = prove_site(model, site, program, runner)
    assert proof.exact, proof.detail
    rewritten = model.splice({site.id: program}).to_object()
    assert "Resize" not in [node.op_type for node in rewritten.graph.node]
    feeds = stored_input(made, (1, CHANNELS, 5, 6))
    (found,), (wanted,) = run(rewritten, feeds).values(), run(made, feeds).values()
    assert found.shape == wanted.shape
    assert np.mean(np.abs(found.astype(int) - wanted) <= 1) > 0.9


def test_the_figures_are_those_of_the_two_definitions() -> None:
    _, site = asked(model_of(resize(), kernel=trained()))
    check, sentence = check_requantised(site, lower(site.deconv, "NCHW", ROWS))
    assert check.passed
    assert check.after >= 1
    found = re.search(
        r"by (\d+) steps at most, ([\d.]+) on average; ([\d.]+)% are equal; .* ([\d.]+) steps .* ([\d.]+)", sentence
    )
    assert found is not None, sentence
    most, mean, equal, before, after = (float(each) for each in found.groups())
    assert most == check.after
    assert 0 < mean < 1
    assert 50 < equal < 100
    assert 0.2 < before < 0.35  # a rounding's is 1/√12
    assert before < after < 1


def test_sums_that_fit_change_nothing() -> None:
    small = np.random.default_rng(0).integers(-15, 16, (4, CHANNELS, 3, 3))
    _, site = asked(model_of(resize(), kernel=small))
    check, sentence = check_requantised(site, lower(site.deconv, "NCHW", ROWS))
    assert check.after == 0
    assert "100.0% are equal" in sentence


def test_a_wrong_sum_is_not_exact() -> None:
    model, site = asked(model_of(resize(), kernel=trained()))
    program = lower(site.deconv, "NCHW", ROWS)
    other = lower(asked(model_of(resize(), kernel=trained(), pads=[0, 1, 2, 1]))[1].deconv, "NCHW", ROWS)
    assert not prove_site(
        model,
        site,
        type(program)(program.deconv, "NCHW", other.steps, quant=ROWS.quant),
        target("onnxruntime", threads=1),
    ).exact


def test_forms_that_cannot_hold_them_say_why() -> None:
    model, site = asked(model_of(resize(), kernel=trained()))
    reasons = {}
    for candidate in candidates(site.deconv, "NCHW")[0]:
        reasons[str(candidate)] = model.refuse(site, lower(site.deconv, "NCHW", candidate)) or ""
    assert "scale for each phase" in reasons["native:deconv"]
    assert "do not fit into their type" in reasons["split_rows:float"]
    assert reasons["native"] == reasons["split_rows:qdq"] == ""
    old, site = asked(model_of(resize(), kernel=trained(), per_channel=False, opset=12))
    assert "opset 12" in (old.refuse(site, lower(site.deconv, "NCHW", Candidate("split_rows", quant="qdq"))) or "")
    assert old.refuse(site, lower(site.deconv, "NCHW", ROWS)) is None


def test_only_when_asked_and_never_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out, record = tmp_path / "model.onnx", tmp_path / "out.onnx", tmp_path / "run.json"
    onnx.save(model_of(resize(), kernel=trained()), path)
    (skipped,) = splitdeconv.inspect(path).findings.skipped
    assert skipped.reason.endswith("unless --numerics requantised quantises them anew")
    options = ["--numerics", "requantised", "--lowering", "split_rows:qlinear_u8", "--target", "generic"]
    assert main(["convert", str(path), str(out), *options, "--json", str(record)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for each in (shown, " ".join(record.read_text().split())):
        assert "its filters are quantised anew, for each phase and channel: the model becomes another one" in each
        assert "filters quantised anew change its outputs by" in each
        assert "requantised numerics change the outputs, which are not compared" in each
    assert "Resize" not in [node.op_type for node in onnx.load(out).graph.node]


def test_what_stays_even_so() -> None:
    skip = model_of(models.skip(), around=("v", "s"), kernel=np.full((4, 2 * CHANNELS, 3, 3), 5))
    (skipped,) = formats.from_object(skip, "requantised").find().skipped
    assert "rounded twice" in skipped.reason
