"""The operators after a deconv that can be done inside it, before its output is put together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.schema import ACTIVATIONS
from splitdeconv.formats.tflite.units import same_unit, unit_of

_AFTER = {("", "RELU"), ("", "RELU6"), ("", "RELU_N1_TO_1"), ("RELU", "RELU"), ("RELU", "RELU6"), ("RELU6", "RELU6")}
_INT32 = np.iinfo(np.int32)
CROPS = ("STRIDED_SLICE", "SLICE")


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """What joins the deconv.

    Attributes:
        result: the tensor behind it all.
        operators: indices of the operators, in order.
        names: their names.
        activation: name of the activation of the whole, or empty.
        added: what is added to each output channel, in the unit of the stored bias, or None.
        begin, end: outputs that are cropped on each spatial axis.
        changes_bits: whether a rounding step goes away.
    """

    result: int
    operators: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    activation: str = ""
    added: Array | None = None
    begin: tuple[int, ...] = (0, 0)
    end: tuple[int, ...] = (0, 0)
    changes_bits: bool = False

    def add_to(self, bias: Array | None, channels: int) -> Array | None:
        """The bias, shape ``(channels,)``, with what the epilogue adds."""
        if self.added is None:
            return bias
        total = self.added if bias is None else bias + self.added
        return np.broadcast_to(total, (channels,)).astype(self.added.dtype)

    def applied(self, deconv: Deconv) -> Deconv:
        """The deconv with the epilogue's bias and crops."""
        axes = tuple(
            _cropped(axis, begin, end) for axis, begin, end in zip(deconv.axes, self.begin, self.end, strict=True)
        )
        return replace(deconv, axes=axes, has_bias=deconv.has_bias or self.added is not None)


def _cropped(axis: Axis, begin: int, end: int) -> Axis:
    """The axis without its outermost outputs; what output_pad adds goes first."""
    kept = max(0, axis.output_pad - end)
    pad_end = axis.pad_end + end - (axis.output_pad - kept)
    return Axis(axis.kernel, axis.stride, axis.dilation, axis.pad_begin + begin, pad_end, kept, axis.in_size)


def find_epilogue(graph: Graph, operator: int, numerics: str, axes: int = 2) -> Epilogue:
    """Follow the only reader of each output as long as it can join the deconv.

    Args:
        graph: the subgraph.
        operator: the deconv.
        numerics: ``exact`` keeps every rounding step of quantised models, ``fused`` does not.
        axes: number of spatial axes.
    """
    (output, *_) = graph.outputs_of(operator)
    fused = getattr(graph.operators[operator].builtinOptions, "fusedActivationFunction", 0)  # custom ones have none
    nothing = (0,) * axes
    found = Epilogue(output, activation=ACTIVATIONS[fused], begin=nothing, end=nothing)
    for reader in readers(graph, output):
        joined = _join(graph, operator, reader, found, numerics)
        if joined is None:
            break
        found = joined
    return found


def readers(graph: Graph, tensor: int) -> Iterator[int]:
    """The only reader of a tensor, that of what it makes, and so on."""
    reader = graph.only_consumer(tensor)
    while reader is not None and len(graph.outputs_of(reader)) == 1:
        yield reader
        reader = graph.only_consumer(graph.outputs_of(reader)[0])


def _join(graph: Graph, operator: int, reader: int, so_far: Epilogue, numerics: str) -> Epilogue | None:
    """The epilogue with ``reader`` in it, or None where it cannot join."""
    name = graph.name(reader)
    (result,) = graph.outputs_of(reader)
    longer = replace(so_far, result=result, operators=(*so_far.operators, reader), names=(*so_far.names, name))
    if name in CROPS:
        return _with_crop(graph, reader, longer) if same_unit(graph, so_far.result, result) else None
    if graph.shape(so_far.result) != graph.shape(result):
        return None
    quantised = graph.type_name(result) != "float32"
    rescales = quantised and not same_unit(graph, so_far.result, result)
    if rescales and (numerics != "fused" or not _same_type(graph, so_far.result, result)):
        return None
    if name == "ADD":
        if quantised and numerics != "fused":
            return None
        return _with_add(graph, operator, reader, longer, so_far.result)
    if name in ACTIVATIONS.values() and (so_far.activation, name) in _AFTER:
        return replace(longer, activation=name, changes_bits=so_far.changes_bits or rescales)
    return None


