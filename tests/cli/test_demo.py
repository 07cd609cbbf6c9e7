"""``splitdeconv demo`` works with what its extra brings, and says what is missing before it writes anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from splitdeconv.cli import main
from splitdeconv.lab import zoo
from splitdeconv.pipeline import open as opening


def test_the_demo_converts_and_draws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("PIL")
    monkeypatch.setitem(sys.modules, "torch", None)  # not needed
    monkeypatch.setattr(opening, "DEFAULT_SECONDS", 1.0)
    assert main(["demo", str(tmp_path / "demo"), "--json", str(tmp_path / "also.json")]) == 0
    names = {path.name for path in (tmp_path / "demo").iterdir()}
    assert names == {"faces.onnx", "faces_split.onnx", "record.json", "before.png", "after.png"}
    assert json.loads((tmp_path / "demo" / "record.json").read_text())["command"] == "convert"
    assert (tmp_path / "also.json").read_text() == (tmp_path / "demo" / "record.json").read_text()
    assert "largest difference of a pixel" in capsys.readouterr().out


def test_a_missing_package_is_said_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert main(["demo", str(tmp_path / "demo")]) == 2
    assert "splitdeconv[demo]" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_the_trained_generator_is_exported_without_a_framework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["zoo", "export", "faces", str(tmp_path / "faces.onnx")]) == 0
    assert (tmp_path / "faces.onnx").read_bytes() == zoo.trained().read_bytes()
