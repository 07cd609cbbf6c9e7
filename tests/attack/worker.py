"""Runs commands in one process, so that a case costs no start; the parent watches, and replaces it when it dies."""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from contextlib import redirect_stderr


def run(arguments: list[str], folder: str) -> dict[str, object]:
    """One command: exit code, and what it wrote to the standard error."""
    from splitdeconv.cli import main  # noqa: PLC0415  # what it imports is part of the first case

    os.chdir(folder)
    err = io.StringIO()
    sys.stdout, before = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), sys.stdout
    try:
        with redirect_stderr(err):
            code: int | str = main([*arguments, "--debug"])
    except BaseException:
        code = traceback.format_exc()
    finally:
        sys.stdout = before
    return {"code": code, "err": err.getvalue()}


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native libraries print must not mix with the answers
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(run(request["arguments"], request["folder"])) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
