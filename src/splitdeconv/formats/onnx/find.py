"""Finding the deconvs of an ONNX model: nodes to ``Deconv``, or to a reason why not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import onnx_ir as ir

from splitdeconv.deconv.spec import Deconv, WeightName
from splitdeconv.deconv.structure import diagonal_of, vectors_of
from splitdeconv.deconv.weights import Array, Weights, example_values
from splitdeconv.formats.model import Origin, Site
from splitdeconv.formats.onnx.constants import constant, is_overridable
from splitdeconv.formats.onnx.convolution import COMPUTED_BIAS, read_stretched_site, run_time_note, stretched_at
from splitdeconv.formats.onnx.epilogue import Tail, find_tail
from splitdeconv.formats.onnx.geometry import (
    ContradictionError,
    RunTimeGeometryError,
    axes_from,
    has_other_sizes,
    read_attributes,
)
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, Place, bodies, dequantiser_of, is_standard, places
from splitdeconv.formats.onnx.quantised import Qdq, quantised_notes, read_qdq, unread_weight
from splitdeconv.formats.onnx.quantisers import UnsupportedError
from splitdeconv.formats.onnx.readable import is_dynamic
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.stretched import StretchedValue
from splitdeconv.formats.stretched import Stretched
from splitdeconv.results.plan import Skipped

OP = "ConvTranspose"
_OTHER = re.compile(r"(?i)conv\w*transpose|deconv")
_MISJUDGED = (
    "it is behind auto_pad with output_padding, of which runtimes make other sizes than they expect, so forms that "
    "ask for sizes would stop"
)
_SCOPES = "pkg.torch.onnx.name_scopes"  # what torch.onnx.export notes: the modules around a call, then its own name
_MODULE = re.compile(r"'([^']+)', '[^']*'\]$")
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class Anchor:
    """A node that a site is made of.

    Attributes:
        name: of the site.
        place: the ConvTranspose, or the convolution of a stretched map.
        stretched: that map; why the node is left alone; or None for a ConvTranspose.
    """

    name: str
    place: Place
    stretched: StretchedValue | str | None = None

    def read(self, shapes: Shapes, stated: Shapes, ir_version: int) -> Site | Skipped:
        """The site, or the reason why it cannot be one.

        Args:
            shapes: of the maps.
            stated: of the weights: what the model states, whatever sizes are given for a run.
            ir_version: of the model.

        Raises:
            InputError: the node contradicts itself or its input.
        """
        if isinstance(self.stretched, str):
            return Skipped(self.name, self.place.where, self.stretched)
        if self.stretched is None:
            return read_site(self.name, self.place, shapes, stated, ir_version)
        return read_stretched_site(self.name, self.place, self.stretched, shapes)


def anchors(model: ir.Model, shapes: Shapes, numerics: str = "exact") -> tuple[Anchor, ...]:
    """What the sites of a model are made of, in its order; convolutions of stretched maps are looked for first."""
    convs = [place for place in places(model) if place.node.op_type in ("Conv", OP)]
    found = {place.node: each for place in convs if (each := stretched_at(place, shapes, numerics)) is not None}
    anchored = {node for node, each in found.items() if isinstance(each, Stretched)}
    inner = {node for each in found.values() if isinstance(each, Stretched) for node in each.nodes}
    found = {node: _with_kept(each, inner | anchored) for node, each in found.items()}
    halves = {node for node in inner if _only_read_by(node, inner | anchored)}
    named = {id(place.node): name for name, place in named_places(convs)}
    taken, result = set(named.values()), []
    misjudged = _behind_other_sizes(model)
    for place in convs:
        stretched, name = found.get(place.node), named.get(id(place.node))
        if place.node in misjudged and (stretched is not None or name is not None):
            stretched = _MISJUDGED
        if stretched is None and name is not None and place.node not in halves:
            result.append(Anchor(name, place))
        elif stretched is not None:
            result.append(Anchor(name or _free_name(place, taken), place, stretched))
    return tuple(result)


def _behind_other_sizes(model: ir.Model) -> set[ir.Node]:
    """The nodes behind those of which runtimes make other sizes than ONNX's inference."""
    waiting = [place.node for place in places(model) if has_other_sizes(place.node)]
    nodes = [place.node for place in places(model)] if waiting else []
    holders = {body: node for node in nodes for _, body in bodies(node)}
    found: set[ir.Node] = set()
    while waiting:
        node = waiting.pop()
        reached = {use.node for output in node.outputs for use in output.uses()}
        reached |= {holders[node.graph]} if node.graph in holders else set()
        waiting.extend(reached - found)
        found |= reached
    return found


