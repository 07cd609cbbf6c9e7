"""The work of a whole model for a processor: its layers with their zeros, and the data movement between them.

The model is taken as it is, whatever lowering it holds: zeros of padding and zero insertion are found by following
the input through data movement, those of filters in the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from splitdeconv.accelerator.layers import plain_work
from splitdeconv.accelerator.lowered import move, phase_by_phase, scattered
from splitdeconv.accelerator.work import Convolution, LayerWork, Line, outer
from splitdeconv.deconv.layers import PlainConv
from splitdeconv.deconv.network import Layer, Operation, Operations
from splitdeconv.deconv.ops import (
    Concat,
    DepthToSpace,
    Pad,
    Part,
    Relayout,
    Reshape,
    Slice,
    Transpose,
    channel_axis,
    spatial_axes,
)
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array

MOVING = Pad | Slice | Transpose | Concat | DepthToSpace | Part
FOLLOWED = 1 << 26  # elements; larger maps are taken to have no zeros


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """Where a tensor's elements come from, and where it is not zero (None: nowhere known to be zero)."""

    root: str
    elements: int
    occupied: Array | None = None


def model_works(operations: Operations, deconv: str) -> tuple[LayerWork, ...]:
    """One entry for each convolution, matrix product or deconv; convolutions of one input are one entry.

    Args:
        operations: of the model.
        deconv: how the processor runs deconvs (``none``, ``scattered``, ``phases``).

    Raises:
        ValueError: it holds a deconv, and the processor has none; or there is nothing to estimate.
    """
    values: dict[str, _Value] = {}
    works: dict[str, LayerWork] = {}
    for step in operations.steps:
        values[step.output] = _value(step, values)
        if isinstance(step.what, Layer):
            source = _source(step, values)
            work = _work(step.what, source, operations, deconv)
            key = source.root if isinstance(step.what.spec, PlainConv) else step.output
            works[key] = _joined(works[key], work) if key in works else work
    if not works:
        raise ValueError("no convolution, matrix product or deconv: nothing to estimate")
    first, *others = works.values()
    read = {name for step in operations.steps for name in step.inputs}
    outputs = sum(prod(step.shape) for step in operations.steps if step.output not in read)
    kept = first.out_elements if others else min(first.out_elements, outputs)  # what a lone layer's crop leaves
    elements, run = _moved(operations)
    return (replace(first, out_elements=kept, run_elements=run, moved_elements=elements), *others)


def _work(layer: Layer, source: _Value, operations: Operations, deconv: str) -> LayerWork:
    if isinstance(layer.spec, Deconv):
        if deconv == "none":
            raise ValueError(f"{layer.name}: the processor has no deconv of its own")
        return (scattered if deconv == "scattered" else phase_by_phase)(layer.spec, layer.nonzero)
    work = plain_work(layer)
    if source.occupied is None or not isinstance(layer.spec, PlainConv):
        return work
    (conv,) = work.convolutions
    lines = _zeros(conv.lines, source.occupied, operations)
    channels = conv.in_channels, conv.out_channels
    found = Convolution(lines, *channels, conv.groups, conv.batch, weights=conv.weights)
    return LayerWork((found,), min(source.elements, work.in_elements), work.in_elements, work.out_elements)


def _zeros(lines: tuple[Line, ...], occupied: Array, operations: Operations) -> tuple[Line, ...]:
    """The axes with the zeros of ``occupied``, a map of the model's layout, where these are a product over the axes."""
    spatial = spatial_axes(operations.layout, occupied.ndim)
    over = {axis: tuple(other for other in range(occupied.ndim) if other != axis) for axis in spatial}
    axes: list[Array] = [np.asarray(occupied.any(axis=others)) for others in over.values()]
    if not np.array_equal(outer(axes), occupied.any(axis=tuple(set(range(occupied.ndim)) - set(spatial)))):
        return lines
    found = []
    for line, axis in zip(lines, axes, strict=True):
        begin = line.occupied.index(1)
        end = len(line.occupied) - begin - len(axis)
        pixels = bytes(begin) + axis.astype(np.uint8).tobytes() + bytes(max(0, end))
        kept = pixels if len(pixels) == len(line.occupied) else line.occupied
        found.append(Line(kept, line.kernel, line.stride, line.dilation, len(axis)))
    return tuple(found)


def _joined(first: LayerWork, second: LayerWork) -> LayerWork:
    """Two convolutions of one input: it is fetched once."""
    return LayerWork(
        (*first.convolutions, *second.convolutions),
        first.in_elements,
        max(first.stretched_elements, second.stretched_elements),
        first.out_elements + second.out_elements,
    )


def _moved(operations: Operations) -> tuple[int, int]:
    """Elements that data movement behind convolutions reads and writes, and the shortest run that it writes."""
    rank = len(operations.steps[0].in_shape)
    total = 0
    runs: list[int] = []
    behind: set[str] = set()
    for step in operations.steps:
        layer = isinstance(step.what, Layer) and isinstance(step.what.spec, PlainConv | Deconv)
        if not layer and behind.isdisjoint(step.inputs):
            continue
        behind.add(step.output)
        if isinstance(step.what, MOVING) and step.shape:
            total += 2 * prod(step.shape)
            if isinstance(step.what, DepthToSpace) or (isinstance(step.what, Transpose) and len(step.shape) > rank):
                runs.append(step.shape[channel_axis(operations.layout, len(step.shape))])
    return total, min(runs, default=0)


def _source(step: Operation, values: Mapping[str, _Value]) -> _Value:
    """The map that an operation reads; the first to read it states its size."""
    name = step.inputs[0] if step.inputs else step.output
    return values.get(name) or _Value(name, prod(step.in_shape))


def _value(step: Operation, values: Mapping[str, _Value]) -> _Value:
    source, anew = _source(step, values), _Value(step.output, prod(step.shape))
    if isinstance(step.what, Relayout):
        return source
    if not isinstance(step.what, Pad | Slice | Reshape | Transpose) or anew.elements > FOLLOWED:
        return anew
    occupied = np.ones(step.in_shape, bool) if source.occupied is None else source.occupied
    try:
        moved = move(step.what, occupied)
    except ValueError:  # its numbers are no constants
        return anew
    return replace(source, occupied=moved) if moved.shape == step.shape else replace(source, occupied=None)
