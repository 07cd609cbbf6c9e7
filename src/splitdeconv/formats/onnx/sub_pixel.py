"""Convolutions whose channels become pixels, found by where their elements go, and written as ConvTranspose.

Before: Conv → DepthToSpace, or Reshape, Transpose, Reshape. After: ConvTranspose, and an Add where phases have biases
of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from splitdeconv.deconv.ops import Dim
from splitdeconv.deconv.sub_pixel import (
    COMPUTED_BIAS,
    LONGEST,
    QUANTISED,
    REORDERED,
    SubPixel,
    finer,
    numbered,
)
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Origin, SubPixelSite
from splitdeconv.formats.onnx.constants import constant, drop_unused, evaluate_node, is_overridable
from splitdeconv.formats.onnx.convolution import conv_geometry
from splitdeconv.formats.onnx.emit import deconv_node
from splitdeconv.formats.onnx.epilogue import only_use
from splitdeconv.formats.onnx.graph import Place, dequantiser_of, is_standard, places
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.way_back import Replaced, rewriting
from splitdeconv.formats.onnx.writer import Constants, Writer, take_over
from splitdeconv.formats.way_back import KEY, SMALL, TURNED, KeptKernel, with_conversion
from splitdeconv.results.plan import Skipped

_MOVES = frozenset(["DepthToSpace", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"])


def find_sub_pixels(model: ir.Model, shapes: Shapes) -> Iterator[SubPixelSite | Skipped]:
    """Convolutions whose channels become the pixels of a finer map; or why one is none that a deconv computes."""
    for place in places(model):
        if is_standard(place.node, "Conv") and len(place.node.inputs) > 1 and not place.in_function:
            found = _read(place, shapes, model.ir_version)
            if found is not None:
                yield found


def _read(place: Place, shapes: Shapes, ir_version: int) -> SubPixelSite | Skipped | None:
    x, weight, bias_value = (*place.node.inputs, None)[:3]
    tensor = None if weight is None else weight.const_value
    shape = () if tensor is None else tuple(tensor.shape.numpy())
    quantised = dequantiser_of(weight) is not None
    kernel = constant(weight, place.opset) if len(shape) in (3, 4, 5) or quantised else None
    geometry = None if kernel is None else conv_geometry(place.node, kernel.shape)
    if kernel is None or geometry is None or max(geometry.strides) > 1 or not kernel.shape[0]:
        return None
    in_shape = shapes.of(x, kernel.ndim)
    out_sizes = [
        None if size is None else size + sum(pads) - (taps - 1) * dilation
        for size, pads, taps, dilation in zip(
            in_shape[2:], geometry.pads, geometry.kernel, geometry.dilations, strict=True
        )
    ]
    nodes, channels, factors = _followed(place, (in_shape[0], kernel.shape[0], *out_sizes))
    if not factors:
        return None
    name = place.node.name or f"Conv@{place.node.outputs[0].name}"
    if quantised:
        return Skipped(name, place.where, QUANTISED)
    spec = SubPixel(
        geometry.kernel,
        geometry.dilations,
        geometry.pads,
        factors,
        geometry.groups,
        kernel.shape[1] * geometry.groups,
        channels,
    )
    bias = constant(bias_value, place.opset)
    if (reason := _refuse(spec, (weight, bias_value), bias, ir_version)) is not None:
        return Skipped(name, place.where, reason)
    operators = ("Conv", *(node.op_type for node in nodes))
    origin = Origin((place, nodes))
    return SubPixelSite(name, spec, in_shape[0], in_shape[2:], kernel, bias, operators, place.where, origin)


def _refuse(spec: SubPixel, values: Sequence[ir.Value | None], bias: Array | None, ir_version: int) -> str | None:
    weight, bias_value = values
    if (bias is None) != (bias_value is None):
        return COMPUTED_BIAS
    for value in (weight, bias_value):
        if value is not None and is_overridable(value, ir_version):
            return f"input '{value.name}' could replace its weights at run time"
    return spec.refuse()


def _followed(
    place: Place, shape: tuple[int | None, ...]
) -> tuple[tuple[ir.Node, ...], tuple[int, ...], tuple[int, ...]]:
    """The nodes up to a finer map, and its channels and factors as of :class:`SubPixel`; all empty without one."""
    value, coarse = place.node.outputs[0], numbered(shape)
    index, nodes = coarse, list[ir.Node]()
    while (
        coarse is not None
        and index is not None
        and len(nodes) < LONGEST
        and (use := only_use(value, place)) is not None
    ):
        node, number = use
        if number != 0 or node.op_type not in _MOVES:
            break
        if None in shape and node.op_type != "DepthToSpace":
            break
        index = _moved(node, index, place.opset)
        if index is None:
            break
        nodes.append(node)
        value = node.outputs[0]
        channels, factors = finer(index, coarse.shape)
        if factors:
            return tuple(nodes), channels, factors
        if None in shape:
            break
    return (), (), ()


def _moved(node: ir.Node, index: Array, opset: int) -> Array | None:
    feeds = {"i0": index}
    for number, source in enumerate(node.inputs[1:], start=1):
        if source is not None:
            known = constant(source, opset)
            if known is None:
                return None
            feeds[f"i{number}"] = known
    return evaluate_node(node, node.outputs[0], feeds, opset)


def _write(writer: Writer, site: SubPixelSite, x: ir.Value, kernel: Array, bias: Array | None) -> ir.Value:
    """A ConvTranspose with its bias, or one for each phase behind it."""
    spec = site.spec
    own, phases = spec.split_bias(bias)
    inputs = [x, writer.array("weight", spec.deconv_kernel(kernel))]
    y = deconv_node(writer, site.deconv, inputs if own is None else [*inputs, writer.array("bias", own)])
    return y if phases is None else _add_phases(writer, site, y, phases)


def _add_phases(writer: Writer, site: SubPixelSite, y: ir.Value, phases: Array) -> ir.Value:
    """A number for each phase added to a map, by way of an axis for each."""
    factors, deconv = site.spec.factors, site.deconv
    known = (site.batch, deconv.out_channels, *deconv.out_sizes)
    first, back = [Dim(1, 0), Dim(deconv.out_channels)], [Dim(1, 0), Dim(deconv.out_channels)]
    split: list[int | None] = [site.batch, deconv.out_channels]
    for number, (factor, size) in enumerate(zip(factors, deconv.out_sizes, strict=True)):
        first += [Dim(1, 2 + number, factor), Dim(factor)]
        split += [None if size is None else size // factor, factor]
        back.append(Dim(factor, 2 + 2 * number))
    shape = [deconv.out_channels, *(each for factor in factors for each in (1, factor))]
    added = writer.op("Add", [writer.reshape(y, first, known), writer.array("phase_bias", phases.reshape(shape))])
    return writer.reshape(added, back, tuple(split))


def turn(model: ir.Model, sites: Sequence[SubPixelSite]) -> ir.Model:
    """A copy of ``model`` with ``sites`` as ConvTranspose."""
    copy = model.clone()
    twins = dict(zip((place.node for place in places(model)), places(copy), strict=True))
    taken = {value.name or "" for place in twins.values() for value in place.node.outputs}
    taken |= {place.node.name or "" for place in twins.values()}
    held = list(copy.graphs())
    taken |= {value.name or "" for graph in held for value in (*graph.inputs, *graph.initializers.values())}
    done = [_replace(copy, twins, site, taken) for site in sites]
    copy.metadata_props[KEY] = with_conversion(copy.metadata_props.get(KEY, ""), rewriting(held, twins, done))
    return copy


def _replace(copy: ir.Model, twins: dict[ir.Node, Place], site: SubPixelSite, taken: set[str]) -> Replaced:
    place = twins[site.origin.nodes[0].node]
    old = [place.node, *(twins[node].node for node in site.origin.nodes[1])]
    constants = Constants(copy.graph if place.in_main_graph else None, copy.ir_version, taken)
    writer = Writer(site.id, place.opset, constants, dict(place.node.metadata_props))
    x, weight = place.node.inputs[:2]
    assert x is not None, "a located convolution has a map"
    assert weight is not None, "and a weight"
    output = _write(writer, site, x, site.kernel, site.bias)
    node = next(each for each in writer.nodes if each.op_type == "ConvTranspose")
    node.name = site.id
    take_over(old[-1].outputs[0], output)
    old[-1].outputs[0].replace_all_uses_with(output, replace_graph_outputs=True)
    place.graph.insert_after(old[-1], writer.nodes)
    read = [value for each in old for value in each.inputs if value is not None and value is not x]
    made = {each.outputs[0] for each in old}
    place.graph.remove(old, safe=True)
    for value in dict.fromkeys(read):
        if value not in made:
            drop_unused(value)
    deconv = site.deconv
    lost = KeptKernel(weight.name or "", deconv.weights_shape, deconv.out_channels, 1, (), lost=REORDERED)
    small = site.kernel if site.kernel.nbytes <= SMALL else None
    return Replaced(site.id, place, TURNED, tuple(writer.nodes), weight, lost, small, old[-1], output)


def stand_alone_sub_pixel(
    ir_version: int, site: SubPixelSite, kernel: Array, bias: Array | None, *, turned: bool
) -> ir.Model:
    """One of them as a model: input ``x``, output ``y``."""
    place, nodes = site.origin.nodes
    dtype = ir.DataType.from_numpy(kernel.dtype)
    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape([site.batch, site.spec.in_channels, *site.sizes]))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": place.opset}, name=site.id)
    ir_version = max(ir_version, 4)
    writer = Writer(site.id, place.opset, Constants(graph, ir_version, {"x", "y"}), {})
    if turned:
        y = _write(writer, site, x, kernel, bias)
    else:
        given = [writer.array("weight", kernel), *([] if bias is None else [writer.array("bias", bias)])]
        y = writer.copy(place.node, [x, *given])
        for node in nodes:
            known = [None if each is None else constant(each, place.opset) for each in node.inputs[1:]]
            y = writer.copy(node, [y, *(None if each is None else writer.array("constant", each) for each in known)])
    y.name, y.type = "y", ir.TensorType(dtype)
    y.shape = ir.Shape([site.batch, site.deconv.out_channels, *site.deconv.out_sizes])
    graph.outputs.append(y)
    graph.extend(writer.nodes)
    return ir.Model(graph, ir_version=ir_version, producer_name="splitdeconv")
