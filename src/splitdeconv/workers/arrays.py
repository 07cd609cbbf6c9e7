"""Arrays between two processes: a file with their bytes, and a list that says which lies where."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64  # bytes; kernels read whole cache lines

Listed = dict[str, Any]
AnyArray = npt.NDArray[Any]


def write(path: str | Path, arrays: Iterable[tuple[str, AnyArray]]) -> list[Listed]:
    """Write arrays one after the other; gives ``name``, ``dtype``, ``shape`` and ``at`` (bytes) of each.

    Text has no bytes: its words stand in the list, under ``text``.
    """
    listed: list[Listed] = []
    with Path(path).open("wb") as file:
        for name, array in arrays:
            if array.dtype.kind in "OUS":
                listed.append({"name": name, "shape": array.shape, "text": [str(each) for each in array.ravel()]})
                continue
            file.write(bytes(-file.tell() % _ALIGNMENT))
            listed.append({"name": name, "dtype": array.dtype.name, "shape": array.shape, "at": file.tell()})
            file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return listed


def read(path: str | Path, listed: Iterable[Mapping[str, Any]]) -> dict[str, AnyArray]:
    """The arrays that :func:`write` wrote, by name and in order."""
    content = np.fromfile(path, np.uint8)
    return {each["name"]: _array(content, each) for each in listed}


def _array(content: npt.NDArray[np.uint8], listed: Mapping[str, Any]) -> AnyArray:
    shape: list[int] = listed["shape"]
    if "text" in listed:
        words: AnyArray = np.array(listed["text"], object)
        return words.reshape(shape)
    dtype, start = dtype_of(listed["dtype"]), listed["at"]
    stored: AnyArray = content[start : start + dtype.itemsize * math.prod(shape)].view(dtype)
    return stored.reshape(shape)


def dtype_of(name: str) -> np.dtype[Any]:
    """The type of that name, among them those that ``ml_dtypes`` adds to NumPy's."""
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes  # noqa: PLC0415  # a tenth of a second that few models need

        added: type[Any] = getattr(ml_dtypes, name)
        return np.dtype(added)


def named(name: str, value: object) -> Iterator[tuple[str, AnyArray]]:
    """The arrays in one output: itself, or ``name[0]``, ``name[1]`` … of a sequence; none of an empty optional."""
    if isinstance(value, list | tuple):
        for number, each in enumerate(value):
            yield from named(f"{name}[{number}]", each)
    elif value is not None:
        yield name, np.asarray(value)
