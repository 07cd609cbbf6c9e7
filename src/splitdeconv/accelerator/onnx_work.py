"""The work of any ONNX model for a processor: its convolutions with their zeros, and the data movement between them.

Unlike ``onnx_layers`` this takes the model as it is, whatever lowering it holds, and finds zeros by itself: those of
padding and zero insertion by following the input through data movement, those of filters in the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from splitdeconv.accelerator.layers import Layer, plain_work
from splitdeconv.accelerator.lowered import phase_by_phase, scattered
from splitdeconv.accelerator.onnx_layers import Tensors, layer_of, read_tensors
from splitdeconv.accelerator.work import Convolution, LayerWork, Line
from splitdeconv.deconv.layers import PlainConv
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array

PASSING = {"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Relu", "LeakyRelu", "Clip"}
MOVING = {"Pad", "Slice", "Reshape", "Transpose", "Concat", "DepthToSpace", "Squeeze", "Unsqueeze", "Split"}
FOLLOWED = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class _Value:
    """Where a tensor's elements come from, and where it is not zero (None: nowhere known to be zero)."""

    root: str
    occupied: Array | None = None


def model_works(model: Any, label: str, deconv: str) -> tuple[LayerWork, ...]:
    """One entry for each convolution, matrix product or deconv; convolutions of one input are one entry.

    Args:
        model: with known sizes.
        label: for messages.
        deconv: how the processor runs deconvs (``none``, ``scattered``, ``phases``).

    Raises:
        InputError: a size stays unknown, or the model is wrong.
        ValueError: it holds a deconv, and the processor has none.
    """
    tensors = read_tensors(model, {})
    values = {each.name: _Value(each.name) for each in tensors.model.graph.input}
    works: dict[str, LayerWork] = {}
    for node in tensors.model.graph.node:
        for output in node.output:
            values[output] = _value(node, output, values, tensors)
        layer = layer_of(node, tensors, label)
        if layer is None:
            continue
        source = values.get(node.input[0], _Value(node.input[0]))
        work = _work(layer, source, tensors, deconv)
        key = source.root if isinstance(layer.spec, PlainConv) else node.output[0]
        works[key] = _joined(works[key], work) if key in works else work
    if not works:
        raise ValueError("no convolution, matrix product or deconv: nothing to estimate")
    first, *others = works.values()
    outputs = sum(prod(tensors.shapes.get(each.name, ())) for each in tensors.model.graph.output)
    kept = first.out_elements if others else min(first.out_elements, outputs)  # what a lone layer's crop leaves
    elements, run = _moved(tensors)
    return (replace(first, out_elements=kept, run_elements=run, moved_elements=elements), *others)


def _work(layer: Layer, source: _Value, tensors: Tensors, deconv: str) -> LayerWork:
    if isinstance(layer.spec, Deconv):
        if deconv == "none":
            raise ValueError(f"{layer.name}: the processor has no deconv of its own")
        return (scattered if deconv == "scattered" else phase_by_phase)(layer.spec, layer.nonzero)
    work = plain_work(layer)
    if source.occupied is None or not isinstance(layer.spec, PlainConv):
        return work
    (conv,) = work.convolutions
    lines = _zeros(conv.lines, source.occupied)
    real = prod(tensors.shapes.get(source.root, (work.in_elements,)))
    channels = conv.in_channels, conv.out_channels
    found = Convolution(lines, *channels, conv.groups, conv.batch, weights=conv.weights)
    return LayerWork((found,), min(real, work.in_elements), work.in_elements, work.out_elements)


def _zeros(lines: tuple[Line, ...], occupied: Array) -> tuple[Line, ...]:
    """The axes with the zeros of ``occupied`` ``(N, C, *sizes)``, where these are a product over the axes."""
    spatial: Array = np.asarray(occupied.any(axis=(0, 1)))
    axes: list[Array] = []
    for place in range(spatial.ndim):
        others = tuple(number for number in range(spatial.ndim) if number != place)
        axes.append(np.asarray(spatial.any(axis=others)))
    product: Array = np.ones((), bool)
    for axis in axes:
        product = np.multiply.outer(product, axis)
    if not np.array_equal(product, spatial):
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


def _moved(tensors: Tensors) -> tuple[int, int]:
    """Elements that data movement behind convolutions reads and writes, and the shortest run that it writes."""
    rank = len(tensors.shapes.get(tensors.model.graph.input[0].name, ()))
    total, runs, behind = 0, [], set()
    for node in tensors.model.graph.node:
        if node.op_type in ("Conv", "QLinearConv", "ConvTranspose"):
            behind.update(node.output)
        elif any(name in behind for name in node.input):
            behind.update(node.output)
            if node.op_type in MOVING - {"Reshape", "Squeeze", "Unsqueeze"}:
                shape = tensors.shapes.get(node.output[0], ())
                total += 2 * prod(shape)
                if node.op_type == "DepthToSpace":
                    runs.append(shape[1])
                if node.op_type == "Transpose" and len(shape) > rank:
                    runs.append(shape[1])
    return total, min(runs, default=0)


def _value(node: Any, output: str, values: Mapping[str, _Value], tensors: Tensors) -> _Value:
    source = values.get(node.input[0]) if node.input else None
    shape = tensors.shapes.get(output, ())
    if (
        source is None
        or node.op_type not in PASSING | {"Pad", "Slice", "Reshape", "Transpose"}
        or prod(shape) > FOLLOWED
    ):
        return _Value(output)
    if node.op_type in PASSING:
        return source
    before = tensors.shapes.get(node.input[0], ())
    occupied = np.ones(before, bool) if source.occupied is None else source.occupied
    try:
        moved = _move(node, occupied, shape, tensors)
    except (KeyError, ValueError):  # its parameters are not constant
        return _Value(output)
    return _Value(source.root, moved if moved.shape == shape else None)


def _move(node: Any, occupied: Array, shape: tuple[int, ...], tensors: Tensors) -> Array:
    if node.op_type == "Reshape":
        return occupied.reshape(shape)
    if node.op_type == "Transpose":
        perm = tensors.attributes(node).get("perm")
        return np.transpose(occupied, perm)
    if node.op_type == "Pad":
        pads = tensors.constants[node.input[1]].tolist()
        rank = len(pads) // 2
        return np.pad(occupied, list(zip(pads[:rank], pads[rank:], strict=True)))
    starts, ends, axes = (tensors.constants[node.input[n]].tolist() for n in (1, 2, 3))
    cuts = [slice(None)] * occupied.ndim
    for start, end, axis in zip(starts, ends, axes, strict=True):
        cuts[axis] = slice(start, end)
    cut: Array = occupied[tuple(cuts)]
    return cut
