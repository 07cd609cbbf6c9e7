"""The child's end of the conversation with ``targets.child``.

A request is its length (8 bytes, little-endian) and its content. What comes back is one byte (``REFUSED``, ``ANSWER``
or ``NEWS``), a length of 8 bytes and the content; any number of news come before the answer or the refusal.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from collections.abc import Callable
from queue import SimpleQueue
from threading import Lock, Thread
from typing import BinaryIO

from splitdeconv.errors import CompileError

LENGTH, HEADER = struct.Struct("<Q"), struct.Struct("<BQ")
REFUSED, ANSWER, NEWS = range(3)
OUT_OF_MEMORY = "needs more memory than there is"

Tell = Callable[[bytes], None]


def one_line(error: BaseException, longest: int = 300) -> str:
    """The message of ``error`` without line breaks, cut at ``longest`` letters; for :class:`CompileError`."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else text[: longest - 1] + "…"


def serve(answer_to: Callable[[bytes], bytes]) -> None:
    """Answer requests from standard input until it ends.

    Args:
        answer_to: a function from request to answer (bytes), which raises CompileError with a reason for a no.
    """
    serve_with_news(lambda request, _: answer_to(request))


def serve_with_news(answer_to: Callable[[bytes, Tell], bytes]) -> None:
    """As :func:`serve`; ``answer_to`` also gets a function that sends news before the answer is there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt ends
    send, requests = _sender(), _requests()
    while True:
        request = requests.get()
        try:
            send(ANSWER, answer_to(request, lambda content: send(NEWS, content)))
        except CompileError as error:
            send(REFUSED, str(error).encode())
        except MemoryError:
            send(REFUSED, OUT_OF_MEMORY.encode())


def _sender() -> Callable[[int, bytes], None]:
    target, turn = os.fdopen(os.dup(1), "wb"), Lock()
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def send(kind: int, content: bytes) -> None:
        with turn:
            target.write(HEADER.pack(kind, len(content)) + content)
            target.flush()

    return send


def _requests() -> SimpleQueue[bytes]:
    """What comes in. When the parent is gone the child ends at once, in the middle of its work too."""
    requests: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read, args=(sys.stdin.buffer, requests), daemon=True).start()
    return requests


def _read(source: BinaryIO, requests: SimpleQueue[bytes]) -> None:
    while len(header := source.read(LENGTH.size)) == LENGTH.size:
        requests.put(source.read(LENGTH.unpack(header)[0]))
    os._exit(0)
