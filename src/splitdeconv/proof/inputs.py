"""Inputs for a model: random ones, and checks of those that the user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Input

OPEN_SIZES = (64, 96)  # for spatial sizes that the model leaves open: multiples of 32, as most encoders want
OPEN_BATCH = (1, 2)


def random_inputs(inputs: Sequence[Input], shapes: Mapping[str, tuple[int, ...]], trial: int) -> dict[str, Array] | str:
    """Random inputs, or the reason why they cannot be made: between 0 and 1 in even tries, standard normal in odd ones.

    Args:
        inputs: of the model.
        shapes: for inputs whose shape is open or is to be another.
        trial: number of the try; open sizes differ from one to the next.
    """
    rng = np.random.default_rng(trial)
    feeds = {}
    for each in inputs:
        if each.fixed:
            feeds[each.name] = np.array(each.fixed, np.dtype(each.dtype))
            continue
        if not each.quantised and each.dtype not in ("float16", "bfloat16", "float32", "float64"):
            return (
                f"input '{each.name}' is {each.dtype}, whose valid values are not known: give --input {each.name}=x.npy"
            )
        shape = shapes.get(each.name)
        if shape is None and each.shape is None:
            return f"input '{each.name}' has no stated shape: give --input-shape {each.name}=…"
        if shape is None:
            assert each.shape is not None
            shape = tuple(size or _open_size(axis, trial) for axis, size in enumerate(each.shape))
        if each.quantised:
            limits = np.iinfo(np.dtype(each.dtype))
            feeds[each.name] = rng.integers(limits.min, limits.max, shape, np.dtype(each.dtype), endpoint=True)
            continue
        drawn = rng.standard_normal(shape, np.float32) if trial % 2 else rng.random(shape, np.float32)
        feeds[each.name] = drawn.astype(np.dtype(each.dtype))
    return feeds


def _open_size(axis: int, trial: int) -> int:
    return (OPEN_BATCH if axis == 0 else OPEN_SIZES)[trial % 2]


def check_inputs(inputs: Sequence[Input], given: Mapping[str, Array]) -> None:
    """Check that the user's arrays fit the model's inputs.

    Raises:
        UsageError: an array for an input that is not there, or of another type or shape.
    """
    known = {each.name: each for each in inputs}
    for name, array in given.items():
        if name not in known:
            raise UsageError(f"--input {name}: the model has no such input; it has {', '.join(known) or 'none'}")
        wanted = known[name]
        if array.dtype.name != wanted.dtype:
            raise UsageError(f"--input {name}: the array is {array.dtype.name}, the model wants {wanted.dtype}")
        shape = wanted.shape
        fits = shape is None or (
            len(shape) == array.ndim and all(size in (None, n) for size, n in zip(shape, array.shape, strict=True))
        )
        if not fits:
            raise UsageError(f"--input {name}: the array has shape {list(array.shape)}, the model wants {shape}")


def check_shapes(inputs: Sequence[Input], given: Mapping[str, tuple[int, ...]]) -> None:
    """Check that the user's shapes fit the model's inputs.

    Raises:
        UsageError: a shape for an input that is not there, or of another rank.
    """
    known = {each.name: each.shape for each in inputs}
    for name, shape in given.items():
        if name not in known:
            raise UsageError(f"--input-shape {name}: the model has no such input; it has {', '.join(known) or 'none'}")
        wanted = known[name]
        if wanted is not None and len(wanted) != len(shape):
            text = "×".join("?" if size is None else str(size) for size in wanted)
            raise UsageError(f"--input-shape {name}: has {len(shape)} sizes, the model's input is {text}")
