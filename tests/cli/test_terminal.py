"""What reaches the terminal, whatever stream it is and whatever the names hold."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from rich.console import Console

from splitdeconv.cli import main
from splitdeconv.cli.terminal import Output, ascii_json
from splitdeconv.errors import InputError
from splitdeconv.report.listing import Listing, say, show
from tests.models import deconv_model

SHELL = ["bash", "-o", "pipefail", "-c"]
ME = f"{sys.executable} -m splitdeconv"
FULL = "splitdeconv: the standard output cannot be written (No space left on device)"


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*SHELL, line], cwd=folder, env={**os.environ, **environment}, capture_output=True, check=False, timeout=120
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    onnx.save(deconv_model(), tmp_path / "m.onnx")
    return tmp_path


def printed(arguments: list[str], encoding: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What a command writes to a standard output of this encoding."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(arguments) == 0
    return stream.buffer.getvalue()


def test_what_the_encoding_does_not_know_is_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    found = printed(["targets"], "ascii", monkeypatch)
    assert b"an output per tap" in found
    assert b"\\xd7" in found


NAME = "größe µ→😀.onnx"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_in_every_encoding(encoding: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "m.onnx").rename(folder / NAME)
    monkeypatch.chdir(folder)
    found = printed(["inspect", NAME, "--json", "-"], encoding, monkeypatch)
    assert json.loads(found.decode(encoding))["model"] == NAME


def test_the_environment_says_the_encoding(tmp_path: Path) -> None:
    layer = {"name": NAME, "in_channels": 1, "out_channels": 1, "kernel": 2, "stride": 2, "in_size": [2]}
    (tmp_path / "layers.json").write_text(json.dumps([layer]))
    done = shell(f"{ME} simulate *.json --layers --json -", tmp_path, PYTHONIOENCODING="cp1252", LC_ALL="C.UTF-8")
    assert NAME in json.dumps(json.loads(done.stdout.decode("cp1252")), ensure_ascii=False)


@pytest.mark.parametrize("char", ["µ", "→", "😀", "\udcff"])
def test_a_character_survives_ascii(char: str) -> None:
    assert json.loads(f'"{ascii_json(char)}"') == char


def test_a_reader_that_goes_away_is_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["convert", "m.onnx", "o.onnx", "--target", "generic", "--json", "r.json"]) == 0
    assert capfd.readouterr().err == ""
    assert (folder / "o.onnx").exists()
    assert (folder / "r.json").exists()


def test_a_closed_output_is_no_error_unless_something_was_to_go_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = shell(f"{ME} simulate dcgan --json - >&-", folder)
    assert done.returncode == 3
    assert b"the standard output cannot be written (it is closed)" in done.stderr
    monkeypatch.setattr(sys, "stdout", None)  # as Python finds it then
    assert main(["inspect", str(folder / "m.onnx")]) == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("command", ["inspect m.onnx", "inspect m.onnx --json -", "--help"])
def test_a_full_output_is_one_line_and_exit_code_3(
    command: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(command.split()) == 3
    assert capfd.readouterr().err == f"{FULL}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_output_has_no_other_line_when_python_ends(folder: Path) -> None:
    done = shell(f"{ME} --help > /dev/full", folder)
    assert (done.returncode, done.stderr.decode()) == (3, f"{FULL}\n")


@pytest.mark.parametrize("columns", ["0", "1", "many"])
def test_widths_that_cannot_be_do_not_matter(
    columns: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"COLUMNS": columns, "FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    for command in (["inspect", str(folder / "m.onnx")], ["--help"]):
        assert main(command) == 0
    assert capfd.readouterr().err == ""


def test_messages_about_names_that_are_not_utf_8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", os.fsdecode(b"nope\xff.json"), "r.html"]) == 2
    said = capfdbinary.readouterr().err
    assert said.startswith(b"splitdeconv: the record nope\\udcff.json: the name is not UTF-8")


def test_control_characters_in_names_do_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = deconv_model()
    model.graph.node[0].name = "a\x1b[2Jb\nc\u202ed"
    onnx.save(model, tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    shown = capsys.readouterr().out
    assert "a\\x1b[2Jb\\nc\\u202ed" in shown
    assert "\x1b" not in shown
    assert str(InputError("a\nb\x1b")) == "a\\nb\\x1b"


def test_lines_and_cells_are_one_line_each() -> None:
    out = Console(file=io.StringIO(), width=80)
    say(out, "a\nb")
    show(out, Listing(("name", "text"), [("x\ry", "1\t2")]))
    assert [line.rstrip() for line in out.file.getvalue().splitlines()] == ["a\\nb", "name  text", "x\\ry  1\\t2"]


def test_a_stream_stays_what_it_was() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    output = Output(stream)
    assert output.write("é→") == 2
    output.flush()
    assert stream.buffer.getvalue() == b"\xe9\\u2192"
    assert output.encoding == "latin-1"
