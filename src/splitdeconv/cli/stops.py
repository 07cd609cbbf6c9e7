"""Signals that ask a command to stop, as exceptions, so that everything under way is cleaned up."""

from __future__ import annotations

import signal
import sys
import threading
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_AGAIN_S = 0.01  # after which a signal whose exception was lost is raised anew


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
    tell_lost = sys.unraisablehook

    def again(lost: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised inside a finaliser, such as those of imports: the signal comes once more."""
        if not isinstance(lost.exc_value, Stopped):
            tell_lost(lost)
            return
        signal.signal(lost.exc_value.signal, _raise)
        threading.Timer(_AGAIN_S, interrupt_main, [lost.exc_value.signal]).start()

    try:
        sys.unraisablehook = again
        for number in heard:
            signal.signal(number, _raise)
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
        sys.unraisablehook = tell_lost


def _raise(number: int, _frame: FrameType | None) -> None:
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(signal.Signals(number))
