"""Exporters run in processes of their own: their threads and their memory stay out of the one that measures."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import cache
from queue import LifoQueue
from typing import ParamSpec, TypeVar, cast

from splitdeconv.errors import SplitdeconvError, UsageError
from splitdeconv.targets.child import Child
from splitdeconv.targets.target import CompileError
from splitdeconv.workers.serve import serve

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

CHILDREN = 2  # at most: exporting the largest network takes a few gigabytes
PATIENCE_S = 3600.0


def in_child(function: Callable[Arguments, Value], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
    """Call ``function``, which pickle can name, in a child, which stays for the next call. Threads may call this.

    Raises:
        UsageError: with the message of the error that the function raised, or because the child died.
    """
    child = _idle().get()
    try:
        answer = child.ask(pickle.dumps((function, args, kwargs)))
    except CompileError as error:
        raise UsageError(f"the process that ran {function.__name__} ended by itself (memory?): {error}") from None
    finally:
        _idle().put(child)
    value, failure = pickle.loads(answer)  # noqa: S301  # from a process that this one started
    if isinstance(failure, str):
        raise UsageError(failure)
    if failure is not None:
        raise failure
    return cast("Value", value)


@cache
def _idle() -> LifoQueue[Child]:
    """The children that have nothing to do; the last one first, which has everything imported."""
    children: LifoQueue[Child] = LifoQueue()
    for _ in range(CHILDREN):
        children.put(Child(["-m", __name__], patience_s=PATIENCE_S))
    return children


def _call(request: bytes) -> bytes:
    """The value; or the error, of the project's own, which pickle cannot make again, the message."""
    function, args, kwargs = pickle.loads(request)  # noqa: S301  # from the process that started this one
    try:
        return pickle.dumps((function(*args, **kwargs), None))
    except SplitdeconvError as error:
        return pickle.dumps((None, str(error)))
    except Exception as error:
        return pickle.dumps((None, error))


if __name__ == "__main__":
    serve(_call)
