"""What the user says of a model's inputs: shapes and arrays, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError, UsageError
from splitdeconv.files import Name

_SHAPE = re.compile(r"(?:(?P<name>.+)[=:])?(?P<sizes>\d+([,x]\d+)*)", re.ASCII)
_LARGEST = 2**31 - 1


def pairs(option: str, given: Sequence[str] | None) -> dict[str, str]:
    """``NAME=VALUE`` arguments.

    Raises:
        UsageError: one of them has no ``=``.
    """
    found = {}
    for each in given or ():
        name, equals, value = each.rpartition("=")
        if not equals or not name or not value:
            raise UsageError(f"{option} {each}: wanted NAME=VALUE")
        found[name] = value
    return found


def shapes(given: Sequence[str] | None) -> dict[str, list[tuple[int, ...]]]:
    """``NAME=1,3,224,224`` arguments, also with ``:`` or ``x``; a shape without a name has an empty one.

    Each name has its shapes in the order in which they were given.

    Raises:
        UsageError: not a list of positive whole numbers.
    """
    found: dict[str, list[tuple[int, ...]]] = {}
    for each in given or ():
        parts = _SHAPE.fullmatch(each.replace(" ", ""))
        sizes = [int(size) for size in re.split("[,x]", parts["sizes"])] if parts else []
        if parts is None or not all(0 < size <= _LARGEST for size in sizes):
            raise UsageError(f"--input-shape {each}: wanted whole numbers such as NAME=1,3,224,224")
        found.setdefault(parts["name"] or "", []).append(tuple(sizes))
    return found


def axes(given: Sequence[str] | None) -> dict[str, int]:
    """``NAME=AXIS`` arguments; an axis without a name has an empty one.

    Raises:
        UsageError: not the number of an axis.
    """
    found = {}
    for each in given or ():
        name, _, axis = each.rpartition("=")
        if not axis.isdecimal():
            raise UsageError(f"--stream {each}: wanted the number of an axis such as 2, or NAME=2")
        found[name] = int(axis)
    return found


def named_files(given: Sequence[str] | None) -> list[Name]:
    """The files of ``--input``."""
    return [("--input", Path(_file(each)[1])) for each in given or ()]


def _file(given: str) -> tuple[str, str]:
    """Name and file of one ``--input``; an archive has no name."""
    name, equals, file = given.rpartition("=")
    if not equals and file.endswith(".npz"):
        return "", file
    ((name, file),) = pairs("--input", [given]).items()
    return name, file


def arrays(given: Sequence[str] | None) -> dict[str, Array]:
    """The arrays of ``NAME=FILE.npy`` and ``FILE.npz``.

    Raises:
        InputError: a file that cannot be read as numpy writes it.
    """
    found: dict[str, Array] = {}
    for name, file in map(_file, given or ()):
        loaded = _load(file)
        if name and isinstance(loaded, dict):
            raise InputError(f"{file}: holds several arrays; wanted one, or --input {file} for all by their names")
        if not name and not isinstance(loaded, dict):
            raise InputError(f"{file}: holds one array without a name; wanted --input NAME={file}")
        found |= {name: loaded} if name else loaded
    return found


def _load(file: str) -> Any:
    """One array, or those of an archive by name."""
    try:
        loaded = np.load(file, allow_pickle=False)
        return {name: loaded[name] for name in loaded.files} if hasattr(loaded, "files") else loaded
    except Exception as error:  # a damaged file makes numpy, zipfile and zlib fail in many ways
        reason = " ".join(str(error).split())[:120]
        raise InputError(
            f"{file}: cannot be read ({reason}); wanted arrays as numpy.save or savez write them"
        ) from None
