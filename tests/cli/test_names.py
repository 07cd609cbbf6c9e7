"""The names that a command reads and writes: checked before the work, and the result appears whole or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from splitdeconv import files
from splitdeconv.cli import main
from splitdeconv.errors import OutputError
from splitdeconv.report import page
from tests.models import deconv_model

BY_RULE = ("--target", "generic")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    onnx.save(deconv_model(), tmp_path / "m.onnx")
    onnx.save(deconv_model(), tmp_path / "e.onnx", save_as_external_data=True, location="e.bin", size_threshold=0)
    np.save(tmp_path / "x.npy", np.zeros((1, 4, 5, 6), np.float32))
    (tmp_path / "plan.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.is_symlink()}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("convert m.onnx o.onnx --input x=x.npy --json x.npy", "--json x.npy: is also the name of --input"),
        ("convert m.onnx o.onnx --plan plan.json --save-plan ./plan.json", "is also the name of --plan"),
        ("convert m.onnx link.onnx", "OUT link.onnx: is also the name of the model"),
        ("convert e.onnx o.onnx --json e.bin", "--json e.bin: belongs to the model"),
        ("inspect e.onnx --json e.bin", "--json e.bin: belongs to the model"),
        ("simulate e.onnx --json e.bin", "--json e.bin: belongs to the model"),
        ("convert m.onnx -", "OUT -: only --json can go to the standard output"),
        ("bench --layers plan.json --json plan.json", "is also the name of --layers"),
        ("bench m.onnx --input x=x.npy --plot x.svg --report x.svg", "is also the name of --report"),
        ("sweep dcgan --arch plan.json --out plan.csv --plot plan.json", "wanted a plot file"),
        ("simulate dcgan --arch plan.json --json plan.json", "is also the name of plan.json"),
        ("zoo export faces w.npz --weights w.npz", "OUT w.npz: is also the name of --weights"),
        ("report plan.json plan.json", "OUT plan.json: is also the name of the record"),
        ("inspect pipe", "the model pipe: is a device or a pipe; wanted a file"),
        ("convert m.onnx o.onnx --plan pipe", "--plan pipe: is a device or a pipe"),
        ("inspect /dev/zero", "the model /dev/zero: is a device or a pipe"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
def test_names_that_would_lose_something_are_refused(
    command: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(folder / "pipe")
    (folder / "link.onnx").symlink_to("m.onnx")
    before = contents(folder)
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/dev/null", "is a device or a pipe; wanted the name of a file"),
        ("null.onnx", "is a device or a pipe; wanted the name of a file"),
        ("pipe", "is a device or a pipe; wanted the name of a file"),
        ("sub", "is a directory; wanted the name of a file"),
        ("none/o.onnx", "cannot be written (No such file or directory)"),
        ("m.onnx/o.onnx", "cannot be written (Not a directory)"),
        ("n" * 300, "cannot be written (File name too long)"),
        ("loop.onnx", "cannot be written (Too many levels of symbolic links)"),
        ("/proc/o.onnx", "cannot be written ("),
    ],
)
@pytest.mark.parametrize("option", ["OUT", "--json", "--save-plan", "--report"])
@pytest.mark.skipif(sys.platform != "linux", reason="devices, pipes and sentences of Linux")
def test_places_where_nothing_can_be_written(
    option: str,
    name: str,
    message: str,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import splitdeconv  # noqa: PLC0415  # only to see that no work is done

    monkeypatch.setattr(splitdeconv, "convert", None)
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    (folder / "null.onnx").symlink_to("/dev/null")
    (folder / "loop.onnx").symlink_to("loop.onnx")
    before = contents(folder)
    out = [name] if option == "OUT" else ["o.onnx", option, name]
    assert main(["convert", "m.onnx", *out]) == 3
    assert f"{name}: {message}" in capsys.readouterr().err
    assert contents(folder) == before


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_names_that_are_not_utf_8_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = os.fsdecode(b"m\xff.onnx")
    (folder / "m.onnx").rename(folder / name)
    assert main(["convert", name, "o.onnx"]) == 2
    assert "m\\udcff.onnx: the name is not UTF-8" in capsys.readouterr().err


def test_a_name_of_the_greatest_length_is_written(folder: Path) -> None:
    name = "n" * 250 + ".onnx"
    assert main(["convert", "m.onnx", name, *BY_RULE]) == 0
    assert (folder / name).stat().st_size > 0


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_is_followed(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "link.onnx").symlink_to("sub/real.onnx")
    assert main(["convert", "m.onnx", "link.onnx", *BY_RULE]) == 0
    assert (folder / "link.onnx").is_symlink()
    onnx.checker.check_model(str(folder / "sub" / "real.onnx"))
    assert [path.name for path in (folder / "sub").iterdir()] == ["real.onnx"]


def test_the_result_and_its_side_files_appear_together_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "p.json").write_text("an earlier plan")
    before = contents(folder)
    command = ["convert", "m.onnx", "o.onnx", *BY_RULE, "--json", "r.json", "--save-plan", "p.json"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(page, "html", full)
        assert main([*command, "--report", "r.html"]) == 3
    assert contents(folder) == before
    moved, replace = [], Path.replace

    def fails_at_the_third(self: Path, target: Path) -> Path:
        if ".before" not in self.name:
            moved.append(target.name)
            if len(moved) == 3:
                raise OSError(5, "Input/output error")
        return replace(self, target)

    with monkeypatch.context() as broken:
        broken.setattr(Path, "replace", fails_at_the_third)
        assert main([*command, "--report", "r.html"]) == 3
    assert len(moved) == 3
    assert contents(folder) == before
    assert "cannot be written (Input/output error)" in capsys.readouterr().err
    assert main([*command, "--report", "r.html"]) == 0
    assert set(contents(folder)) - set(before) == {"o.onnx", "r.json", "r.html"}
    assert (folder / "p.json").read_bytes() != b"an earlier plan"


def test_data_in_a_folder_that_is_there_already(folder: Path) -> None:
    (folder / "in" / "sub").mkdir(parents=True)
    (folder / "out" / "sub").mkdir(parents=True)
    (folder / "out" / "sub" / "other").write_text("stays")
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [2, 2]) for name in "xy")
    weight = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y], [weight]))
    onnx.save(model, "in/m.onnx", save_as_external_data=True, location="sub/w.bin", size_threshold=0)
    assert main(["convert", "in/m.onnx", "out/o.onnx"]) == 0
    assert sorted(path.name for path in (folder / "out" / "sub").iterdir()) == ["other", "w.bin"]


def test_what_is_staged_alone_moves_at_once(folder: Path) -> None:
    with files.staged(folder / "a.txt") as place:
        (place / "a.txt").write_text("a")
    assert (folder / "a.txt").read_text() == "a"
    with pytest.raises(OutputError, match="No space left on device"):
        fill(folder / "b.txt")
    assert not (folder / "b.txt").exists()


def fill(path: Path) -> None:
    with files.staged(path) as place:
        (place / path.name).write_text("b")
        raise OSError(28, "No space left on device")
