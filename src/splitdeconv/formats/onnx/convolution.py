"""A convolution of a stretched map as a site: the node's attributes, its weights, and the deconv that they make."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.spec import Deconv, WrittenOut
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.deconv.written import goes_before, has_holes, stretched_axis
from splitdeconv.errors import InputError
from splitdeconv.formats.model import Origin, Site
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.epilogue import find_tail
from splitdeconv.formats.onnx.geometry import RunTimeGeometryError, axes_from, conv_axes, read_attributes
from splitdeconv.formats.onnx.graph import MICROSOFT, STANDARD_DOMAINS, Place, is_standard
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.stretched import Stretched, find_part, find_stretched
from splitdeconv.results.plan import Skipped

_QUANTISERS = ("DequantizeLinear", "QuantizeLinear")
_ANY = 2**20  # an input size: of convolutions of stride 1 automatic pads do not depend on it


@dataclass(frozen=True)
class ConvGeometry:
    """What a Conv, or a ConvTranspose of stride 1, does; all lists by spatial axis.

    Attributes:
        kernel, strides, dilations: of the convolution.
        pads: zeros before and behind its input.
        groups: of channels.
        turned: whether it is a ConvTranspose, whose taps come in the other order.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    groups: int
    turned: bool

    def own_kernel(self, weight: Array) -> Array:
        """The node's weight as a kernel IOHW with the convolution's taps in their order."""
        if self.turned:
            return np.flip(weight, axis=tuple(range(2, weight.ndim)))
        grouped = weight.reshape(self.groups, -1, *weight.shape[1:])
        swapped = np.swapaxes(grouped, 1, 2)
        return np.ascontiguousarray(swapped.reshape(-1, *swapped.shape[2:]))


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


def own_kernel(node: ir.Node, weight: Array) -> Array:
    """The weight of a convolution as :meth:`ConvGeometry.own_kernel`."""
    geometry = conv_geometry(node, weight.shape)
    assert geometry is not None, "a located site has a geometry"
    return geometry.own_kernel(weight)


def stretched_at(place: Place, shapes: Shapes) -> Stretched | str | None:
    """The stretched map that the convolution at ``place`` reads; or why it is left alone; or None without one."""
    node = place.node
    turned = is_standard(node, "ConvTranspose")
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if weight is None or not (turned or is_standard(node, "Conv")):
        return None
    shape = _weight_shape(weight, place.opset)
    geometry = None if shape is None or not 3 <= len(shape) <= 5 else conv_geometry(node, shape)
    if shape is None or geometry is None or (turned and max(geometry.strides) > 1):
        return None
    channels = shape[0] if turned else shape[1] * geometry.groups
    x = node.inputs[0]
    if x is None:
        return None
    found = find_stretched(place, x, channels, len(shape), geometry.pads, shapes)
    if not isinstance(found, Stretched) and geometry.groups == 1 and not turned:
        found = find_part(place, channels, len(shape), geometry.pads, shapes) or found
    if not isinstance(found, Stretched):
        return found
    return _why_left(found, geometry, weight) or found


def _weight_shape(weight: ir.Value, opset: int) -> tuple[int, ...] | None:
    if weight.const_value is not None:
        return tuple(weight.const_value.shape.numpy())
    found = constant(weight, opset)
    return None if found is None else found.shape


def _why_left(stretched: Stretched, geometry: ConvGeometry, weight: ir.Value) -> str | None:
    """Why a convolution of a stretched map stays as it is, or None."""
    if max(geometry.strides) > 1:
        return f"the convolution behind the upsampling has stride {max(geometry.strides)}, which is no deconv's"
    quantised = any(node.op_type in _QUANTISERS for node in stretched.nodes)
    if quantised or (_is_dequantised(weight) and _is_dequantised(stretched.source)):
        return (
            "it is quantised: the sums of its weights over the copies of a pixel do not fit into the weights' type"
            if stretched.kind == "repeat"
            else "it is quantised, and inserted zeros are only looked for in float"
        )
    deconv = _deconv(stretched, geometry, (1, 1), None, (None,) * len(geometry.kernel))
    if has_holes(deconv) and not goes_before(deconv):
        return (
            "its dilation is above the upsampling's factor and no multiple of it: no two taps meet the same pixel, so "
            "there is nothing to save"
        )
    return None


