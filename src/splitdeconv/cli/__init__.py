"""The command line: arguments → pipeline → terminal. One module per command, one line below for each."""

from __future__ import annotations

import sys

from splitdeconv.cli import app as _app
from splitdeconv.errors import SplitdeconvError

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 verification failed, 2 bad usage or input)."""
    try:
        _app.load_commands()
        code = _app.app(args=argv, prog_name="splitdeconv", standalone_mode=True)
    except SplitdeconvError as error:
        print(f"splitdeconv: {error}", file=sys.stderr)  # noqa: T201  # the one place that prints errors
        return error.exit_code
    except SystemExit as stop:
        return int(stop.code or 0)
    return int(code or 0)
