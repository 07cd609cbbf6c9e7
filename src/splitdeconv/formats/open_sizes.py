"""Definite sizes for inputs that a model leaves open, for measuring and counting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Input, Model, Site

# What open spatial sizes are taken to be for measuring: about a second of sound at 16 kHz, or of frames that have many
# channels; an ordinary picture; a small volume.
WAVEFORM, FRAMES, PICTURE, VOLUME = 16_384, 256, 256, 64
WAVEFORM_CHANNELS = 4  # at most: microphones, or axes of a seismometer
InShapes = Mapping[str, tuple[int, ...] | Sequence[tuple[int, ...]]]  # a shape of each input, or several
LARGEST_INPUT = 2**22  # elements, of an input with assumed sizes
LARGEST_MAPS = 2**27  # bytes that maps take at once at assumed sizes: two upsamplings make a volume 64 times as large
_HALVED = 4  # times at most that assumed sizes are


def definite_shapes(
    model: Model, in_shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, tuple[int, ...]], tuple[str, ...]]:
    """A shape for every input that the model leaves open, and a note on what was assumed."""
    left = open_shapes(model, in_shapes)
    if not left:
        return dict(in_shapes), ()
    ladder = ({name: _assumed(shape, halved) for name, shape in left.items()} for halved in range(_HALVED))
    assumed = that_fit(model, in_shapes, ladder, LARGEST_MAPS)
    named = (f"'{name}' {'×'.join(map(str, shape))}" for name, shape in assumed.items())
    note = f"measured with assumed sizes for {', '.join(named)}; --input-shape sets others"
    return {**in_shapes, **assumed}, (note,)


def open_shapes(model: Model, in_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int | None, ...]]:
    """The inputs that the model leaves open and for which there is no shape."""
    named = ((each.name, each.shape) for each in model.inputs() if each.name not in in_shapes)
    return {name: shape for name, shape in named if shape is not None and None in shape}


def that_fit(
    model: Model,
    in_shapes: Mapping[str, tuple[int, ...]],
    ladder: Iterable[dict[str, tuple[int, ...]]],
    largest: int,
) -> dict[str, tuple[int, ...]]:
    """The first shapes of a ladder with which the model's maps take at most ``largest`` bytes at once, or the last.

    Args:
        model: whose maps.
        in_shapes: of the other inputs.
        ladder: shapes of some inputs, the largest first.
        largest: in bytes; where nobody can tell what maps take, the first shapes are taken.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for shapes in ladder:
        if (model.peak_bytes({**in_shapes, **shapes}) or 0) <= largest:
            break
    return shapes


def named_shapes(model: Model, in_shapes: InShapes) -> dict[str, tuple[int, ...]]:
    """The shapes of each input, one a piece, with the name of the only input in place of an empty one.

    Raises:
        UsageError: there is an empty name, and not exactly one input; or an input has several shapes.
    """
    first, *others = sizes_together(model, in_shapes)
    if others:
        raise UsageError(f"--input-shape: {1 + len(others)} sizes; wanted one: only convert takes several")
    return first


def sizes_together(model: Model, in_shapes: InShapes) -> tuple[dict[str, tuple[int, ...]], ...]:
    """The shapes of all inputs that go together, one set or several; names as of :func:`named_shapes`.

    The first shapes of all inputs are one set, the second another; an input of one shape has it in all of them.

    Raises:
        UsageError: there is an empty name, and not exactly one input; or inputs have different numbers of shapes.
    """
    shapes = {name: _listed(given) for name, given in in_shapes.items()}
    if "" in shapes:
        names = [each.name for each in model.inputs()]
        if len(names) != 1:
            raise UsageError(f"--input-shape without a name: the model has {len(names)} inputs ({', '.join(names)})")
        shapes[names[0]] = [*shapes.get(names[0], ()), *shapes.pop("")]
    count = max(map(len, shapes.values()), default=1)
    for name, given in shapes.items():
        if len(given) not in (1, count):
            raise UsageError(
                f"--input-shape {name}: {len(given)} sizes, another input has {count}; wanted as many, or one"
            )
    sets = [{name: given[place % len(given)] for name, given in shapes.items()} for place in range(count)]
    return tuple({tuple(each.items()): each for each in sets}.values())


def _listed(given: tuple[int, ...] | Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """One shape or several as a list, in Python's integers."""
    several = [tuple(map(int, each)) for each in given if isinstance(each, Sequence)]
    return several or [tuple(int(size) for size in given if not isinstance(size, Sequence))]


def _assumed(shape: tuple[int | None, ...], halved: int) -> tuple[int, ...]:
    """An open shape with definite sizes: batch 1, and ordinary spatial sizes for its rank, ``halved`` times or more."""
    channels = shape[1] if len(shape) > 1 else None
    frames = WAVEFORM if channels and channels <= WAVEFORM_CHANNELS else FRAMES
    wanted = {3: frames, 4: PICTURE}.get(len(shape), VOLUME)
    return definite(shape, 1, tuple(wanted >> times for times in range(halved, _HALVED)))


def definite(
    shape: tuple[int | None, ...], batch: int, sizes: Sequence[int], largest: int = LARGEST_INPUT
) -> tuple[int, ...]:
    """An open shape with the first of ``sizes`` with which it has at most ``largest`` elements."""
    shapes = [tuple(known or (size if axis else batch) for axis, known in enumerate(shape)) for size in sizes]
    return next((each for each in shapes if math.prod(each) <= largest), shapes[-1])


def with_batch_of_one(inputs: Sequence[Input], in_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes given, and one with a batch of 1 for each other input that leaves its batch open and nothing else."""
    single = {each.name: (1, *(size or 0 for size in each.shape[1:])) for each in inputs if each.shape}
    open_batch = {each.name for each in inputs if each.shape and each.shape[0] is None}
    return {name: shape for name, shape in single.items() if name in open_batch and 0 not in shape} | dict(in_shapes)


def with_sizes(sites: Sequence[Site], sized: Sequence[Site]) -> list[Site]:
    """Each of the sites with definite sizes; as it is where it cannot be rewritten with them."""
    known = {site.id: site for site in sized}
    return [known.get(site.id, site) for site in sites]