def _is_dequantised(value: ir.Value) -> bool:
    node = value.producer()
    domains = (*STANDARD_DOMAINS, MICROSOFT)
    return node is not None and node.op_type == "DequantizeLinear" and node.domain in domains


def _deconv(
    stretched: Stretched,
    geometry: ConvGeometry,
    channels: tuple[int, int],
    batch: int | None,
    sizes: tuple[int | None, ...],
) -> Deconv:
    axes = [
        stretched_axis(stretched.kind, axis.factor, kernel, dilation, (begin + axis.begin, end + axis.end), size)
        for axis, kernel, dilation, (begin, end), size in zip(
            stretched.axes, geometry.kernel, geometry.dilations, geometry.pads, sizes, strict=True
        )
    ]
    groups = geometry.groups if channels != (1, 1) else 1
    return Deconv(
        tuple(axes),
        *channels,
        groups,
        batch,
        written_out=WrittenOut(stretched.kind, geometry.kernel, geometry.dilations),
    )


def read_stretched_site(name: str, place: Place, stretched: Stretched, shapes: Shapes) -> Site | Skipped:
    """The convolution at ``place`` of a stretched map as a site, or the reason why it cannot be one.

    Raises:
        InputError: the node contradicts its input.
    """
    _, weight, bias_value = (*place.node.inputs, None)[:3]
    kernel, bias = constant(weight, place.opset), constant(bias_value, place.opset)
    if kernel is None:
        return Skipped(name, place.where, "its weight is computed at run time, so it cannot be split beforehand")
    if bias_value is not None and bias is None:
        return Skipped(name, place.where, "its bias is computed at run time")
    geometry = conv_geometry(place.node, kernel.shape)
    assert geometry is not None, "read before"
    own, beside = parts_of(geometry.own_kernel(kernel), stretched)
    batch, _, *sizes = stretched.sizes(shapes.of(stretched.source, kernel.ndim))
    try:
        deconv = _deconv(stretched, geometry, (own.shape[0], own.shape[1] * geometry.groups), batch, tuple(sizes))
    except ValueError as error:
        raise InputError(f"site '{name}': {error}") from None
    written = deconv.written_out
    assert written is not None, "made so"
    if beside is not None:
        written = replace(written, beside=len(beside))
    deconv = replace(deconv, dtype=own.dtype.name, has_bias=bias is not None, written_out=written)
    tail = find_tail(place, kernel.ndim, deconv.out_channels, deconv.out_sizes)
    if tail.crop is not None:
        deconv = deconv.cropped(tail.crop.begin, tail.crop.end)
    operators = tuple(stage.node.op_type for stage in tail.stages)
    return Site(
        name,
        Origin((place, stretched)),
        deconv,
        Weights(own, bias, beside=beside),
        operators,
        place.where,
        (_note(stretched),),
    )


def parts_of(kernel: Array, stretched: Stretched) -> tuple[Array, Array | None]:
    """The part of a kernel IOHW that meets the stretched map, and that of the maps beside it, or None without any."""
    if stretched.channels is None:
        return kernel, None
    first, last = stretched.channels
    return kernel[first:last], np.concatenate([kernel[:first], kernel[last:]])


def _note(stretched: Stretched) -> str:
    """What becomes of the nodes in front of the convolution."""
    factors = "×".join(str(axis.factor) for axis in stretched.axes)
    what = "upsampling" if stretched.kind == "repeat" else "zero insertion"
    names = " ".join(node.op_type for node in reversed(stretched.nodes))
    left = "" if stretched.kept is None else f", but stays too: other nodes read '{stretched.kept.name}'"
    return f"the {what} by {factors} in front of it ({names}) becomes part of the deconv{left}"
