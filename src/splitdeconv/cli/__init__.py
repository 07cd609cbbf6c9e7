"""The command line: arguments → pipeline → terminal. One module per command, listed in ``app.COMMANDS``.

Importing this package imports nothing else, so that even an early interrupt ends as :func:`main` says.
"""

from __future__ import annotations

import gc
import sys

__all__ = ["main"]

_DEBUG = "--debug"  # anywhere on the command line
_COLLECT_AFTER = (100_000, 50, 100)  # new objects, which models have in millions: Python's 700 doubles a command's time


def main(argv: list[str] | None = None) -> int:
    """Run one command; whatever happens, it ends with its result or one line on the standard error.

    Returns:
        The exit code: 0 done, 1 the proof failed, 2 usage or input, 3 the result could not be written, 4 an internal
        fault, 128 + n stopped by signal n.
    """
    from splitdeconv.cli import ending, stops, terminal  # noqa: PLC0415  # importing the package imports nothing else

    given = sys.argv[1:] if argv is None else argv
    gc.set_threshold(*_COLLECT_AFTER)
    try:
        with stops.as_exceptions(), terminal.guarded():
            return _run([each for each in given if each != _DEBUG] or ["--help"], tuple(given))
    except BaseException as error:  # the last boundary: nothing leaves it as a traceback
        return ending.tell(error, debug=_DEBUG in given)


def _run(arguments: list[str], given: tuple[str, ...]) -> int:
    from splitdeconv.cli import app  # noqa: PLC0415  # as above

    code = app.command_line()(args=arguments, prog_name="splitdeconv", obj=given, standalone_mode=False)
    return code if isinstance(code, int) else 0
