"""The planner chooses for a modelled processor as it does for a real one."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from splitdeconv.cli import main
from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.formats.onnx import OnnxModel
from tests.accelerator.test_counts import SNGAN2
from tests.accelerator.test_models import deconv_model

ALL_ESTIMATES = ("--budget", "1000000")  # they take a moment: on the slowest machine every form has one


@pytest.mark.parametrize(
    ("arch", "chosen"), [("dot-product-16x16", "split_phases:depth_to_space"), ("fcn-engine-16x16", "native")]
)
def test_the_form_with_the_fewest_modelled_cycles_is_chosen(arch: str, chosen: str, tmp_path: Path) -> None:
    model = deconv_model(SNGAN2, tmp_path / "m.onnx")
    record = tmp_path / "run.json"
    target = f"accelerator:{arch}"
    given = ["--target", target, *ALL_ESTIMATES, "--json", str(record)]
    assert main(["convert", str(model), str(tmp_path / "o.onnx"), *given]) == 0
    (choice,) = json.loads(record.read_text("utf-8"))["plan"]["choices"]
    assert choice["chosen"] == chosen
    times = {option["candidate"]: option["time"] for option in choice["options"]}
    assert all(time["kind"] == "estimated" for time in times.values())
    assert times[chosen]["median_ms"] == min(time["median_ms"] for time in times.values())


def test_forms_that_onnxs_own_evaluator_does_not_know_are_estimated(tmp_path: Path) -> None:
    """QLinearConv per channel, among others; the trials on ONNX Runtime say that they are right."""
    pytest.importorskip("onnxruntime")
    model, record = tmp_path / "m.onnx", tmp_path / "run.json"
    deconv = Deconv((Axis(4, 2, 1, 1, 1, 0, 6),) * 2, 4, 4, quant=Quant("uint8", "int8", per_channel=True))
    onnx.save(OnnxModel.layer(deconv, ()).to_object(), model)
    given = ["--target", "accelerator:fcn-engine-16x16", "--no-cache", "--json", str(record)]
    given += ALL_ESTIMATES
    assert main(["convert", str(model), str(tmp_path / "o.onnx"), *given]) == 0
    (choice,) = json.loads(record.read_text("utf-8"))["plan"]["choices"]
    assert any("qlinear" in option["candidate"] and option["time"] for option in choice["options"])
