"""``splitdeconv`` on TFLite files."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ai_edge_litert")

from splitdeconv.cli import main
from splitdeconv.errors import CompileError
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.proof import prove
from tests.tflite_models import Case, build

KERAS = Case(kind="int8_per_channel", in_sizes=(6, 7), bias=False, after=("ADD", "RELU*"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(build(KERAS))
    return path


def test_an_int8_model_is_converted_and_proved(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.tflite")
    assert main(["convert", str(model), str(out), "--target", "generic"]) == 0
    printed = capsys.readouterr().out
    assert "verified: 1 of 1 sites bit-equal" in printed
    assert "verified: 1 output" in printed
    assert not TfliteModel.load(out).find().sites


def test_fused_numerics_are_reported(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = model.with_name("out.tflite")
    assert main(["convert", str(model), str(out), "--target", "generic", "--numerics", "fused"]) == 0
    printed = capsys.readouterr().out
    assert "fused numerics change" in printed
    assert "root mean square error against float64" in printed
    kept = TfliteModel.load(out).root.subgraphs[0].operators
    assert len(kept) < 3 + len(TfliteModel.load(model).root.subgraphs[0].operators)


def test_a_runtime_that_stops_at_fused_numerics_is_one_line(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise CompileError("out of memory")

    monkeypatch.setattr(prove, "check_fused", stop)
    out = model.with_name("out.tflite")
    assert main(["convert", str(model), str(out), "--target", "generic", "--numerics", "fused"]) == 1
    assert "fused numerics cannot be compared with the original on litert" in capsys.readouterr().err
    assert not out.exists()


def test_an_unknown_kind_of_numerics_is_refused(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(model), str(model.with_name("out.tflite")), "--numerics", "fast"]) == 2
    assert "--numerics fast: tflite models know exact, fused" in capsys.readouterr().err


def test_a_truncated_file_is_one_line_and_exit_code_2(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_bytes(build(KERAS)[:300])
    out = model.with_name("out.tflite")
    assert main(["convert", str(model), str(out), "--target", "generic"]) == 2
    error = capsys.readouterr().err.strip()
    assert "leads out of the file" in error
    assert error.count("\n") == 0
    assert not out.exists()


def test_inspect_says_what_an_npu_makes_of_it(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model)]) == 0
    assert "3→5 3×4/2" in capsys.readouterr().out


def test_inspect_shows_a_site_that_only_native_applies_to(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.write_bytes(build(Case("int8", kernel=(2, 2), stride=(3, 3))))
    assert main(["inspect", str(model)]) == 0
    assert "native" in capsys.readouterr().out
