"""Inputs for a model: random ones, and checks of those that the user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Input, Model
from splitdeconv.formats.open_sizes import LARGEST_INPUT, definite, open_shapes, that_fit
from splitdeconv.workers.arrays import dtype_of

# For spatial sizes that the model leaves open, the first that do not make an input too large: multiples of 32, as most
# encoders want, as long as that is possible.
OPEN_SIZES = ((64, 32, 16, 8), (96, 64, 32, 16, 8))
OPEN_BATCH = (1, 2)
OPEN_VOLUMES = ((32, 16, 8), (48, 24, 12))
LARGEST_VOLUME = 2**18  # elements of an input
# Upsamplings make 4 to some thousand times as many elements, and the proof holds several copies of them in float64.
LARGEST_MAPS = 2**26  # bytes that maps take at once
_STEPS = 3  # sizes that are tried
_VOLUME_AXES = 5
SMALL = 4  # whole numbers are drawn below it in odd tries, and are 0 in even ones
_WHOLE = "iub"  # kinds of NumPy's types ...
_DRAWN = "f" + _WHOLE  # ... of which values can be drawn


def random_inputs(inputs: Sequence[Input], shapes: Mapping[str, tuple[int, ...]], trial: int) -> dict[str, Array] | str:
    """Random inputs, or the reason why they cannot be made: between 0 and 1 in even tries, standard normal in odd ones.

    Args:
        inputs: of the model.
        shapes: for inputs whose shape is open or is to be another, as of :func:`with_open_sizes`.
        trial: number of the try; open sizes differ from one to the next.
    """
    rng = np.random.default_rng(trial)
    feeds = {}
    for each in inputs:
        if each.fixed:
            feeds[each.name] = np.array(each.fixed, np.dtype(each.dtype))
            continue
        if each.unknown:
            return each.unknown
        if dtype_of(each.dtype).kind not in _DRAWN and each.dtype != "bfloat16":
            return f"input '{each.name}' is {each.dtype}, for which nothing is drawn: give --input {each.name}=x.npy"
        shape = shapes.get(each.name)
        if shape is None and each.shape is None:
            return f"input '{each.name}' has no stated shape: give --input-shape {each.name}=…"
        if shape is None:
            assert each.shape is not None
            shape = definite(each.shape, OPEN_BATCH[trial % 2], OPEN_SIZES[trial % 2])
        if each.quantised:
            limits = np.iinfo(np.dtype(each.dtype))
            feeds[each.name] = rng.integers(limits.min, limits.max, shape, np.dtype(each.dtype), endpoint=True)
            continue
        if dtype_of(each.dtype).kind in _WHOLE:  # time steps, numbers of words, masks: small ones are valid mostly
            feeds[each.name] = rng.integers(0, SMALL if trial % 2 else 1, shape).astype(np.dtype(each.dtype))
            continue
        drawn = rng.standard_normal(shape, np.float32) if trial % 2 else rng.random(shape, np.float32)
        feeds[each.name] = drawn.astype(np.dtype(each.dtype))
    return feeds


def with_open_sizes(model: Model, shapes: Mapping[str, tuple[int, ...]], trial: int) -> dict[str, tuple[int, ...]]:
    """``shapes``, and for what the model leaves open the first sizes with which its maps are not too large."""
    left = open_shapes(model, shapes)
    if not left:
        return dict(shapes)
    ladder = ({name: _smaller(shape, trial, skipped) for name, shape in left.items()} for skipped in range(_STEPS))
    return {**shapes, **that_fit(model, shapes, ladder, LARGEST_MAPS)}


def _smaller(shape: tuple[int | None, ...], trial: int, skipped: int) -> tuple[int, ...]:
    """An open shape with one of the sizes for its rank, or a later one that makes no input too large."""
    sizes, largest = (OPEN_VOLUMES, LARGEST_VOLUME) if len(shape) == _VOLUME_AXES else (OPEN_SIZES, LARGEST_INPUT)
    return definite(shape, OPEN_BATCH[trial % 2], sizes[trial % 2][skipped:], largest)


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
        if not isinstance(array, np.ndarray):
            raise UsageError(f"--input {name}: is a {type(array).__name__}, wanted a NumPy array")
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
