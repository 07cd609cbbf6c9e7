"""Exporters run in processes of their own: their threads and their memory stay out of the one that measures."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from threading import Lock
from typing import ParamSpec, TypeVar, cast

from splitdeconv.errors import SplitdeconvError, UsageError

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

CHILDREN = 2  # at most: exporting the largest network takes a few gigabytes
_lock = Lock()


def in_child(function: Callable[Arguments, Value], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
    """Call ``function``, which pickle can name, in a child, which stays for the next call. Threads may call this.

    Raises:
        UsageError: with the message of the error that the function raised, or because the child died.
    """
    try:
        with _lock:
            future = _pool().submit(_guarded, function, args, kwargs)
        found, reason = future.result()
    except BrokenProcessPool:
        with _lock:
            _pool.cache_clear()
        raise UsageError(f"the process that ran {function.__name__} ended by itself (memory?)") from None
    if reason is not None:
        raise UsageError(reason)
    return cast("Value", found)


@cache
def _pool() -> ProcessPoolExecutor:
    # Not forked: a copy of a process with threads may stop in the middle of what they held.
    return ProcessPoolExecutor(CHILDREN, multiprocessing.get_context("spawn"), initializer=_silence)


def _silence() -> None:
    """Exporters report to the standard error past Python; nobody can act on it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _guarded(
    function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[object, str | None]:
    """The value, or the message of the project's own errors, which pickle cannot make again."""
    try:
        return function(*args, **kwargs), None
    except SplitdeconvError as error:
        return None, str(error)
