"""Arguments of the Python API: those of a wrong type are refused before anything is done.

What is wanted is what the functions' own annotations say. Only this much of Python's types is read: texts, numbers,
paths, mappings, sequences, tuples, callables, classes, and one or another of these.
"""

from __future__ import annotations

import inspect
import numbers
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, wraps
from pathlib import Path
from types import UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin

from splitdeconv.errors import UsageError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_LONGEST = 60  # characters of a value in a message
_NUMBERS: Mapping[Any, type] = {int: numbers.Integral, float: numbers.Real}
_WORDS: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    Path: "a path",
    type(None): "None",
}


def checked(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """``function``, which raises UsageError for an argument that is not of the annotated type."""
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        wanted = _annotations(function)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if not _fits(value, wanted[name]):
                found = f"{function.__name__}: {name} is {_shown(value)}"
                raise UsageError(f"{found}; wanted {_in_words(wanted[name])}")
        return function(*args, **kwargs)

    return call


class _Names(dict[str, Any]):
    """What annotations mean by a name; a class that is imported for the type checker only stands for anything."""

    def __missing__(self, name: str) -> object:
        return object


@cache
def _annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
    names = _Names(vars(sys.modules["builtins"]) | vars(sys.modules[function.__module__]))
    parameters = inspect.signature(function).parameters
    return {name: eval(each.annotation, {}, names) for name, each in parameters.items()}  # noqa: S307  # our own code


def _fits(value: Any, wanted: Any) -> bool:
    origin, inner = get_origin(wanted), get_args(wanted)
    if wanted in (Any, object):
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Mapping:
        return isinstance(value, Mapping) and _all_fit(value, inner[0]) and _all_fit(value.values(), inner[1])
    if origin in (Sequence, tuple):
        return isinstance(value, Sequence) and not isinstance(value, str | bytes) and _all_fit(value, inner[0])
    if origin is Callable:
        return callable(value)
    return isinstance(value, _NUMBERS.get(wanted, wanted)) and (wanted is bool or not isinstance(value, bool))


def _all_fit(values: Iterable[Any], wanted: Any) -> bool:
    return all(_fits(each, wanted) for each in values)


def _in_words(wanted: Any) -> str:
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return " or ".join(_in_words(each) for each in inner)
    if origin is Mapping:
        return f"a mapping from {_plural(inner[0])} to {_plural(inner[1])}"
    if origin in (Sequence, tuple):
        return f"a list of {_plural(inner[0])}"
    if origin is Callable:
        return "a function"
    return _WORDS.get(wanted, f"a {wanted.__name__} of {wanted.__module__.partition('.')[0]}")


def _plural(wanted: Any) -> str:
    if wanted in (Any, object):
        return "values"
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join(_plural(each) for each in get_args(wanted))
    if get_origin(wanted) in (Sequence, tuple):
        return f"lists of {_plural(get_args(wanted)[0])}"
    return {str: "texts", int: "whole numbers"}.get(wanted, f"each {_in_words(wanted)}")


def _shown(value: Any) -> str:
    """A value with its type; of a large one, only that."""
    text = repr(value) if isinstance(value, str | bytes | int | float | list | tuple | dict | None) else ""
    kind = type(value).__name__
    return f"{text} ({kind})" if text and len(text) <= _LONGEST else f"of type {kind}"
