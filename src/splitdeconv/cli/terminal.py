"""The standard output as a stream that takes any text, that a reader may leave, and that may be closed or full."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO, cast

from splitdeconv.errors import OutputError

_NARROWEST = 20  # columns; what states fewer (a terminal that is not set up) states nothing


class Output:
    """A text stream in place of the standard output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; what the stream's encoding does not know becomes an escape.

        Raises:
            OutputError: the stream is full. A reader that has gone away (``| head``) is no error.
        """
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """As :meth:`write`, with what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send the rest nowhere, also what Python itself still writes when it ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"the standard output cannot be written ({error.strerror})") from None


@contextmanager
def guarded() -> Iterator[None]:
    """Put :class:`Output` in the place of the standard output. Where that is closed, text goes nowhere."""
    _occupy_closed_descriptors()
    if _too_narrow(os.environ.get("COLUMNS", "")):
        del os.environ["COLUMNS"]
    if sys.stdout is None:
        yield
        return
    output = Output(sys.stdout)
    with redirect_stdout(cast("TextIO", output)):
        yield
        output.flush()


def _occupy_closed_descriptors() -> None:
    """Let no file become the standard output of native libraries because that was closed."""
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)


def _too_narrow(columns: str) -> bool:
    return columns.isdecimal() and int(columns) < _NARROWEST


def write_json(text: str) -> None:
    """Write JSON to the standard output, in escapes of its own where the stream's encoding is not UTF-8.

    Raises:
        OutputError: it is closed or full.
    """
    if sys.stdout is None:
        raise OutputError("the standard output cannot be written (it is closed); wanted --json FILE, or an open one")
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        text = re.sub(r"[^\x00-\x7f]", lambda found: ascii_json(found.group()), text)
    sys.stdout.write(text)


def ascii_json(char: str) -> str:
    """One character as JSON writes it in ASCII."""
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
