"""One case: a command in a folder of its own, and whether what came out is allowed."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.attack.processes import TICK_S, Usage

HANGS_S = 20.0  # of CPU time, which other programs on the machine do not change
STUCK_S = 300.0  # on an idle machine, of a command that does nothing
MOST_MB = 2048
SETTLED = {"ok", "refused", "not a case"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a case ended.

    Attributes:
        name: ``ok``, ``refused``, ``not a case`` (the model was not sound), or what must not be.
        detail: the command, and the line or traceback.
    """

    name: str
    detail: str = ""


def patience_s(seconds: float = HANGS_S) -> float:
    """How long something may take here that takes ``seconds`` on an idle machine."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class Worker:
    """A process that runs commands, replaced when it dies or hangs."""

    def __init__(self) -> None:
        self._cache = tempfile.TemporaryDirectory()
        self._process: subprocess.Popen[str] | None = None

    def ask(self, arguments: Sequence[str], folder: Path) -> dict[str, object] | Outcome:
        """What the worker says, or how it failed to."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"arguments": list(arguments), "folder": str(folder)}) + "\n")
        process.stdin.flush()
        shown, usage = " ".join(arguments), Usage(process.pid)
        if reason := _wait(process, usage):
            self.close()
            return Outcome("hang", f"{shown}: {reason}")
        line = process.stdout.readline()
        if line:
            found: dict[str, object] = json.loads(line)
            return {**found, "peak_mb": usage.peak_mb}
        self.close()
        return Outcome("crash", f"{shown}: ends with {process.returncode}")

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.attack.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "XDG_CACHE_HOME": self._cache.name, "PYTHONFAULTHANDLER": "1"},
            )
        return self._process

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _wait(process: subprocess.Popen[str], usage: Usage) -> str:
    """Wait for the answer; returns why it took too long, or nothing."""
    deadline = time.monotonic() + patience_s(STUCK_S)
    ready: list[object] = []
    while not ready:
        ready, _, _ = select.select([process.stdout], [], [], TICK_S)
        usage.look()
        if usage.cpu_s > HANGS_S:
            return f"more than {HANGS_S:.0f} s of CPU time"
        if time.monotonic() > deadline:
            return f"no answer, after {usage.cpu_s:.0f} s of CPU time"
    return ""


@contextmanager
def case_folder(files: Mapping[str, bytes]) -> Iterator[Path]:
    """A folder with the inputs of a case."""
    with tempfile.TemporaryDirectory(prefix="attack-") as name:
        folder = Path(name)
        for each, content in files.items():
            (folder / each).write_bytes(content)
        yield folder


def run(worker: Worker, arguments: Sequence[str], files: Mapping[str, bytes], folder: Path, *, sound: bool) -> Outcome:
    """Run one command and judge it.

    Args:
        worker: which runs it.
        arguments: of the command.
        files: the inputs in ``folder``, which must stay as they are.
        folder: of the case.
        sound: whether the model is one that its runtime runs, so that exit code 1 is wrong.
    """
    found = worker.ask(arguments, folder)
    if isinstance(found, Outcome):
        return found
    code, err, shown = found["code"], str(found["err"]).strip(), " ".join(arguments)
    if not isinstance(code, int) or code == 4:
        return Outcome("traceback", f"{shown}: {code if isinstance(code, str) else err}")
    if int(str(found["peak_mb"])) > MOST_MB:
        return Outcome("memory", f"{shown}: {found['peak_mb']} MB")
    if "; see splitdeconv" in err and sound:
        return Outcome("no command", f"{shown}: {err}")
    if code == 1 and sound:
        return Outcome("exit 1", f"{shown}: {err}")
    if lost := what_is_lost(files, folder, done=code == 0):
        return Outcome("lost", f"{shown}: {lost}")
    return Outcome("ok") if code == 0 else Outcome("refused", err.splitlines()[-1] if err else "")


def what_is_lost(files: Mapping[str, bytes], folder: Path, *, done: bool) -> str:
    """What a command did to the folder that it must not do, or nothing."""
    for name, content in files.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != content:
            return f"{name} was changed"
    for path in folder.iterdir():
        if path.name.startswith("."):
            return f"{path.name} was left behind"
        if not done and path.name not in files:
            return f"{path.name} was written by a command that failed"
    return ""
