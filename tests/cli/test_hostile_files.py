"""Files that are no models, damaged or absurd: one line each, never a traceback, nothing written."""

from __future__ import annotations

import json
import re
import sqlite3
import struct
from pathlib import Path

import numpy as np
import onnx
import pytest

from splitdeconv.cli import main
from splitdeconv.measuring.cache import TimingCache
from splitdeconv.results.schema import SCHEMA_VERSION
from tests.models import deconv_model

DEEP = 100_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(deconv_model(), "m.onnx")
    Path("deep.json").write_text('{"schema": 1, "command": "convert", "sites": ' + "[" * DEEP)
    Path("deep.toml").write_text("a = " + "[" * DEEP + "]" * DEEP)
    return tmp_path


def refused(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that refuses its input."""
    before = sorted(Path().iterdir())
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert len(line) < 400
    assert sorted(Path().iterdir()) == before
    return line


@pytest.mark.parametrize(
    "command",
    [
        "convert m.onnx o.onnx --plan deep.json",
        "bench --layers deep.json",
        "bench --layers deep.toml",
        "simulate deep.json",
        "simulate deep.toml",
        "simulate dcgan --arch deep.toml",
        "simulate dcgan --energy deep.toml",
        "report deep.json r.html",
        "inspect deep.json",
    ],
)
def test_nesting_without_end(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "deep." in refused(command, capsys)


def npy(header: str, content: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00v\x00" + b"(" * 500,
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9999999999, 99999999)}\n"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 5000 + ")" * 5000 + "}\n"),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", b"cos\nsystem\n"),
        npy("{'descr': 'what', 'fortran_order': False, 'shape': (1,)}\n"),
        b"PK\x03\x04what",
    ],
)
@pytest.mark.parametrize("option", ["x=a.npy", "a.npz"])
def test_arrays_that_are_none(option: str, content: bytes, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path(option.removeprefix("x=")).write_bytes(content)
    assert "cannot be read" in refused(f"convert m.onnx o.onnx --target generic --input {option}", capsys)


@pytest.mark.parametrize("option", ["x=a.npy", "a.npz"])
def test_an_array_of_a_negative_size(option: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Numpy 1 reads it as an empty one."""
    Path(option.removeprefix("x=")).write_bytes(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}\n"))
    line = refused(f"convert m.onnx o.onnx --target generic --input {option}", capsys)
    assert re.search(r"cannot be read|the model wants \(|one array without a name", line)


def test_an_archive_that_is_an_array(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("a.npy", np.zeros((1, 4, 5, 6), np.float32))
    Path("a.npy").rename("a.npz")
    line = refused("convert m.onnx o.onnx --target generic --input a.npz", capsys)
    assert "a.npz: holds one array without a name; wanted --input NAME=a.npz" in line


@pytest.mark.parametrize("threads", ["99999999999", "1025", "-1"])
def test_absurd_numbers_of_threads(threads: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(f"convert m.onnx o.onnx --target onnxruntime --threads {threads}", capsys)
    assert f"--threads {threads}: wanted 1 to 1024" in line


@pytest.mark.parametrize("form", ["native@NHWC", "split@x", "col2im:what", "fft", "", ":", "@"])
def test_a_plan_with_forms_that_the_target_does_not_have(
    form: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = {"schema": SCHEMA_VERSION, "target": "torch", "sites": {"up": form}}
    Path("p.json").write_text(json.dumps(plan))
    assert f"--plan up={form}: " in refused("convert m.onnx o.onnx --target generic --plan p.json", capsys)


MEASURED = {"median_ms": 1.0, "low_ms": 1.0, "high_ms": 1.0, "rounds": 5, "kind": "measured", "rounds_ms": [1.0]}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * DEEP,
        '{"times": []}',
        '{"outcomes": {"a": 1}, "seconds": 60}',
        *(
            json.dumps({"outcomes": {"native": {**MEASURED, **change}}, "seconds": 60.0})
            for change in (
                {"median_ms": "fast"},
                {"median_ms": -1},
                {"median_ms": 1e999},
                {"rounds": "many"},
                {"rounds": -5},
                {"kind": "guessed"},
                {"rounds_ms": 3},
                {"rounds_ms": ["a"]},
            )
        ),
    ],
)
def test_absurd_rows_in_the_cache_are_not_there(content: str, tmp_path: Path) -> None:
    path = tmp_path / "timings.sqlite3"
    cache = TimingCache(path)
    assert cache.find("key") is None
    for seconds in (60.0, "long"):
        with sqlite3.connect(path) as database:
            row = ("key", seconds, content)
            database.execute("INSERT OR REPLACE INTO timings (key, seconds, content) VALUES (?, ?, ?)", row)
        assert cache.find("key") is None
    assert cache.notes == ()


def test_a_sound_row_in_the_cache_is_there(tmp_path: Path) -> None:
    path = tmp_path / "timings.sqlite3"
    cache = TimingCache(path)
    assert cache.find("key") is None
    with sqlite3.connect(path) as database:
        row = ("key", 60.0, json.dumps({"outcomes": {"native": MEASURED}, "seconds": 60.0}))
        database.execute("INSERT INTO timings (key, seconds, content) VALUES (?, ?, ?)", row)
    assert cache.find("key") is not None


def test_arrays_by_name_in_one_file(folder: Path) -> None:
    np.savez("a.npz", x=np.ones((1, 4, 5, 6), np.float32))
    assert main(["convert", "m.onnx", "o.onnx", "--target", "generic", "--input", "a.npz"]) == 0


def test_an_archive_under_one_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("a.npz", x=np.ones((1, 4, 5, 6), np.float32))
    line = refused("convert m.onnx o.onnx --target generic --input x=a.npz", capsys)
    assert "holds several arrays" in line
    assert "--input a.npz" in line
