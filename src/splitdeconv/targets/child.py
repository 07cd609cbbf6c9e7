"""A child process that does work on which native code may crash or hang, so that the parent does not."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import BinaryIO, cast

from splitdeconv.targets.target import CompileError

if sys.platform == "linux":
    import resource

_HEADER = struct.Struct("<?Q")  # whether it worked, length of what follows
PATIENCE_S = 120.0  # for one request; compilers and interpreters need a small part of it

Answer = tuple[bool, bytes]  # whether it worked; the answer, or the reason why not


class Child:
    """Asks a program in a process of its own, which stays; one that dies is replaced at the next request.

    Args:
        arguments: what follows the executable, such as ``["-m", "splitdeconv.targets.litert_trial"]``.
        executable: a Python, maybe of another environment; this one where it is empty.
        environment: variables of the child; those of this process where it is None.
        patience_s: longest wait for one answer, in seconds.
        memory_bytes: most that it may allocate, 0 for no limit. Only Linux can limit it.
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
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: bytes) -> bytes:
        """The child's answer to a request.

        Raises:
            CompileError: the child says no, crashes, or takes too long; the message is the reason.
        """
        process = self._start()
        answers: SimpleQueue[Answer | None] = SimpleQueue()
        talk = Thread(target=_talk, args=(process, request, answers), daemon=True)  # a pipe has no timeout of its own
        talk.start()
        try:
            answer = answers.get(timeout=self._patience_s)
        except Empty:
            process.kill()
            self._end(talk)
            raise CompileError(f"gave no answer within {self._patience_s:.0f} s") from None
        if answer is None:
            raise CompileError(self._end(talk))
        worked, content = answer
        if not worked:
            raise CompileError(content.decode("utf-8", "replace"))
        return content

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            if sys.platform == "linux" and self._memory_bytes:
                resource.prlimit(self._process.pid, resource.RLIMIT_DATA, (self._memory_bytes, self._memory_bytes))
        return self._process

    def _end(self, talk: Thread) -> str:
        """Clear a child away that has ended, or is about to; how it ended."""
        talk.join()
        assert self._process is not None, "only a started child can end"
        code = self._process.wait()
        self.close()
        return f"crashes on this model ({signal.Signals(-code).name})" if code < 0 else f"stops with code {code}"

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

    def __del__(self) -> None:
        if self._process is not None:
            self._process.kill()
            self.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[BinaryIO, BinaryIO]:
    return cast("BinaryIO", process.stdin), cast("BinaryIO", process.stdout)


def _talk(process: subprocess.Popen[bytes], request: bytes, answers: SimpleQueue[Answer | None]) -> None:
    """Send one request and put the answer into ``answers``, or None where the child has ended."""
    stdin, stdout = _pipes(process)
    try:
        stdin.write(struct.pack("<Q", len(request)) + request)
        stdin.flush()
        worked, length = _HEADER.unpack(stdout.read(_HEADER.size))
        content = stdout.read(length)
    except (OSError, struct.error):
        answers.put(None)
    else:
        answers.put((worked, content) if len(content) == length else None)


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