def _with_kept(stretched: StretchedValue | str, readers: set[ir.Node]) -> StretchedValue | str:
    """With the value on the way, nearest to the convolution, that others than ``readers`` need."""
    if isinstance(stretched, str):
        return stretched
    others = (node for node in stretched.nodes if not _only_read_by(node, readers))
    node = next(others, None)
    return stretched if node is None else replace(stretched, kept=node.outputs[0])


def _only_read_by(node: ir.Node, readers: set[ir.Node]) -> bool:
    """Whether nothing but ``readers`` reads what a node makes."""
    outputs = node.outputs
    return not any(output.is_graph_output() for output in outputs) and all(
        use.node in readers for output in outputs for use in output.uses()
    )


def named_places(among: Iterable[Place]) -> Iterator[tuple[str, Place]]:
    """Every ConvTranspose of a model with its name as a site, which is unique and the same for a copy of the model."""
    taken: set[str] = set()
    for place in among:
        if is_standard(place.node, OP):
            yield _free_name(place, taken), place


def _free_name(place: Place, taken: set[str]) -> str:
    """The name of its PyTorch module, of the node, or one made from its output, with the first free number.

    It is taken then.
    """
    module = _MODULE.search(place.node.metadata_props.get(_SCOPES, ""))
    plain = module[1] if module else place.node.name or f"{place.node.op_type}@{place.node.outputs[0].name}"
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}#{number}"
    taken.add(name)
    return name


def unread(model: ir.Model) -> Iterator[Skipped]:
    """The deconvs of other domains, whose meaning is not part of ONNX; the model's own functions are looked into."""
    for place in places(model):
        node = place.node
        if (
            node.domain not in STANDARD_DOMAINS
            and _OTHER.search(node.op_type)
            and node.op_identifier() not in model.functions
        ):
            name = node.name or f"{node.op_type}@{node.outputs[0].name if node.outputs else ''}"
            known = "its pads are computed at run time" if is_dynamic(node) else "its meaning is not part of ONNX"
            reason = f"{node.domain}::{node.op_type} is not rewritten: {known}"
            yield Skipped(name, place.where, reason)


def read_site(name: str, place: Place, shapes: Shapes, stated: Shapes, ir_version: int) -> Site | Skipped:
    """The ConvTranspose at ``place`` as a site, or the reason why it cannot be one."""
    node = place.node
    if len(node.inputs) < 2 or node.inputs[0] is None or node.inputs[1] is None:
        reason = f"a ConvTranspose has an input and a weight, this one has {len(node.inputs)}"
        return Skipped(name, place.where, reason)
    x, weight = node.inputs[0], node.inputs[1]
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None

    def geometry(kernel: Array, bias: Array | None) -> Deconv:
        # A function's maps have other sizes at each call, and its names are its own.
        x_shape = (None,) * kernel.ndim if place.in_function else shapes.of(x, kernel.ndim)
        try:
            return _geometry(node, kernel, bias, x_shape)
        except ValueError as error:
            raise ContradictionError(str(error)) from None

    try:
        is_float = dequantiser_of(x) is None
        qdq = None if is_float else read_qdq(place, lambda kernel: geometry(kernel, None).out_sizes)
    except (UnsupportedError, RunTimeGeometryError, ContradictionError) as reason:
        return Skipped(name, place.where, str(reason))
    kernel = constant(weight, place.opset) if qdq is None else qdq.kernel(place.opset)
    bias = constant(bias_value, place.opset) if qdq is None else qdq.read_bias(place.opset)
    run_time: tuple[WeightName, ...] = () if kernel is not None else ("kernel",)
    try:
        kernel = _example_kernel(place, stated) if kernel is None else kernel
        if bias_value is not None and bias is None:
            run_time, bias = (*run_time, "bias"), _example_bias(node, kernel, qdq)
        deconv = replace(geometry(kernel, bias), run_time=run_time)
    except (UnsupportedError, RunTimeGeometryError, ContradictionError) as reason:
        return Skipped(name, place.where, str(reason))
    notes = [_override_note(each) for each in (weight, bias_value) if each and is_overridable(each, ir_version)]
    if qdq is None:
        deconv, kernel = (deconv, kernel) if "kernel" in run_time else _simplified(deconv, kernel)
        found: Tail | Qdq = find_tail(place, kernel.ndim, deconv.out_channels, deconv.out_sizes)
        weights = Weights(kernel, bias)
    else:
        groups = deconv.in_channels if qdq.diagonal else deconv.groups
        deconv = replace(deconv, groups=groups, diagonal=qdq.diagonal, dtype=qdq.values.x_type, quant=qdq.quant())
        found, weights = qdq, Weights(qdq.stored_kernel(kernel), bias, qdq.values)
        notes += quantised_notes(weights)
    if run_time:
        notes.append(run_time_note(run_time))
    if deconv.diagonal:
        notes.append("its filter is zero between channels, so every form is depthwise")
    if found.crop is not None:
        deconv = deconv.cropped(found.crop.begin, found.crop.end)
        crop = ", ".join(f"{begin} and {end}" for begin, end in deconv.crop)
        notes.append(f"the crop behind it ({crop}) becomes part of its pads")
    operators = tuple(stage.node.op_type for stage in found.stages)
    return Site(name, Origin((place,)), deconv, weights, operators, place.where, tuple(notes))


