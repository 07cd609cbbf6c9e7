"""The text of a result in Python is what its command prints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import splitdeconv
from splitdeconv import codec
from splitdeconv.cli import main
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline import bench
from splitdeconv.pipeline.in_model import Settled
from splitdeconv.results.plan import Plan
from tests.models import deconv_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    onnx.save(deconv_model((1, 4, 5, 6), strides=[2, 2], pads=[1, 1, 1, 1], then=("Relu",)), path)
    return path


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_an_inspection_reads_as_on_the_terminal(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = splitdeconv.inspect(model)
    assert main(["inspect", str(model)]) == 0
    assert str(found).splitlines() == printed(capsys)
    assert splitdeconv.from_json(codec.run_to_json(found.record)) == found.record


def test_a_restoration_reads_as_on_the_terminal(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, back = tmp_path / "out.onnx", tmp_path / "back.onnx"
    splitdeconv.convert(model, out, target="generic")
    result = splitdeconv.restore(out, back)
    assert main(["restore", str(out), str(back)]) == 0
    assert str(result).splitlines() == printed(capsys)
    assert str(splitdeconv.from_json(codec.run_to_json(result.record))) == str(result)


def test_a_conversion_reads_as_on_the_terminal(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.onnx"
    result = splitdeconv.convert(model, out, target="generic")
    assert main(["convert", str(model), str(out), "--target", "generic"]) == 0
    assert result.record.converted == ("up",)
    assert str(result).splitlines() == printed(capsys)
    assert result.summary() == str(result) == str(result.record)
    assert "up    4→3 4×4/2 @5×6" in result._repr_html_()
    assert splitdeconv.from_json(codec.run_to_json(result.record)) == result.record


def test_a_report_is_written(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    converted = splitdeconv.convert(model, target="generic")
    pages = {
        "1 deconv that can be rewritten": splitdeconv.inspect(model),
        "1 deconv rewritten": converted,
        "1 deconv restored": splitdeconv.restore(converted.model),
    }
    for title, result in pages.items():
        result.report(tmp_path / "report.html")
        assert title in (tmp_path / "report.html").read_text()


def test_a_benchmark_of_a_plan_that_is_taken_back_has_the_original_as_converted(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_back(_model: object, _original: object, plan: Plan, *_: object) -> Settled:
        choices = tuple(replace(choice, chosen=NATIVE) for choice in plan.choices)
        return Settled(replace(plan, choices=choices), notes=("no gain",))

    monkeypatch.setattr(bench, "settle", taken_back)
    found = splitdeconv.bench(model, budget=0.3, target="onnxruntime")
    assert found.model is not None
    assert found.model.times["converted"] == found.model.times["native"]
    assert found.model.ratio("native", "converted") == 1.0
    assert "no gain" in found.notes


def test_a_benchmark_is_its_record_and_reads_as_on_the_terminal(model: Path) -> None:
    found = splitdeconv.bench(model, budget=0.3, target="onnxruntime")
    assert str(found).splitlines()[0].startswith(f"{model} on onnxruntime (")
    assert splitdeconv.from_json(codec.bench_to_json([found]))[0].layers == found.layers  # type: ignore[index]
