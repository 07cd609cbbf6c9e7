"""How a command ends: exit codes, one line for whatever goes wrong, signals."""

from __future__ import annotations

import errno
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from splitdeconv.cli import main, stops
from splitdeconv.errors import InputError, MissingExtraError, OutputError, UsageError, VerificationError
from splitdeconv.lab.simulation.held import held
from splitdeconv.pipeline import inspect as inspecting
from tests.models import deconv_model


def ends(error: BaseException, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of an inspection in which ``error`` is raised."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(inspecting, "inspect", fail)
    return main(["inspect", "m.onnx", *arguments])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (VerificationError("not equal"), 1, "not equal"),
        (InputError("m.onnx: not a model"), 2, "m.onnx: not a model"),
        (UsageError("no site 'x'"), 2, "no site 'x'"),
        (MissingExtraError("a plot", "matplotlib", "report"), 2, "a plot needs matplotlib: pip install"),
        (MemoryError(), 2, "there is not enough memory on this machine"),
        (MemoryError("12 GiB for an array"), 2, "there is not enough memory on this machine (12 GiB for an array)"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            2,
            "not enough memory on this machine (DefaultCPU",
        ),
        (OutputError("o.onnx: cannot be written"), 3, "o.onnx: cannot be written"),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/a"), 3, "/tmp/a: cannot be written (No space left"),
        (OSError(errno.EROFS, "Read-only file system"), 3, "a temporary file: cannot be written (Read-only"),
        (
            ModuleNotFoundError("no", name="scipy.fft"),
            2,
            "this command needs scipy, which is not installed: pip install",
        ),
        (ModuleNotFoundError("no", name="splitdeconv.gone"), 4, "(ModuleNotFoundError: no); please report it"),
        (KeyError("x"), 4, "internal fault at cli/"),
        (RecursionError("maximum depth"), 4, "(RecursionError: maximum depth); please report it"),
        (EOFError("nothing left"), 4, "(EOFError: nothing left); please report it"),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), 4, "internal fault at cli/"),
    ],
)
def test_every_end_has_its_code_and_one_line(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert ends(error, monkeypatch) == code
    out, err = capsys.readouterr()
    (shown,) = err.strip().splitlines()  # typer begins with an empty line at an EOFError
    assert out == ""
    assert shown.startswith("splitdeconv: ")
    assert line in shown


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback(
    place: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inspecting, "inspect", lambda *_, **__: {}["x"])
    command = ["inspect", "m.onnx"]
    assert main([*command, "--debug"] if place == "after" else ["--debug", *command]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1].startswith("splitdeconv: internal fault")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["inspct"], "No such command 'inspct'"),
        (["convert", "m.onnx"], "convert: Missing argument"),
        (["convert", "m.onnx", "o.onnx", "--what"], "convert: No such option: --what"),
        (["zoo"], "zoo: Missing command"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_is_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"splitdeconv: {line}")
    assert err.rstrip().endswith("--help")
    assert err.count("\n") == 1


def test_nothing_asked_for_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "convert" in capsys.readouterr().out


@pytest.fixture
def heard(name: str) -> Iterator[signal.Signals]:
    """The signal, which the tests may have inherited as ignored: shells start what runs in the background so."""
    number: signal.Signals = getattr(signal, name)
    before = signal.signal(number, signal.default_int_handler)
    yield number
    signal.signal(number, before)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_a_signal_cleans_up_and_is_said(
    name: str,
    heard: signal.Signals,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from splitdeconv.pipeline import convert as pipeline  # noqa: PLC0415  # stopped on purpose in this test alone

    onnx.save(deconv_model(), tmp_path / "in.onnx")

    def stop(*_: object, **__: object) -> None:
        assert len(list(tmp_path.iterdir())) == 2, "the result is being made"
        signal.raise_signal(heard)  # to this thread, at once

    monkeypatch.setattr(pipeline, "prove", stop)
    command = ["convert", str(tmp_path / "in.onnx"), str(tmp_path / "out.onnx"), "--target", "generic"]
    assert main(command) == 128 + heard
    assert capsys.readouterr().err == f"splitdeconv: stopped by {name}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]
    assert signal.getsignal(heard) == signal.default_int_handler


class Finalised:
    """Signals the command when it goes, where Python drops what is raised."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize("name", ["SIGTERM"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_a_signal_inside_a_finaliser_is_not_lost(
    name: str, heard: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(*_: object, **__: object) -> None:
        Finalised(heard)
        time.sleep(60)

    monkeypatch.setattr(inspecting, "inspect", work)
    assert main(["inspect", "m.onnx"]) == 128 + heard
    assert capsys.readouterr().err == f"splitdeconv: stopped by {name}\n"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_a_signal_waits_until_it_is_known_what_was_started(name: str, heard: signal.Signals) -> None:
    started: list[str] = []
    with pytest.raises(stops.Stopped), stops.as_exceptions(), held():  # noqa: PT012  # what is held is the point
        signal.raise_signal(heard)
        started.append(name)
    assert started == [name]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_what_is_started_leaves_what_a_terminal_says_to_who_started_it() -> None:
    """Python otherwise starts what frees names anew after a hang-up, and workers show tracebacks after Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with held():
        assert {signal.SIGINT, signal.SIGHUP} <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("Arena alloc failed")])
def test_a_file_is_not_called_damaged_where_memory_is_short(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(deconv_model(), tmp_path / "m.onnx")

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(onnx, "load", fail)
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 2
    assert "there is not enough memory on this machine" in capsys.readouterr().err
