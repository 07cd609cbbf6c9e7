"""A convolution of a stretched map as a site: the node's attributes, its weights, and the deconv that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import onnx_ir as ir

from splitdeconv.deconv.spec import Deconv, WeightName
from splitdeconv.deconv.weights import Array, Weights, example_values
from splitdeconv.deconv.written import is_requantised, sums_weights
from splitdeconv.errors import InputError
from splitdeconv.formats.index_maps import taps_of_ones
from splitdeconv.formats.model import Origin, Site
from splitdeconv.formats.onnx.constants import constant, dims_of
from splitdeconv.formats.onnx.epilogue import Tail, find_tail
from splitdeconv.formats.onnx.geometry import RunTimeGeometryError, axes_from, conv_axes, read_attributes
from splitdeconv.formats.onnx.graph import MICROSOFT, STANDARD_DOMAINS, Place, integer, is_standard
from splitdeconv.formats.onnx.movement import MOVING, STRETCHING
from splitdeconv.formats.onnx.quantised import Qdq, quantised_notes
from splitdeconv.formats.onnx.quantised_stretched import on_the_way, read_stretched_qdq
from splitdeconv.formats.onnx.quantisers import UnsupportedError, stored_kernel
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.stretched import StretchedValue, ValueSearch
from splitdeconv.formats.stretched import Stretched
from splitdeconv.formats.written_convs import (
    CUT_OFF,
    QUANTISED_ANEW,
    ROUNDED_TWICE,
    SUMS_DO_NOT_FIT,
    SUMS_INTERPOLATED,
    UNLESS_ASKED,
    ConvGeometry,
)
from splitdeconv.results.plan import Skipped

COMPUTED_BIAS = "its bias is computed at run time: that of integers is rounded when a model is written"
HALF = "its weight is computed at run time, in 16 bits: their sums would be rounded several times"
WHOLE = 4  # bytes of float32
_ANY = 2**20  # an input size: of convolutions of stride 1 automatic pads do not depend on it


def conv_geometry(node: ir.Node, weight_shape: tuple[int, ...]) -> ConvGeometry | None:
    """The geometry of a convolution with a weight of ``weight_shape``; None where the node contradicts itself."""
    turned, kernel = is_standard(node, "ConvTranspose"), weight_shape[2:]
    rank = len(kernel)
    pads: list[tuple[int, int]]
    try:
        attributes = read_attributes(node)
        groups = attributes.get("group", 1)
        if turned:
            turned_axes = axes_from(attributes, kernel, [None] * rank)
            pads = [
                (axis.extent - 1 - axis.pad_begin, axis.extent - 1 - axis.pad_end + axis.output_pad)
                for axis in turned_axes
            ]
            sizes = [(axis.stride, axis.dilation) for axis in turned_axes]
        else:
            axes = conv_axes(attributes, kernel, [_ANY] * rank)
            pads, sizes = [(a.pad_begin, a.pad_end) for a in axes], [(a.stride, a.dilation) for a in axes]
    except (ValueError, RunTimeGeometryError):
        return None
    strides, dilations = zip(*sizes, strict=True)
    return ConvGeometry(tuple(kernel), strides, dilations, tuple(pads), groups, turned)


def stretched_at(place: Place, shapes: Shapes, numerics: str) -> StretchedValue | str | None:
    """The stretched map that the convolution at ``place`` reads; or why it is left alone; or None without one.

    Args:
        place: of any node.
        shapes: of the model's values.
        numerics: ``requantised`` where filters may be quantised anew.
    """
    node = place.node
    turned = is_standard(node, "ConvTranspose")
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or not (turned or is_standard(node, "Conv")) or place.in_function:
        return None
    if not _may_be_stretched(node.inputs[0], place.opset):
        return None
    shape = _weight_shape(weight, place.opset, shapes)
    geometry = None if shape is None or not 3 <= len(shape) <= 5 else conv_geometry(node, shape)
    if shape is None or geometry is None or (turned and max(geometry.strides) > 1):
        return None
    channels = shape[0] if turned else shape[1] * geometry.groups
    found = ValueSearch(place, geometry, channels, shapes).find()
    if found is not None and turned and constant(weight, place.opset) is None:
        return None  # operators split it as it stands
    return (_why_left(place, found, shapes, numerics) or found) if isinstance(found, Stretched) else found


def _may_be_stretched(value: ir.Value | None, opset: int) -> bool:
    """Whether a node that stretches may be among those through which ``value`` comes, by their operators alone."""
    left, known = [value], set[ir.Value]()
    while left:
        each = left.pop()
        node = None if each is None or each in known else each.producer()
        if each is None or node is None or node.domain not in (*STANDARD_DOMAINS, MICROSOFT):
            continue
        known.add(each)
        if node.op_type in STRETCHING and (node.op_type != "ConvTranspose" or _spreads(node, opset)):
            return True
        if node.op_type in MOVING:
            left.extend(node.inputs)
    return False


def _spreads(node: ir.Node, opset: int) -> bool:
    """Whether a ConvTranspose may put zeros between the pixels, and do nothing else."""
    kernel = constant(node.inputs[1], opset) if len(node.inputs) > 1 else None
    return kernel is None or taps_of_ones(kernel, integer(node, "group", 1)) is not None


def _weight_shape(weight: ir.Value, opset: int, shapes: Shapes) -> tuple[int, ...] | None:
    if weight.const_value is not None:
        return dims_of(weight.const_value)
    found = constant(weight, opset)
    stated = shapes.by_name.get(weight.name or "", ()) if found is None else found.shape
    known = tuple(size for size in stated or () if size is not None)
    return known if stated is not None and len(known) == len(stated) else None


def _why_left(place: Place, stretched: StretchedValue, shapes: Shapes, numerics: str) -> str | None:
    """Why a convolution of a stretched map stays because of how it is quantised, or None."""
    try:
        deconv = _deconv(stretched, shapes, stretched.geometry.groups)
        qdq = read_stretched_qdq(place, stretched, deconv.out_sizes)
    except ValueError:  # sizes that no deconv has: said where the site is read
        return None
    except UnsupportedError as reason:
        return str(reason)
    if qdq is not None and stretched.interpolation is not None:
        return SUMS_INTERPOLATED
    if qdq is None:
        return (
            "quantisers stand between its map and it, but it is not quantised itself" if on_the_way(stretched) else None
        )
    if stretched.part is not None:
        return ROUNDED_TWICE
    if not sums_weights(deconv):
        return None
    if "16" in qdq.quant().weight:
        return SUMS_DO_NOT_FIT
    return None if numerics == "requantised" else UNLESS_ASKED


def read_stretched_site(name: str, place: Place, stretched: StretchedValue, shapes: Shapes) -> Site | Skipped:
    """The convolution at ``place`` of a stretched map as a site, or the reason why it cannot be one.

    Raises:
        InputError: the node contradicts its input.
    """
    _, weight, bias_value = (*place.node.inputs, None)[:3]
    kernel, bias = constant(weight, place.opset), constant(bias_value, place.opset)
    run_time: tuple[WeightName, ...] = ()
    if kernel is None:
        run_time, kernel = ("kernel",), _example(weight, shapes)
    own = stretched.own_kernel(kernel)
    if bias_value is not None and bias is None:
        run_time = (*run_time, "bias")
        bias = example_values([own.shape[1] * stretched.geometry.groups], own.dtype)
    try:
        deconv = _deconv(stretched, shapes, own.shape[1] * stretched.geometry.groups)
    except ValueError as error:
        raise InputError(f"site '{name}': {error}") from None
    deconv = replace(deconv, dtype=own.dtype.name, has_bias=bias is not None, run_time=run_time)
    if sums_weights(deconv) and "kernel" in run_time and own.dtype.itemsize < WHOLE:
        return Skipped(name, place.where, HALF)
    tail: Tail | Qdq = find_tail(place, kernel.ndim, deconv.out_channels, deconv.out_sizes)
    weights = Weights(own, bias)
    qdq = read_stretched_qdq(place, stretched, deconv.out_sizes)
    if qdq is not None and run_time:
        return Skipped(name, place.where, COMPUTED_BIAS)
    if qdq is not None:
        stored = stretched.own_kernel(stored_kernel(qdq.kernel(place.opset)))
        weights = Weights(stored, qdq.read_bias(place.opset), qdq.values)
        deconv, tail = replace(deconv, dtype=qdq.values.x_type, quant=qdq.quant()), qdq
    if tail.crop is not None and stretched.interpolation is not None:
        return Skipped(name, place.where, CUT_OFF)
    if tail.crop is not None:
        deconv = deconv.cropped(tail.crop.begin, tail.crop.end)
    operators = tuple(stage.node.op_type for stage in tail.stages)
    notes = stretched.notes((node.op_type for node in stretched.nodes), lambda value: value.name or "")
    notes += quantised_notes(weights) if weights.quant else []
    notes += [run_time_note(run_time)] if run_time else []
    notes += [QUANTISED_ANEW] if is_requantised(deconv) else []
    return Site(name, Origin((place, stretched)), deconv, weights, operators, place.where, tuple(notes))


def run_time_note(run_time: Sequence[WeightName]) -> str:
    """What is done where a model computes parameters."""
    return f"computed at run time: its {' and '.join(run_time)}; operators make the filters in each run"


def _example(weight: ir.Value | None, shapes: Shapes) -> Array:
    """Values in the place of a weight that is computed at run time, of a known shape."""
    assert weight is not None, "the search leaves the others"
    sizes = shapes.by_name.get(weight.name or "") or ()
    dtype = weight.dtype or shapes.type_of(weight) or ir.DataType.FLOAT
    return example_values([size or 1 for size in sizes], dtype.numpy())


def _deconv(stretched: StretchedValue, shapes: Shapes, out_channels: int) -> Deconv:
    shape = shapes.of(stretched.source, len(stretched.shape))
    return stretched.deconv(shape, out_channels)
