"""The command line: arguments → pipeline → terminal. One module per command, listed in ``app.COMMANDS``."""

from __future__ import annotations

import sys

from splitdeconv.cli import app as _app
from splitdeconv.errors import SplitdeconvError

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 verification failed, 2 bad usage or input)."""
    try:
        _app.load_commands()
        arguments = sys.argv[1:] if argv is None else argv
        _app.app(args=arguments, prog_name="splitdeconv", obj=tuple(arguments))
    except SplitdeconvError as error:
        sys.stderr.write(f"splitdeconv: {error}\n")
        return error.exit_code
    except BrokenPipeError:
        return 0
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    return 0
