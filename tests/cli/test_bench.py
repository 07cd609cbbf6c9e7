"""``splitdeconv bench`` as a user runs it, on small layers and with little time; no figure is asserted."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import splitdeconv
from splitdeconv.cli import main
from splitdeconv.errors import UsageError
from splitdeconv.results.bench import NATIVE, ZERO_INSERT
from tests.models import deconv_model

LAYERS = [
    {"name": "plane", "in_channels": 4, "out_channels": 3, "kernel": 4, "stride": 2, "in_size": [5, 6], "pad_begin": 1},
    {"name": "line", "in_channels": 2, "out_channels": 2, "kernel": 5, "stride": 3, "in_size": [9], "groups": 2},
]


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    entries = [{**entry, "epilogue": ["Relu"]} for entry in LAYERS]
    path = tmp_path / "layers.json"
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_list_of_layers_is_timed_in_every_form(
    target: str, layers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot, record = tmp_path / "ratios.svg", tmp_path / "run.json"
    given = ["--layers", str(layers), "--target", target, "--budget", "0.5", "--every"]
    assert main(["bench", *given, "--plot", str(plot), "--json", str(record)]) == 0
    shown = capsys.readouterr().out
    assert "native / best lowering: geometric mean" in shown
    assert "converted / equal-work convolution" in shown
    assert "<svg" in plot.read_text()
    (run,) = json.loads(record.read_text())["runs"]
    assert [layer["name"] for layer in run["layers"]] == ["plane", "line"]
    for layer in run["layers"]:
        assert layer["equal_work"]["rounds"] >= 5
        assert all(option["time"]["rounds"] >= 5 for option in layer["options"])
        assert {"native", "zero_insert"} <= {option["candidate"] for option in layer["options"]}


def test_quantised_layers_have_a_limit_too(layers: Path) -> None:
    record = splitdeconv.bench(layers=layers, only=["plane"], dtype="int8", budget=0.5)
    (layer,) = record.layers
    assert layer.deconv.quant is not None
    assert layer.equal_work is not None
    assert layer.time(ZERO_INSERT) is not None
    with pytest.raises(UsageError, match="wanted one of float32, float16, int8"):
        splitdeconv.bench(layers=layers, dtype="int4")


def test_without_time_the_forms_of_the_paper_are_timed_and_the_rest_is_said_to_be_missing(layers: Path) -> None:
    record = splitdeconv.bench(layers=layers, only=["plane"], target="onnxruntime", budget=1e-3)
    (layer,) = record.layers
    timed = {str(option.candidate) for option in layer.options}
    assert timed >= {"native", "zero_insert", "split:full:depth_to_space"}
    assert len(timed) <= 4  # two are compiled before the clock is asked
    (note,) = [note for note in record.notes if "too short" in note]
    assert note.startswith("not timed, because 0.001 s were too short: ")
    assert note.endswith(" forms; --budget gives more")


def test_a_model_is_also_timed_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(deconv_model((1, 4, "h", "w"), strides=[2, 2], pads=[1, 1, 1, 1], then=("Relu",)), path)
    record = splitdeconv.bench(path, in_shapes={"x": (1, 4, 5, 6)}, budget=0.5, target="onnxruntime")
    assert record.model is not None
    assert set(record.model.times) == {"native", "zero_insert", "split", "converted", "bound"}
    assert record.layers[0].deconv.in_sizes == (5, 6)
    assert not any("assumed sizes" in note for note in record.notes)


def test_without_a_target_it_is_the_runtime_of_the_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(deconv_model((1, 4, 5, 6), strides=[2, 2]), path)
    assert main(["bench", str(path), "--budget", "0.3"]) == 0
    assert capsys.readouterr().out.startswith(f"{path} on onnxruntime (")


def test_only_takes_patterns_and_says_what_there_is(layers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--layers", str(layers), "--only", "none*"]) == 2
    assert "there are plane, line" in capsys.readouterr().err


def test_a_plot_of_an_unknown_kind_is_refused_before_measuring(
    layers: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--layers", str(layers), "--plot", "ratios.gif"]) == 2
    assert "wanted a plot file that ends in .svg" in capsys.readouterr().err


def test_a_model_or_a_list_is_wanted(layers: Path) -> None:
    with pytest.raises(UsageError, match="give one of them"):
        splitdeconv.bench()
    with pytest.raises(UsageError, match="give one of them"):
        splitdeconv.bench("model.onnx", layers=layers)


def test_epilogues_with_parameters_are_written(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps([{**LAYERS[0], "epilogue": ["BatchNormalization", "Mul", "PRelu", "Clip", "Mish"]}]))
    (layer,) = splitdeconv.bench(layers=path, budget=0.1).layers
    assert layer.time(NATIVE) is not None
    assert layer.equal_work is not None


def test_an_unknown_epilogue_is_named(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps([{**LAYERS[0], "epilogue": ["Sort"]}]))
    with pytest.raises(UsageError, match="epilogue 'Sort' is not known; there are Abs, Add, BatchNormalization"):
        splitdeconv.bench(layers=path)
