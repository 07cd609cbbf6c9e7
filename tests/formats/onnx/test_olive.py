"""The conversion as a pass of Olive."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("olive")

import olive

from splitdeconv.passes.olive import OnnxSplitDeconvs, package_config
from splitdeconv.pipeline.request import ConvertRequest
from tests.models import deconv_model, op_types

NOT_IN_JSON = {"progress", "overrides", "options"}


def test_its_options_are_those_of_convert() -> None:
    assert set(OnnxSplitDeconvs._default_config(None)) == {each.name for each in fields(ConvertRequest)} - NOT_IN_JSON


def test_it_is_chosen_in_json_by_its_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLIVE_DISABLE_TELEMETRY", "1")
    onnx.save(deconv_model(("n", 4, 5, 6), strides=[2, 2], pads=[1, 1, 1, 1]), tmp_path / "m.onnx")
    split = {"type": "OnnxSplitDeconvs", "target": "generic", "lowering": "split", "in_shapes": {"x": [1, 4, 5, 6]}}
    config = {
        "input_model": {"type": "ONNXModel", "model_path": str(tmp_path / "m.onnx")},
        "passes": {"split": split},
        "output_dir": str(tmp_path / "out"),
        "cache_dir": str(tmp_path / "cache"),
    }
    olive.run(config, package_config=package_config())
    (found,) = (tmp_path / "out").glob("**/*.onnx")
    assert "ConvTranspose" not in op_types(onnx.load(found))


def test_the_next_pass_reads_the_result_and_not_a_file_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Olive looks for the name of a file in a folder in its working folder first."""
    monkeypatch.setenv("OLIVE_DISABLE_TELEMETRY", "1")
    monkeypatch.chdir(tmp_path)
    onnx.save(deconv_model((1, 4, 5, 6), strides=[2, 2]), "model.onnx")
    config = {
        "input_model": {"type": "ONNXModel", "model_path": "model.onnx"},
        "passes": {
            "split": {"type": "OnnxSplitDeconvs", "target": "generic", "lowering": "split"},
            "simplify": {"type": "OnnxPeepholeOptimizer"},
        },
        "output_dir": "out",
        "cache_dir": "cache",
    }
    olive.run(config, package_config=package_config())
    (found,) = Path("out").glob("**/*.onnx")
    assert "ConvTranspose" not in op_types(onnx.load(found))


def test_weights_in_a_file_of_their_own_go_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So Olive writes models above 2 GB, and others if it is told to; each pass reads what the one before wrote."""
    monkeypatch.setenv("OLIVE_DISABLE_TELEMETRY", "1")
    monkeypatch.chdir(tmp_path)
    kernel = np.random.default_rng(0).standard_normal((64, 32, 4, 4)).astype(np.float32)
    onnx.save(deconv_model((1, 64, 5, 6), kernel, strides=[2, 2]), "model.onnx")
    outside = {"save_as_external_data": True, "external_data_name": "model.onnx.data", "size_threshold": 0}
    config = {
        "input_model": {"type": "ONNXModel", "model_path": "model.onnx"},
        "passes": {
            "before": {"type": "OnnxPeepholeOptimizer", **outside},
            "split": {"type": "OnnxSplitDeconvs", "target": "generic", "lowering": "split"},
            "behind": {"type": "OnnxPeepholeOptimizer", **outside},
        },
        "output_dir": "out",
        "cache_dir": "cache",
    }
    olive.run(config, package_config=package_config())
    made = [*Path("cache").glob("**/models/*.onnx"), *Path("out").glob("**/*.onnx")]
    assert len(made) == 4
    for path in made:
        kept = onnx.load(path, load_external_data=False).graph.initializer
        assert any(each.data_location == onnx.TensorProto.EXTERNAL for each in kept), path
    assert op_types(onnx.load(made[-1])) == ["Conv", "DepthToSpace"]