def _same_type(graph: Graph, left: int, right: int) -> bool:
    return graph.type_name(left) == graph.type_name(right)


def _with_crop(graph: Graph, reader: int, longer: Epilogue) -> Epilogue | None:
    """A slice that takes whole rows and columns off the outside."""
    source = graph.inputs_of(reader)[0]
    before, after = graph.shape(source), graph.shape(longer.result)
    bounds = [graph.content(tensor) for tensor in graph.inputs_of(reader)[1:]]
    if source != graph.inputs_of(reader)[0] or len(before) != 4 or len(after) != 4 or any(b is None for b in bounds):
        return None
    begins = _slice_begins(graph, reader, [b for b in bounds if b is not None], before)
    if begins is None or None in before[1:] or None in after[1:] or (before[0], before[3]) != (after[0], after[3]):
        return None
    begin = (begins[1], begins[2])
    sizes = zip(before[1:3], after[1:3], begin, strict=True)
    end = [old - new - first for old, new, first in sizes if old is not None and new is not None]
    leaves_nothing = 0 in after[1:3]
    if leaves_nothing or min(begin) < 0 or min(end) < 0 or begins[0] or begins[3]:
        return None
    return replace(
        longer,
        begin=(longer.begin[0] + begin[0], longer.begin[1] + begin[1]),
        end=(longer.end[0] + end[0], longer.end[1] + end[1]),
    )


def _slice_begins(graph: Graph, reader: int, bounds: list[Array], before: tuple[int | None, ...]) -> list[int] | None:
    """Where the slice begins on each axis, if its steps are 1 and it keeps the four axes."""
    if any(bound.size != 4 for bound in bounds):
        return None
    begins = [int(at) for at in bounds[0]]
    options = graph.operators[reader].builtinOptions
    if graph.name(reader) == "STRIDED_SLICE":
        if (
            options is None
            or len(bounds) != 3
            or options.ellipsisMask
            or options.newAxisMask
            or options.shrinkAxisMask
            or options.offset
        ):
            return None
        if any(int(step) != 1 for step in bounds[2]):
            return None
        begins = [0 if options.beginMask >> axis & 1 else at for axis, at in enumerate(begins)]
    return [at if at >= 0 or size is None else at + size for at, size in zip(begins, before, strict=True)]


def _with_add(graph: Graph, operator: int, reader: int, longer: Epilogue, source: int) -> Epilogue | None:
    """An addition of one constant for each channel, and its own activation."""
    others = [tensor for tensor in graph.inputs_of(reader) if tensor != source]
    constant = graph.content(others[0]) if len(others) == 1 else None
    options = graph.operators[reader].builtinOptions
    activation = ACTIVATIONS.get(0 if options is None else options.fusedActivationFunction)
    channels = graph.shape(source)[-1]
    if constant is None or activation is None or longer.activation or constant.size not in (1, channels):
        return None
    if constant.ndim and constant.shape[-1] != constant.size:
        return None
    added: Array | None = constant.reshape(-1)
    changes = longer.changes_bits
    if graph.type_name(source) != "float32":
        added, changes = _in_bias_units(graph, operator, others[0], constant.reshape(-1)), True
    if added is None:
        return None
    total = added if longer.added is None else longer.added + added
    return replace(longer, added=total, activation=activation, changes_bits=changes)


def _in_bias_units(graph: Graph, operator: int, tensor: int, constant: Array) -> Array | None:
    """A quantised constant in units of the deconv's bias, input scale times weight scale; None if it is too large."""
    operands = graph.inputs_of(operator)
    kernel, source = operands[1], operands[2 if graph.name(operator) == "TRANSPOSE_CONV" else 0]
    scales, zero = unit_of(graph.tensors[tensor])
    (in_scales, _), (weight_scales, _) = unit_of(graph.tensors[source]), unit_of(graph.tensors[kernel])
    if len(scales) != 1 or len(in_scales) != 1 or not weight_scales:
        return None
    real = (constant.astype(np.float64) - (zero[0] if zero else 0)) * scales[0]
    units = np.rint(real / (in_scales[0] * np.asarray(weight_scales, np.float64)))
    wide = graph.type_name(source) == "int16"
    if not np.all(np.isfinite(units)) or (not wide and np.any(np.abs(units) > _INT32.max // 2)):
        return None
    return units.astype(np.int64 if wide else np.int32)
