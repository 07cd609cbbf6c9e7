"""A child process that does work on which native code may crash or hang, so that the parent does not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryFile
from threading import RLock, Thread
from typing import IO, cast
from weakref import finalize

from splitdeconv.errors import CompileError
from splitdeconv.workers.serve import HEADER, LENGTH, NEWS, REFUSED

PATIENCE_S = 300.0  # for one sign of life; compilers and interpreters need a small part of it
_LOOK_S = 0.2  # between two looks at the child's memory
_GIB = 2**30

Message = tuple[int, bytes]
Process = subprocess.Popen[bytes]


class Child:
    """Asks a program in a process of its own, which stays; one that dies is replaced at the next request.

    Args:
        arguments: what follows the executable, such as those of :func:`running`.
        executable: a Python, maybe of another environment; this one where it is empty.
        environment: variables of the child; those of this process where it is None.
        patience_s: longest wait for one sign of life, in seconds.
        memory_bytes: most resident memory that it may take, 0 for no limit. Only Linux tells how much it takes.

    Attributes:
        starts: how often a process was started; what an earlier one knew is lost.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        executable: str = "",
        environment: Mapping[str, str] | None = None,
        patience_s: float = PATIENCE_S,
        memory_bytes: int = 0,
    ) -> None:
        self._command = [executable or sys.executable, *arguments]
        self._environment = None if environment is None else dict(environment)
        self._patience_s, self._memory_bytes = patience_s, memory_bytes
        self._process: Process | None = None
        self._last_words: IO[bytes] | None = None
        self._killed: finalize[..., Child] | None = None
        self._turn = RLock()
        self.starts = 0

    def ask(self, request: bytes, *, patience: float = 1.0, heard: Callable[[bytes], object] | None = None) -> bytes:
        """The child's answer to a request.

        Args:
            request: in the words of the child.
            patience: how many times the usual patience it may take.
            heard: called with the news that come before the answer.

        Raises:
            CompileError: the child says no, crashes, takes too long or too much memory; the message is the reason.
        """
        with self._turn:
            process = self.start()
            messages: SimpleQueue[Message | None] = SimpleQueue()
            talk = Thread(target=_talk, args=(process, request, messages), daemon=True)  # a pipe has no timeout
            talk.start()
            try:
                kind, content = self._listen(process, messages, patience * self._patience_s, heard)
            except CompileError:
                self.close()
                raise
            except BaseException:  # an interrupt: what the child still says would be taken for the next answer
                process.kill()
                self.close()
                raise
        if kind == REFUSED:
            raise CompileError(content.decode("utf-8", "replace"))
        return content

    def _listen(
        self,
        process: Process,
        messages: SimpleQueue[Message | None],
        patience_s: float,
        heard: Callable[[bytes], object] | None,
    ) -> Message:
        """The last message.

        Raises:
            CompileError: the child has ended, or was ended.
        """
        while True:
            message = self._next(process, messages, patience_s)
            if message is None:
                raise CompileError(self._how_it_ended(process))
            if message[0] != NEWS:
                return message
            if heard is not None:
                heard(message[1])

    def _next(self, process: Process, messages: SimpleQueue[Message | None], patience_s: float) -> Message | None:
        """What comes next, None where the child has ended.

        Raises:
            CompileError: it had to be ended.
        """
        deadline = time.monotonic() + patience_s
        while True:
            left = deadline - time.monotonic()
            with suppress(Empty):
                return messages.get(timeout=max(0.0, min(_LOOK_S, left)))
            if self._memory_bytes and _resident_bytes(process.pid) > self._memory_bytes:
                process.kill()
                raise CompileError(f"needs more memory than the {self._memory_bytes / _GIB:.3g} GiB that it may take")
            if left <= _LOOK_S:
                process.kill()
                raise CompileError(f"gave no answer within {patience_s:.0f} s")

    def start(self) -> Process:
        """The process, started now where there is none; it gets ready while the caller does other things."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._last_words = TemporaryFile()  # noqa: SIM115  # closed with the process
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._last_words,
            )
            self._killed = finalize(self, _kill, self._process)
            self.starts += 1
        return self._process

    def _how_it_ended(self, process: Process) -> str:
        code = process.wait()
        words = "" if self._last_words is None else _last_line(self._last_words)
        if code < 0:
            return f"crashes on this model ({signal.Signals(-code).name})"
        return f"stops with code {code}" + (f" ({words})" if words else "")

    def close(self) -> None:
        """End the child: it stops when there is nothing more to read."""
        process, self._process = self._process, None
        if process is None:
            return
        stdin, stdout = _pipes(process)
        with suppress(OSError):  # what a dead child has not read
            stdin.close()
        process.wait()
        stdout.close()
        if self._killed is not None:
            self._killed.detach()
        if self._last_words is not None:
            self._last_words.close()


def running(module: str, *arguments: str) -> list[str]:
    """The arguments with which Python runs ``main()`` of a module that is found here, whatever lies in the folder."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; main()"
    return ["-c", code, *arguments]


def _kill(process: Process) -> None:
    """End a child whose owner is gone."""
    process.kill()
    process.wait()
    for pipe in _pipes(process):
        with suppress(OSError):
            pipe.close()


def _pipes(process: Process) -> tuple[IO[bytes], IO[bytes]]:
    return cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _last_line(file: IO[bytes], longest: int = 200) -> str:
    """The end of what a process wrote: of a Python that stops, its exception."""
    file.seek(0)
    lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip()[:longest] for line in reversed(lines) if line.strip()), "")


def _talk(process: Process, request: bytes, messages: SimpleQueue[Message | None]) -> None:
    """Send one request and put what comes back into ``messages``, or None where the child has ended."""
    stdin, stdout = _pipes(process)
    try:
        stdin.write(LENGTH.pack(len(request)) + request)
        stdin.flush()
        kind = NEWS
        while kind == NEWS:
            header = stdout.read(HEADER.size)
            if len(header) < HEADER.size:
                break
            kind, length = HEADER.unpack(header)
            content = stdout.read(length)
            if len(content) < length:
                break
            messages.put((kind, content))
        else:
            return
    except (OSError, ValueError):  # it reads no more, or was closed
        pass
    messages.put(None)
