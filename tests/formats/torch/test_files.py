"""Files of exported programs: the command line, and files that are refused without running what they hold."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch import nn  # noqa: E402

from splitdeconv.cli import main  # noqa: E402
from splitdeconv.deconv.layers import read_layers  # noqa: E402
from splitdeconv.errors import InputError  # noqa: E402
from splitdeconv.formats import load, model_class  # noqa: E402
from splitdeconv.pipeline.bench import bench_layers  # noqa: E402
from splitdeconv.pipeline.request import BenchRequest  # noqa: E402
from splitdeconv.torch_modules import archive  # noqa: E402
from splitdeconv.torch_modules.evaluated import first_code  # noqa: E402

COMPILED = pytest.param("torch:compiled", marks=pytest.mark.long)  # compiling takes its time


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt2"
    module = nn.Sequential(nn.ConvTranspose1d(4, 6, 4, 2, 1), nn.ReLU(), nn.ConvTranspose1d(6, 2, 3, 2, 1))
    torch.export.save(torch.export.export(module.eval(), (torch.randn(1, 4, 6),)), path)
    return path


class Payload:
    """What a hostile pickle does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def changed(path: Path, name: str, content: bytes | None, new_name: str = "") -> Path:
    """A copy of the archive in which one entry has other content, or another name."""
    other = path.with_name("changed.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for entry in old.namelist():
            inner = entry.partition("/")[2]
            same = inner != name or content is None
            new.writestr(entry, old.read(entry) if same else content)
        if new_name:
            new.writestr(f"{entry.partition('/')[0]}/{new_name}", content or b"")
    return other


def test_the_content_tells_the_format(model: Path) -> None:
    other = model.with_suffix(".bin")
    model.rename(other)
    assert load(other).format == "torch"


def test_a_file_is_converted_by_rule(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.pt2")
    assert main(["convert", str(model), str(out), "--target", "generic"]) == 0
    printed = capsys.readouterr().out
    assert "verified: 2 of 2 sites bit-equal to the definition on torch:cpu" in printed
    assert "verified: 1 output" in printed
    assert not load(out).find().sites


@pytest.mark.parametrize("name", ["torch", "torch:channels_last:bfloat16", COMPILED])
def test_a_file_is_converted_by_measuring(name: str, model: Path) -> None:
    out, report = model.with_name("out.pt2"), model.with_name("report.json")
    command = ["convert", str(model), str(out), "--target", name, "--budget", "2", "--no-cache", "--json", str(report)]
    assert main([*command, "--lowering", "split_phases:transpose"]) == 0
    record = json.loads(report.read_text())
    options = [option for choice in record["plan"]["choices"] for option in choice["options"]]
    assert any(option["time"] for option in options)
    assert record["environments"][0]["target"].startswith("torch:cpu")
    program = torch.export.load(out)
    assert program.module()(torch.randn(1, 4, 6)).shape == (1, 2, 23)


def test_inspect_and_bench_read_the_file(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--target", "torch"]) == 0
    printed = capsys.readouterr().out
    assert "0:conv_transpose1d" in printed
    assert "runs it" in printed
    assert main(["bench", str(model), "--target", "torch", "--budget", "2", "--only", "2:*"]) == 0
    printed = capsys.readouterr().out
    assert "2:conv_transpose1d_1" in printed
    assert "whole model: native" in printed


def test_a_list_of_layers_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layers = tmp_path / "layers.json"
    layer = {"in_channels": 4, "out_channels": 4, "kernel": 4, "stride": 2, "in_size": [6], "pad_begin": 1}
    even, uneven = {**layer, "name": "even", "pad_end": 1}, {**layer, "name": "uneven", "pad_end": 2}
    layers.write_text(json.dumps([even, uneven]))
    assert main(["bench", "--layers", str(layers), "--target", "torch", "--budget", "0.5"]) == 0
    assert "of 2, worst" in capsys.readouterr().out
    (timed,) = bench_layers(layers, BenchRequest("torch", only=("even",), threads=1, budget=0.1, forms=100)).layers
    assert {"native@NHWC-NCHW", "split:crop:transpose@NHWC"} <= {str(each.candidate) for each in timed.options}


@pytest.mark.parametrize(
    "layer",
    [
        {"upsample": [2, 3], "kernel": [3, 5], "in_size": [5, 4], "pads": "same"},
        {"upsample": 2, "kernel": 3, "in_size": [6], "pad_begin": 0, "pad_end": 2},
        {"insert_zeros": 2, "kernel": 4, "groups": 4, "in_size": [5, 4], "pad_begin": 2, "pad_end": 1},
        {"insert_zeros": [1, 2, 3], "kernel": 3, "in_size": [3, 4, 3], "pads": "same"},
    ],
)
def test_a_layer_that_is_written_out_is_timed_as_it_is_written(layer: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps([{"name": "up", "kind": "conv", "in_channels": 4, "out_channels": 4, **layer}]))
    (wanted,) = read_layers(path).deconvs
    (site,) = model_class("torch").layer(wanted.deconv, ()).find().sites
    assert replace(site.deconv, separable=wanted.deconv.separable) == wanted.deconv


def test_zeros_of_a_layer_are_written_as_stylegan2_has_upfirdn2d(tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    zeros = {"kind": "conv", "in_channels": 4, "out_channels": 4, "groups": 4, "in_size": [5, 4], "kernel": 4}
    path.write_text(json.dumps([{**zeros, "name": "up", "insert_zeros": 2, "pad_begin": 2, "pad_end": 2}]))
    (wanted,) = read_layers(path).deconvs
    made = model_class("torch").layer(wanted.deconv, ())
    calls = [node.target.__name__ for node in made.program.graph.nodes if node.op == "call_function"]
    assert [name.partition(".")[0] for name in calls] == ["reshape", "pad", "reshape", "pad", "conv2d"]


def test_another_format_s_name_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(model), str(model.with_name("out.onnx")), "--target", "generic"]) == 2
    assert "wanted a name that ends in .pt2" in capsys.readouterr().err
    assert main(["convert", str(model), str(model.with_name("out.pt2")), "--target", "onnxruntime"]) == 2
    assert "takes onnx models, this one is torch" in capsys.readouterr().err


def test_a_damaged_file_is_one_line(model: Path) -> None:
    content = model.read_bytes()
    model.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"model\.pt2: is no archive that can be read"):
        archive.load(model)
    with zipfile.ZipFile(model, "w") as file:
        file.writestr("model/data.pkl", b"")
    with pytest.raises(InputError, match=r"holds no exported program of torch 2\.9 or later"):
        archive.load(model)


def test_pickles_are_refused_and_not_run(model: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hostile = pickle.dumps(Payload(ran))
    config = "data/weights/model_weights_config.json"
    with zipfile.ZipFile(model) as file:
        listed = json.loads(file.read(f"model/{config}"))
    entry = listed["config"]["0.weight"]
    entry["use_pickle"] = True
    other = changed(model, config, json.dumps(listed).encode())
    with pytest.raises(InputError, match=r"holds '0\.weight' as a pickle, and loading it runs code"):
        archive.load(other)
    other = changed(model, "-", hostile, "data/weights/model.pt")
    with pytest.raises(InputError, match="holds pickled weights"):
        archive.load(other)
    other = changed(model, "-", b"", "data/aotinductor/model/code.so")
    with pytest.raises(InputError, match="machine code"):
        archive.load(other)
    other = changed(model, "data/sample_inputs/model.pt", hostile)
    with pytest.raises(InputError, match="cannot load it"):
        archive.load(other)
    assert not ran.exists()
    pickle.loads(hostile)
    assert ran.exists()


def test_names_that_hold_code_are_refused_and_not_run(model: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    hostile = f"input=__import__('pathlib').Path({str(ran)!r}).touch()"
    content = archive_entry(model, "models/model.json").replace(b'"input"', json.dumps(hostile).encode())
    with pytest.raises(InputError, match=r"holds 'input=__import__.* where PyTorch evaluates sizes and names"):
        archive.load(changed(model, "models/model.json", content))
    assert not ran.exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("root", ["", "other/"])
def test_entries_of_one_name_are_refused(root: str, model: Path) -> None:
    """One might be looked at, and the other loaded."""
    with zipfile.ZipFile(model) as file:
        entry = next(name for name in file.namelist() if "/models/" in name)
        content = file.read(entry)
    name = root + entry.partition("/")[2] if root else entry
    with zipfile.ZipFile(model, "a") as file:
        file.writestr(name, content)
    with pytest.raises(InputError, match="two entries of one name"):
        archive.load(model)


def test_guards_of_a_file_are_not_run(model: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = json.loads(archive_entry(model, "models/model.json"))
    program["guards_code"] = [f"__import__('pathlib').Path({str(ran)!r}).touch() is None"]
    other = changed(model, "models/model.json", json.dumps(program).encode())
    assert main(["convert", str(other), str(tmp_path / "out.pt2"), "--target", "generic"]) == 0
    assert not ran.exists()


def archive_entry(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as file:
        return file.read(next(entry for entry in file.namelist() if entry.partition("/")[2] == name))


@pytest.mark.parametrize(
    "size",
    [
        "__import__('os').getcwd()",
        "Symbol('s0').func.__init__.__globals__",
        "(lambda: 1)()",
        "[print(1) for _ in (1,)]",
        "sympify('print(1)')",
        "Symbol(print(1))",
        "Add('print(1)', 1)",
        "f'{print(1)}'",
        "(" * 10_000,
    ],
)
def test_sizes_are_arithmetic_of_symbols(size: str) -> None:
    assert first_code({"value": {"expr_str": size}}) is not None


def test_sizes_as_torch_writes_them_are_read() -> None:
    sizes = ["s0", "2*s77 + 2", "Mul(Integer(6), Symbol('s53', positive=True, integer=True))", "FloorDiv(s0, -2)"]
    assert first_code([{"expr_str": size} for size in sizes]) is None
