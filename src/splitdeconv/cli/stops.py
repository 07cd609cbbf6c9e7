"""Signals that ask a command to stop, as exceptions, so that everything under way is cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(BaseException):
    """A signal asked the command to stop.

    Attributes:
        signal: which.
    """

    def __init__(self, signal: signal.Signals) -> None:
        super().__init__(f"stopped by {signal.name}")
        self.signal = signal


@contextmanager
def as_exceptions() -> Iterator[None]:
    """Raise :class:`Stopped` at the first signal inside the ``with``; those after it do not disturb the cleaning up.

    Signals that are ignored (``nohup``) stay ignored. Only the main thread may do this; elsewhere nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    try:
        for number in heard:
            signal.signal(number, _raise)
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])


def _raise(number: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(signal.Signals(number))
