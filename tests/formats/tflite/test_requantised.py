"""Int8 convolutions of upsampled maps with filters quantised anew: only when asked, proved, and never silent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from splitdeconv import formats
from splitdeconv.cli import main
from splitdeconv.formats.model import Model, Site
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.proof.sites import check_requantised, prove_site, wrong_numbers
from splitdeconv.targets import target
from splitdeconv.targets.litert import LiteRt
from tests.formats.tflite.stretched_models import CHANNELS, SIZES, Write, keras, model_of, resize
from tests.formats.tflite.test_stretched import run, whole_numbers

FORMS = [Candidate("split_rows"), Candidate("split", "union", "depth_to_space"), Candidate("zero_insert")]


def asked(content: bytes) -> tuple[Model, Site]:
    model = formats.from_object(content, "requantised")
    (site,) = model.find().sites
    return model, site


@pytest.mark.parametrize(("form", "front"), list(zip(FORMS, (resize(), keras(), resize(3, 1)), strict=True)))
def test_places_and_numbers_are_proved(form: Candidate, front: Write) -> None:
    content = model_of(front, weights="int8", activation=1)
    model, site = asked(content)
    assert any("quantised anew" in note for note in site.notes)
    program, runner = lower(site.deconv, "NHWC", form), LiteRt("xnnpack")
    assert model.refuse(site, program) is None
    proof = prove_site(model, site, program, runner)
    assert proof.exact, proof.detail
    assert wrong_numbers(model, site, program, runner) is None
    check, sentence = check_requantised(site, program)
    assert check.passed
    assert "are equal; root mean square error against float64 0." in sentence
    x = whole_numbers((1, *SIZES, CHANNELS), "int8") * np.int8(20)
    (found,), (wanted,) = (run(each, x) for each in (model.splice({site.id: program}).to_object(), content))
    assert np.abs(found.astype(int) - wanted).max() <= check.bound


def test_only_convolutions_of_int8_and_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = model_of(resize(), weights="int8")
    (skipped,) = formats.from_object(content).find().skipped
    assert skipped.reason.endswith("unless --numerics requantised quantises them anew")
    depthwise = model_of(resize(), weights="int8", kind="DEPTHWISE_CONV_2D", outs=2)
    for other in (depthwise, model_of(resize(), weights="hybrid")):
        (skipped,) = formats.from_object(other, "requantised").find().skipped
        assert skipped.reason.endswith("do not fit into the weights' type")
    path, out = tmp_path / "model.tflite", tmp_path / "out.tflite"
    path.write_bytes(content)
    options = ["--numerics", "requantised", "--lowering", "split_rows", "--target", "generic"]
    assert main(["convert", str(path), str(out), *options]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "filters quantised anew change its outputs by" in shown
    assert "requantised numerics change the outputs, which are not compared" in shown


def test_on_an_npu_sixteen_products_do_where_thirty_six_did() -> None:
    pytest.importorskip("ethosu.vela")
    model, site = asked(model_of(resize(), dims=(1, 8, 8, 16), outs=16, weights="int8"))
    u55 = target("vela:ethos-u55-128")
    found = {}
    for candidate in (NATIVE, Candidate("split_row_groups")):
        content = model.emit(site, lower(site.deconv, "NHWC", candidate)).read()
        found[candidate.lowering] = u55.estimate(content)  # type: ignore[attr-defined]
    native, split = found["native"], found["split_row_groups"]
    pixels = 8 * 8 * 16 * 16
    assert native.macs == pytest.approx(36 * pixels, rel=0.01)
    assert split.macs == pytest.approx(16 * pixels, rel=0.02)
    assert split.cycles < native.cycles
    assert split.cpu_operators == 0
