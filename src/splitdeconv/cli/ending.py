"""What went wrong, as one line on the standard error and an exit code."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from splitdeconv.cli.stops import Stopped
from splitdeconv.errors import OutputError, SplitdeconvError, lacks_memory, one_line

USAGE, INTERNAL = 2, 4
_SIGNAL = 128  # a shell's exit code for signal n is 128 + n
_PLACES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)  # what is wrong with a place, not with us
_PACKAGE = Path(__file__).parents[1]


def tell(error: BaseException, *, debug: bool) -> int:
    """Write the line, below the traceback if ``debug`` asks for it; returns the exit code."""
    line, code = _explain(error)
    with suppress(OSError, AttributeError):  # the standard error may be closed or full as well
        if debug and line:
            traceback.print_exception(error)
        if line:
            sys.stderr.write(f"splitdeconv: {line}\n")
            sys.stderr.flush()
    return code


def _explain(error: BaseException) -> tuple[str, int]:
    match error:
        case SplitdeconvError():
            return str(error), error.exit_code
        case Stopped():
            return str(error), _SIGNAL + error.signal
        case KeyboardInterrupt():
            return "stopped by SIGINT", _SIGNAL + signal.SIGINT
        case SystemExit():
            return "", error.code if isinstance(error.code, int) else 0
        case _ if lacks_memory(error):
            found = f" ({one_line(str(error))})" if str(error) else ""
            return f"there is not enough memory on this machine{found}", USAGE
        case ModuleNotFoundError() if (package := (error.name or _PACKAGE.name).partition(".")[0]) != _PACKAGE.name:
            return f"this command needs {package}, which is not installed: pip install 'splitdeconv[all]'", USAGE
        case OSError() if error.errno in _PLACES:
            return one_line(f"{error.filename or 'a temporary file'}: cannot be written ({error.strerror})"), (
                OutputError.exit_code
            )
    return _of_command_line(error) or (_internal(error), INTERNAL)


def _of_command_line(error: BaseException) -> tuple[str, int] | None:
    """What the parser of the command line says."""
    import typer  # noqa: PLC0415  # an early interrupt comes before it

    parser_error: Any = typer.BadParameter.__bases__[0]  # UsageError, which typer does not export
    if not isinstance(error, parser_error):
        return None
    command = error.ctx.command_path if error.ctx is not None else "splitdeconv"
    found = f"{command.partition(' ')[2]}: {error.format_message().rstrip('.')}".removeprefix(": ")
    return one_line(f"{found}; see {command} --help"), USAGE


def _internal(error: BaseException) -> str:
    cause = error.__cause__ or error if type(error).__name__ == "Abort" else error  # the parser hides an EOFError so
    frames = traceback.extract_tb(cause.__traceback__)
    own = [frame for frame in frames if _PACKAGE in Path(frame.filename).parents]
    at = f" at {Path(own[-1].filename).relative_to(_PACKAGE)}:{own[-1].lineno}" if own else ""
    found = one_line(f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}")
    return f"internal fault{at} ({found}); please report it, with the model and what the command shows with --debug"
