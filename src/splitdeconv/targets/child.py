"""A child process that does work on which native code may crash or hang, so that the parent does not."""

from __future__ import annotations

import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

from splitdeconv.targets.target import CompileError

_HEADER = struct.Struct("<?Q")  # whether it worked, length of what follows
PATIENCE_S = 120.0  # for one request; compilers and interpreters need a small part of it


class Child:
    """Asks a Python module in a process of its own; a process that dies is replaced at the next request.

    Args:
        arguments: what follows the Python executable.
        patience_s: longest wait for one answer, in seconds.
    """

    def __init__(self, arguments: Sequence[str], patience_s: float = PATIENCE_S) -> None:
        self._arguments, self._patience_s = list(arguments), patience_s
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: bytes) -> bytes:
        """The child's answer to a request.

        Raises:
            CompileError: the child says no, crashes, or takes too long; the message is the reason.
        """
        process = self._start()
        assert process.stdin is not None, "opened as a pipe"
        assert process.stdout is not None, "opened as a pipe"
        deadline = time.monotonic() + self._patience_s
        try:
            process.stdin.write(struct.pack("<Q", len(request)) + request)
            process.stdin.flush()
            worked, length = _HEADER.unpack(_read(process.stdout.fileno(), _HEADER.size, deadline))
            answer = _read(process.stdout.fileno(), length, deadline)
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            raise CompileError(self._end(error)) from None
        if not worked:
            raise CompileError(answer.decode("utf-8", "replace"))
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self, error: Exception) -> str:
        """Stop the child; how it ended."""
        process = self._process
        assert process is not None, "only a started child can end"
        self._process = None
        if isinstance(error, TimeoutError):
            process.kill()
            process.wait()
            return f"gave no answer within {self._patience_s:.0f} s"
        code = process.wait()
        return f"crashes on this model ({signal.Signals(-code).name})" if code < 0 else f"stops with code {code}"

    def close(self) -> None:
        """End the child."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def __del__(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _read(descriptor: int, size: int, deadline: float) -> bytes:
    parts: list[bytes] = []
    left = size
    while left:
        wait_s = deadline - time.monotonic()
        if wait_s <= 0 or not select.select([descriptor], [], [], wait_s)[0]:
            raise TimeoutError
        part = os.read(descriptor, min(left, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def serve(answer_to: Callable[[bytes], bytes]) -> None:
    """The child's side: answer requests from standard input until it ends.

    Args:
        answer_to: a function from request to answer (bytes), which raises CompileError with a reason for a no.
    """
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    while header := source.read(8):
        request = source.read(struct.unpack("<Q", header)[0])
        try:
            worked, answer = True, answer_to(request)
        except CompileError as error:
            worked, answer = False, str(error).encode()
        _answer(target, worked, answer)


def _answer(target: BinaryIO, worked: bool, answer: bytes) -> None:
    target.write(_HEADER.pack(worked, len(answer)) + answer)
    target.flush()
