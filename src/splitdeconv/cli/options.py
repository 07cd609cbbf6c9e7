"""The options of a command, from the fields of a request that tell their help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

import typer

from splitdeconv.cli.inputs import arrays, axes, pairs, shapes
from splitdeconv.pipeline.request import Help

Request = TypeVar("Request")

# Fields whose values are written in words of their own: the option's name, and what reads its words.
_READ: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "layers": ("layer", partial(pairs, "--layer")),
    "inputs": ("input", arrays),
    "in_shapes": ("input_shape", shapes),
    "stream": ("stream", axes),
}
_SHORTEST = 0.1  # seconds
_PLAIN = (bool, str, int, float, Path | None)


def _options(kind: type[object]) -> list[inspect.Parameter]:
    """An option for each field that tells its help; several values for what is no single one."""
    hints = get_type_hints(kind, include_extras=True)
    made = []
    for each in fields(kind):  # type: ignore[arg-type]
        base, *told = get_args(hints[each.name]) or (None,)
        if not told or not isinstance(told[-1], Help):
            continue
        several = base not in _PLAIN
        least = _SHORTEST if base is float else None
        # A switch that is off has no --no- of its own.
        switch = (f"--{each.name.replace('_', '-')}",) if base is bool and not each.default else ()
        option = typer.Option(*switch, help=told[-1].text, metavar=told[-1].metavar or None, min=least)
        annotation: Any = Annotated[(list[str] | None if several else base, option)]
        default = None if several or each.default is MISSING else each.default
        name, _ = _READ.get(each.name, (each.name, None))
        made.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    return made


def options_of(kind: type[object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, which takes them as ``**given``, an option for each field of a request."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(command, eval_str=True).parameters.values())[:-1]
        first = [each for each in own if each.kind is not inspect.Parameter.KEYWORD_ONLY]
        last = [each for each in own if each.kind is inspect.Parameter.KEYWORD_ONLY]
        parameters = [*first, *_options(kind), *last]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return decorate


def request_of(kind: type[Request], given: Mapping[str, Any], **more: Any) -> Request:
    """The request that the options' values stand for.

    Raises:
        UsageError, InputError: a value that cannot be read.
    """
    values = dict(more)
    for each in fields(kind):  # type: ignore[arg-type]
        name, read = _READ.get(each.name, (each.name, tuple if isinstance(each.default, tuple) else None))
        if name in given:
            values[each.name] = given[name] if read is None else read(given[name] or ())
    return kind(**values)
