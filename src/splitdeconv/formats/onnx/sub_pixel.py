"""Convolutions whose channels become pixels, found by where their elements go, and written as ConvTranspose.

Before: Conv → DepthToSpace, or Reshape, Transpose, Reshape. After: ConvTranspose, and an Add where phases have biases
of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import Dim
from splitdeconv.deconv.sub_pixel import SubPixel
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Origin, SubPixelSite
from splitdeconv.formats.onnx.constants import constant, drop_unused, evaluate_node, is_overridable
from splitdeconv.formats.onnx.convolution import conv_geometry
from splitdeconv.formats.onnx.emit import deconv_node
from splitdeconv.formats.onnx.epilogue import only_use
from splitdeconv.formats.onnx.graph import Place, is_standard, places
from splitdeconv.formats.onnx.quantisers import dequantiser_of
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.way_back import Replaced, rewriting
from splitdeconv.formats.onnx.writer import Constants, Writer, take_over
from splitdeconv.formats.way_back import KEY, SMALL, TURNED, KeptKernel, with_conversion
from splitdeconv.results.plan import Skipped

REORDERED = "the new kernel has its weights in another order, and the file does not hold them as they were"
_MOVES = frozenset(["DepthToSpace", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"])
_LONGEST = 8  # nodes between the convolution and the finer map
_LARGEST = 2**24  # elements of a map that are followed
_ANY_SIZE = 2  # of an open one: DepthToSpace does the same to all


def find_sub_pixels(model: ir.Model, shapes: Shapes) -> Iterator[SubPixelSite | Skipped]:
    """Convolutions whose channels become the pixels of a finer map; or why one is none that a deconv computes."""
    taken: set[str] = set()
    for place in places(model):
        if is_standard(place.node, "Conv") and len(place.node.inputs) > 1 and not place.in_function:
            found = _read(place, shapes, model.ir_version, taken)
            if found is not None:
                yield found


def _read(place: Place, shapes: Shapes, ir_version: int, taken: set[str]) -> SubPixelSite | Skipped | None:
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
        return Skipped(name, place.where, "is quantised: its weights would be stored in another order")
    if name in taken:
        return Skipped(name, place.where, "its name is that of another convolution")
    taken.add(name)
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
        return "its bias is computed at run time"
    for value in (weight, bias_value):
        if value is not None and is_overridable(value, ir_version):
            return f"input '{value.name}' could replace its weights at run time"
    return spec.refuse()


def _followed(
    place: Place, shape: tuple[int | None, ...]
) -> tuple[tuple[ir.Node, ...], tuple[int, ...], tuple[int, ...]]:
    """The nodes up to a finer map, and its channels and factors as of :class:`SubPixel`; all empty without one."""
    value, index = place.node.outputs[0], None
    nodes: list[ir.Node] = []
    while len(nodes) < _LONGEST and (use := only_use(value, place)) is not None:
        node, number = use
        if number != 0 or node.op_type not in _MOVES:
            break
        if None in shape and node.op_type != "DepthToSpace":
            break
        known = tuple(1 if axis == 0 and size is None else size or _ANY_SIZE for axis, size in enumerate(shape))
        if index is None and np.prod(known) > _LARGEST:
            break
        index = np.arange(np.prod(known), dtype=np.int64).reshape(known) if index is None else index
        index = _moved(node, index, place.opset)
        if index is None:
            break
        nodes.append(node)
        value = node.outputs[0]
        if found := _finer(index, known):
            return (tuple(nodes), *found)
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


def _finer(index: Array, coarse: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Channels and factors, if a map of the numbers of a coarse one's elements is a finer one; None otherwise."""
    batch, _, *sizes = coarse
    if index.ndim != len(coarse) or index.shape[0] != batch:
        return None
    if any(fine % size for fine, size in zip(index.shape[2:], sizes, strict=True)):
        return None
    factors = tuple(fine // size for fine, size in zip(index.shape[2:], sizes, strict=True))
    if max(factors) == 1:
        return None
    pairs = [each for pair in zip(sizes, factors, strict=True) for each in pair]
    split = index.reshape(batch, index.shape[1], *pairs)
    order = [*range(3, split.ndim, 2), *range(2, split.ndim, 2)]  # phases, then sizes
    phased = split.transpose(0, 1, *order).reshape(batch, -1, int(np.prod(sizes)))
    channels = phased[0, :, 0] // phased.shape[2]
    whole = np.arange(phased.size).reshape(batch, -1, phased.shape[2])
    if sorted(channels) != list(range(len(channels))) or not np.array_equal(phased, whole[:, channels]):
        return None
    return tuple(int(each) for each in channels), factors


def _write(writer: Writer, site: SubPixelSite, x: ir.Value, kernel: Array, bias: Array | None) -> ir.Value:
    """A ConvTranspose with its bias, or one for each phase behind it."""
    spec = site.spec
    phases = None if bias is None else spec.phase_bias(bias)
    inputs = [x, writer.array("weight", spec.deconv_kernel(kernel))]
    flat = None if phases is None else phases.reshape(spec.out_channels, -1)
    alike = flat is not None and bool((flat == flat[:, :1]).all())
    if flat is not None and alike:
        inputs.append(writer.array("bias", np.ascontiguousarray(flat[:, 0])))
    y = deconv_node(writer, site.deconv, inputs)
    return y if phases is None or alike else _add_phases(writer, site, y, phases)


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
