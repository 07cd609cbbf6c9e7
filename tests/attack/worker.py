"""Runs commands in one process, so that a case costs no start; the parent watches, and replaces it when it dies."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from contextlib import redirect_stderr
from pathlib import Path


def run(arguments: list[str], folder: str) -> dict[str, object]:
    """One command: exit code, what it wrote to the standard error, and the most memory that it held, in MB."""
    from splitdeconv.cli import main  # noqa: PLC0415  # what it imports is part of the first case

    os.chdir(folder)
    _forget_peak()
    err = io.StringIO()
    sys.stdout, before = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), sys.stdout
    try:
        with redirect_stderr(err):
            code: int | str = main([*arguments, "--debug"])
    except BaseException:
        code = traceback.format_exc()
    finally:
        sys.stdout = before
    return {"code": code, "err": err.getvalue(), "peak_mb": _peak_mb()}


def _forget_peak() -> None:
    """Let the kernel count the peak anew, where it can."""
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mb() -> int:
    if sys.platform != "linux":
        return 0
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native libraries print must not mix with the answers
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(run(request["arguments"], request["folder"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