def _example_kernel(place: Place, shapes: Shapes) -> Array:
    """Values in the place of a weight that is computed at run time.

    Raises:
        UnsupportedError: it is none that could be split by operators.
    """
    weight = place.node.inputs[1]
    assert weight is not None, "looked at before"
    if reason := unread_weight(place):
        raise UnsupportedError(reason)
    shape = None if place.in_function else shapes.by_name.get(weight.name or "")
    if shape is None or None in shape:
        sizes = "" if shape is None else f" [{', '.join('?' if size is None else str(size) for size in shape)}]"
        raise UnsupportedError(
            f"its weight is computed at run time, and its shape{sizes} is not known before: a split needs all sizes"
        )
    dtype = weight.dtype or shapes.type_of(weight) or shapes.type_of(place.node.outputs[0]) or ir.DataType.FLOAT
    return example_values([size or 0 for size in shape], dtype.numpy())


def _example_bias(node: ir.Node, kernel: Array, qdq: Qdq | None) -> Array:
    """Values in the place of a bias that is computed at run time; raises as :func:`_example_kernel`."""
    if qdq is not None:
        raise UnsupportedError(COMPUTED_BIAS)
    if kernel.ndim < 2:
        raise ContradictionError(f"weight of {kernel.ndim} axes, wanted 3 to 5 (1-D, 2-D or 3-D deconv)")
    return example_values([kernel.shape[1] * read_attributes(node).get("group", 1)], kernel.dtype)


def _simplified(deconv: Deconv, kernel: Array) -> tuple[Deconv, Array]:
    """A dense deconv that is zero between channels as a depthwise one; and whether its filter is separable."""
    if deconv.groups == 1 and (diagonal := diagonal_of(kernel)) is not None:
        deconv, kernel = replace(deconv, groups=deconv.in_channels, diagonal=True), diagonal
    depthwise = deconv.groups == deconv.in_channels == deconv.out_channels
    return replace(deconv, separable=depthwise and vectors_of(kernel) is not None), kernel


def _override_note(value: ir.Value) -> str:
    return (
        f"input '{value.name}' could replace a weight at run time; it is fixed to its default now, and no longer an "
        "input unless another node reads it"
    )


def _geometry(node: ir.Node, kernel: Array, bias: Array | None, x_shape: tuple[int | None, ...]) -> Deconv:
    """The geometry of a node with constant weights.

    Raises:
        ValueError: the node contradicts itself or its input.
    """
    weight = node.inputs[1]
    if weight is not None and weight.dtype is not None and weight.dtype not in _FLOATS:
        raise ValueError(f"weight of type {weight.dtype.name}, wanted FLOAT, FLOAT16, BFLOAT16 or DOUBLE")
    if kernel.ndim not in (3, 4, 5):
        raise ValueError(f"weight of {kernel.ndim} axes, wanted 3 to 5 (1-D, 2-D or 3-D deconv)")
    if len(x_shape) != kernel.ndim:
        raise ValueError(f"input has {len(x_shape)} axes, its weight {kernel.ndim}; wanted the same")
    attributes = read_attributes(node)
    groups = attributes.get("group", 1)
    if groups < 1 or kernel.shape[0] % groups:
        raise ValueError(f"group is {groups}, which does not divide {kernel.shape[0]} input channels")
    batch, channels, *sizes = x_shape
    if channels is not None and channels != kernel.shape[0]:
        hint = " Is the model NHWC?" if kernel.shape[0] == x_shape[-1] else ""
        found = f"kernel has {kernel.shape[0]} input channels, input has {channels} (NCHW)"
        raise ValueError(f"{found}; wanted the same.{hint}")
    out_channels = kernel.shape[1] * groups
    if bias is not None and bias.shape != (out_channels,):
        raise ValueError(f"bias has shape {list(bias.shape)}, wanted [{out_channels}]")
    axes = axes_from(attributes, kernel.shape[2:], sizes)
    dtype = kernel.dtype.name
    return Deconv(axes, kernel.shape[0], out_channels, groups, batch, dtype, bias is not None)
