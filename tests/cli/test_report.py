"""``--report`` and ``splitdeconv report`` as a user runs them, on small models."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from splitdeconv.cli import main
from tests.broken_runtime import break_runtime
from tests.models import deconv_model
from tests.pages import parsed, words

NOT_WRITTEN = ("cannot be written", "is a directory; wanted the name of a file")  # exit code 3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    onnx.save(deconv_model(strides=[2, 2], pads=[1, 1, 1, 1], then=("Relu",)), path)
    return path


def read(path: Path) -> str:
    return words(parsed(path.read_text(encoding="utf-8")))


def test_a_measured_conversion_has_a_report_with_its_command(model: Path, tmp_path: Path) -> None:
    report, record = tmp_path / "r.html", tmp_path / "run.json"
    given = ["convert", str(model), str(tmp_path / "out.onnx"), "--target", "onnxruntime", "--budget", "0.5"]
    given += ["--no-cache", "--report", str(report), "--json", str(record)]
    assert main(given) == 0
    text = read(report)
    assert f"splitdeconv {' '.join(given)}" in text
    assert "onnxruntime" in text
    assert "measured" in text
    run = json.loads(record.read_text())
    assert run["provenance"]["arguments"] == given
    assert set(run["provenance"]["versions"]) == {"splitdeconv", "python", "numpy"}
    assert [each["site"] for each in run["work"]] == ["up"]
    again = tmp_path / "again.html"
    assert main(["report", str(record), str(again)]) == 0
    assert again.read_text() == report.read_text()


def test_open_sizes_are_counted_as_they_were_measured(tmp_path: Path) -> None:
    onnx.save(deconv_model(("N", 4, None, None), strides=[2, 2]), tmp_path / "in.onnx")
    given = ["convert", str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--json", str(tmp_path / "run.json")]
    assert main([*given, "--target", "onnxruntime", "--budget", "0.3", "--input-shape", "x=1,4,20,30"]) == 0
    (work,) = json.loads((tmp_path / "run.json").read_text())["work"]
    assert work["native"] == 20 * 30 * 4 * 3 * 4 * 4
    assert work["zero_insert"] == 4 * work["native"]
    assert [axis["in_size"] for axis in work["deconv"]["axes"]] == [20, 30]


def test_a_failed_conversion_has_a_report_that_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from splitdeconv.formats.onnx import emit  # noqa: PLC0415  # broken on purpose for this test alone

    whole = emit.conv_filter
    monkeypatch.setattr(emit, "conv_filter", lambda kernel, conv: np.ascontiguousarray(whole(kernel, conv)[::-1]))
    kept = ["--report", str(tmp_path / "r.html"), "--json", str(tmp_path / "run.json")]
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), "--target", "generic", *kept]) == 1
    text = read(tmp_path / "r.html")
    assert "conversion failed, nothing was written" in text
    assert "site 'up' is not bit-equal to the definition" in text
    record = json.loads((tmp_path / "run.json").read_text())
    assert not record["verdict"]["passed"]
    assert record["output"] == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.onnx", "r.html", "run.json"]


def test_a_model_that_does_not_run_has_a_report_too(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_runtime(monkeypatch, "out.onnx")
    given = ["convert", str(model), str(tmp_path / "out.onnx"), "--target", "generic"]
    assert main([*given, "--report", str(tmp_path / "r.html")]) == 1
    assert "takes the original but not the rewritten model (no kernel)" in read(tmp_path / "r.html")


def test_a_benchmark_has_a_report(tmp_path: Path) -> None:
    layer = {"name": "plane", "in_channels": 4, "out_channels": 3, "kernel": 4, "stride": 2, "in_size": [5, 6]}
    (tmp_path / "layers.json").write_text(json.dumps([layer]))
    report, record = tmp_path / "r.html", tmp_path / "run.json"
    given = ["bench", "--layers", str(tmp_path / "layers.json"), "--budget", "0.3"]
    assert main([*given, "--report", str(report), "--json", str(record)]) == 0
    text = read(report)
    assert "plane" in text
    assert "convolution of equal work" in text
    assert "col2im" in text
    assert main(["report", str(record), str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text() == report.read_text()


@pytest.mark.parametrize("command", ["convert", "bench"])
def test_a_missing_package_is_said_before_anything_is_done(
    command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    files = [str(model), str(tmp_path / "out.onnx")] if command == "convert" else [str(model)]
    assert main([command, *files, "--report", str(tmp_path / "r.html")]) == 2
    assert capsys.readouterr().err == "splitdeconv: a report needs jinja2: pip install 'splitdeconv[report]'\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["report", "{in}", "{dir}/r.html"], "cannot be read"),
        (["report", "{dir}/absent.json", "{dir}/r.html"], "cannot be read (No such file or directory)"),
        (["convert", "{in}", "{dir}/out.onnx", "--report", "{dir}/none/r.html"], "cannot be written"),
        (["convert", "{in}", "{dir}/out.onnx", "--report", "{dir}/out.onnx"], "is also the name of OUT"),
        (["convert", "{in}", "{dir}/out.onnx", "--report", "{in}"], "is also the name of the model"),
    ],
)
def test_bad_usage_is_one_clear_line(
    arguments: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = model.read_bytes()
    filled = [each.replace("{in}", str(model)).replace("{dir}", str(tmp_path)) for each in arguments]
    assert main(filled) == (3 if any(found in message for found in NOT_WRITTEN) else 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert model.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_skipped_deconvs_are_on_the_page(tmp_path: Path) -> None:
    contradictory = deconv_model(strides=[2, 2], auto_pad="SAME_UPPER", output_padding=[0, 1])
    onnx.save(contradictory, tmp_path / "in.onnx")
    given = ["convert", str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--target", "generic"]
    assert main([*given, "--report", str(tmp_path / "r.html")]) == 0
    assert "not rewritten" in read(tmp_path / "r.html")
