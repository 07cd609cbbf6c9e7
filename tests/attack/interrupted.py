"""Commands in processes of their own that a full disk, a signal or a kill stops at any moment."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from random import Random

import onnx

from tests.attack.harness import Outcome, Worker, case_folder, patience_s, what_is_lost
from tests.models import deconv_model

COMMAND = ["convert", "m.onnx", "o.onnx", "--target", "generic", "--json", "r.json", "--save-plan", "p.json"]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def _start(folder: Path, limit: int | None = None) -> subprocess.Popen[str]:
    """The command; with a limit no file may become larger, which is what a full disk is to a program."""
    report = ["--report", "r.html"] if limit is None else []  # whose fonts are looked for anew where none can be kept
    return subprocess.Popen(
        [sys.executable, "-m", "splitdeconv", *COMMAND, *report],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if limit is None else partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)),  # noqa: PLW1509  # no threads
    )


def full_disk(_worker: Worker, rng: Random) -> Outcome:
    """No room for the result, or for one of its side files."""
    files = {"m.onnx": deconv_model(strides=[2, 2]).SerializeToString(), "r.json": b"an earlier record"}
    limit = int(10 ** rng.uniform(1, 5))
    with case_folder(files) as folder:
        process = _start(folder, limit)
        try:
            _, err = process.communicate(timeout=2 * patience_s())
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return Outcome("hang", f"limit {limit}")
        if process.returncode == 0:
            return Outcome("ok")
        if process.returncode != 3:
            return Outcome("traceback", f"limit {limit}: exit code {process.returncode}, {err}")
        lost = what_is_lost(files, folder, done=False)
        return Outcome("lost", f"limit {limit}: {lost}") if lost else Outcome("refused", err.strip())


def interrupted(_worker: Worker, rng: Random) -> Outcome:
    """A signal at any moment."""
    files = {"m.onnx": deconv_model(strides=[2, 2]).SerializeToString()}
    number = rng.choice(SIGNALS)
    with case_folder(files) as folder:
        process = _start(folder)
        time.sleep(rng.uniform(0.2, 4))
        process.send_signal(number)
        try:
            _, err = process.communicate(timeout=patience_s())
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return Outcome("hang", number.name)
        return _judged(files, folder, number, process.returncode, err)


def _judged(files: dict[str, bytes], folder: Path, number: signal.Signals, code: int, err: str) -> Outcome:
    if (folder / "m.onnx").read_bytes() != files["m.onnx"]:
        return Outcome("lost", f"{number.name}: the input was changed")
    if (folder / "o.onnx").exists():
        onnx.checker.check_model(str(folder / "o.onnx"))  # whole, or not there
    if number == signal.SIGKILL:
        return Outcome("ok")
    if code not in (0, 128 + number, -number):  # -number: before Python runs our code
        return Outcome("traceback", f"{number.name}: exit code {code}, {err}")
    if code == 128 + number and err != f"splitdeconv: stopped by {number.name}\n":
        return Outcome("traceback", f"{number.name}: {err}")
    left = what_is_lost(files, folder, done=code == 0)
    return Outcome("lost", f"{number.name}: {left}") if left else Outcome("ok")
