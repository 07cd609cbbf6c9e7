"""BatchNormalization and arithmetic with constants around a deconv, put into its weights and bias.

Before: [Mul, …] → ConvTranspose → [BatchNormalization, Mul, Add, Sub, Div, crops, …]. After: ConvTranspose → [crops].
The same for a convolution of a stretched map, of which only what follows is folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.folding import (
    ChannelArithmetic,
    FoldingError,
    constant_response,
    in_type,
    scaled_kernel,
    together,
)
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Fold, Origin, Site
from splitdeconv.formats.onnx.constants import constant, drop_unused, is_overridable, known_constant
from splitdeconv.formats.onnx.epilogue import NORM, Stage, as_stage
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, Place, is_standard, places
from splitdeconv.formats.onnx.quantised import read_stored_kernel
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.splice import place_of, qdq_of, stretched_of, tail_of
from splitdeconv.formats.onnx.writer import Constants, Writer, take_over
from splitdeconv.formats.way_back import KEY, KeptKernel, Rewriting, RewrittenSite, with_conversion
from splitdeconv.results.plan import Skipped

QUANTISED = "is quantised: folding would quantise its weights anew"
STORED = "has its weights stored as integers: folding would quantise them anew"
REPLACEABLE = "input '{}' could replace a constant at run time"
TRAINED = "the model's training_info trains what would be folded"
FOLDED = "{} became part of its weights, and the file does not hold them as they were"
_EPSILON = 1e-5  # of BatchNormalization, where it states none


@dataclass(frozen=True)
class _Around:
    """The nodes that go away: in front of the site in the model's order, and behind it."""

    front: tuple[Stage, ...]
    behind: tuple[Stage, ...]


def find_folds(model: ir.Model, sites: Sequence[Site], shapes: Shapes, trained: Set[str]) -> Iterator[Fold | Skipped]:
    """What can be folded around ``sites``, and which keep what they have, with the reason; others are left out.

    Args:
        model: that holds them.
        sites: of its deconvs.
        shapes: of its values.
        trained: names of values that its own training part changes.
    """
    taken: set[ir.Node] = set()  # what stands between two sites becomes part of the first
    for site in sites:
        place = place_of(site)
        behind = _behind(place, site)
        front = () if site.deconv.quant is not None else _in_front(place, site, shapes, taken)
        if not front and not behind:
            continue
        reason = _refuse(model, place, site, (*front, *behind), trained)
        if reason is None:
            try:
                yield _fold(site, front, behind)
                taken.update(stage.node for stage in behind)
                continue
            except FoldingError as error:
                reason = str(error)
        operators = ", ".join(stage.node.op_type for stage in (*front, *behind))
        yield Skipped(site.id, site.where, f"{operators} not folded: {reason}")


def _behind(place: Place, site: Site) -> tuple[Stage, ...]:
    """The first nodes behind a site, as long as they are linear."""
    qdq = qdq_of(place, site.deconv, stretched_of(site))
    stages = tail_of(place, site.deconv).stages if qdq is None else qdq.stages
    found = []
    for stage in stages:
        if _arithmetic(stage, site.deconv.out_channels) is None:
            break
        found.append(stage)
    return tuple(found)


def _in_front(place: Place, site: Site, shapes: Shapes, taken: Set[ir.Node]) -> tuple[Stage, ...]:
    """The linear nodes that alone feed a deconv's map, over maps of known channels."""
    found: list[Stage] = []
    value, channels, rank = place.node.inputs[0], site.deconv.in_channels, len(site.deconv.axes) + 2
    while stretched_of(site) is None and not place.in_function and value is not None:
        node = value.producer()
        if node is None or node in taken or node.graph is not place.graph:
            break
        if len(value.uses()) != 1 or value.is_graph_output():
            break
        stage = _stage_in_front(node, place.opset, rank, channels)
        source = None if stage is None else node.inputs[stage.data_input]
        shape = () if source is None else shapes.by_name.get(source.name or "", ())
        if stage is None or len(shape) != rank or shape[1] != channels:
            break
        found.insert(0, stage)
        value = source
    return tuple(found)


def _stage_in_front(node: ir.Node, opset: int, rank: int, channels: int) -> Stage | None:
    if node.domain not in STANDARD_DOMAINS or sum(bool(each.uses()) for each in node.outputs) != 1:
        return None
    stages = (as_stage(node, number, opset, rank, channels) for number in range(min(2, len(node.inputs))))
    return next((each for each in stages if each is not None and _arithmetic(each, channels) is not None), None)


def _arithmetic(stage: Stage, channels: int) -> ChannelArithmetic | None:
    """What a node computes, or None where it is not linear."""
    given = [None if each is None else each.values.astype(np.float64).reshape(-1) for each in stage.parameters]
    op_type = stage.node.op_type
    if op_type == NORM:
        gamma, beta, mean, variance = (each for each in given if each is not None)
        epsilon = stage.node.attributes.get("epsilon")
        with np.errstate(invalid="ignore", divide="ignore"):  # refused then
            scale = gamma / np.sqrt(variance + (_EPSILON if epsilon is None else epsilon.as_float()))
        return ChannelArithmetic.of(channels, scale, beta - mean * scale)
    if op_type not in ("Add", "Sub", "Mul", "Div") or (op_type == "Div" and stage.data_input == 1):
        return None
    (number,) = (each for each in given if each is not None)
    with np.errstate(divide="ignore"):
        return {
            "Add": lambda: ChannelArithmetic.of(channels, 1.0, number),
            "Sub": lambda: ChannelArithmetic.of(channels, -1.0 if stage.data_input else 1.0, _signed(number, stage)),
            "Mul": lambda: ChannelArithmetic.of(channels, number),
            "Div": lambda: ChannelArithmetic.of(channels, 1.0 / number),
        }[op_type]()


def _signed(number: Array, stage: Stage) -> Array:
    return number if stage.data_input else -number


def _refuse(model: ir.Model, place: Place, site: Site, stages: Sequence[Stage], trained: Set[str]) -> str | None:
    """Why nothing may be folded into a site, or None."""
    if site.deconv.quant is not None:
        return QUANTISED
    if read_stored_kernel(place) is not None:
        return STORED
    read = [*place.node.inputs[1:]]
    read += [each for stage in stages for n, each in enumerate(stage.node.inputs) if n != stage.data_input]
    for value in read:
        if value is not None and is_overridable(value, model.ir_version):
            return REPLACEABLE.format(value.name)
        if value is not None and place.in_main_graph and value.name in trained:
            return TRAINED
    return None


def _fold(site: Site, front: tuple[Stage, ...], behind: tuple[Stage, ...]) -> Fold:
    """What becomes of a site.

    Raises:
        FoldingError: its type does not hold the new weights, or borders meet less of a shift in front.
    """
    ins, outs = site.deconv.in_channels, site.deconv.out_channels
    before, after = (
        together((found for stage in stages if (found := _arithmetic(stage, channels)) is not None), channels)
        for stages, channels in ((front, ins), (behind, outs))
    )
    operators = tuple(stage.node.op_type for stage in (*front, *behind))
    fold = Fold(site, operators, before, after, Origin((_Around(front, behind),)))
    _new_values(fold)
    return fold


def _new_values(fold: Fold) -> tuple[Array, Array | None]:
    """The kernel as the site's node has it, and its bias, if it has one then.

    Raises:
        FoldingError: its type does not hold them.
    """
    site, place = fold.site, place_of(fold.site)
    _, weight, bias_value = (*place.node.inputs, None)[:3]
    assert weight is not None, "a located site has a weight"
    kernel, deconv = known_constant(weight, place.opset), site.deconv
    groups = 1 if deconv.diagonal else deconv.groups
    channels = (fold.front.scale, fold.behind.scale)
    first, second = channels if is_standard(place.node, "ConvTranspose") else channels[::-1]
    bias = constant(bias_value, place.opset)
    shift = constant_response(site.weights, deconv, fold.front.shift)
    shift = shift if bias is None else shift + bias.astype(np.float64)
    shift = shift * fold.behind.scale + fold.behind.shift
    needed = bias is not None or shift.any()
    return scaled_kernel(kernel, groups, first, second), in_type(shift, kernel.dtype) if needed else None


def fold(model: ir.Model, folds: Sequence[Fold]) -> ir.Model:
    """A copy of ``model`` in which the operators of ``folds`` are in the weights of their sites."""
    copy = model.clone()
    twins = dict(zip((place.node for place in places(model)), places(copy), strict=True))
    taken = {
        value.name or "" for place in twins.values() for value in (*place.node.inputs, *place.node.outputs) if value
    }
    taken |= {name for graph in copy.graphs() for name in graph.initializers}
    for each in folds:
        place = twins[place_of(each.site).node]
        graph = copy.graph if place.in_main_graph else None
        writer = Writer(each.site.id, place.opset, Constants(graph, copy.ir_version, taken), {})
        place.node.name = place.node.name or each.site.id  # one that is made of its output would change
        _put_in(writer, place, *_new_values(each))
        around = each.origin.nodes[0]
        for stage in around.front:
            _bypass(twins[stage.node], stage.data_input)
        for stage in around.behind:
            node = twins[stage.node].node
            source = node.inputs[stage.data_input]
            assert source is not None, "a stage reads a map"
            take_over(node.outputs[0], source)
            _bypass(twins[stage.node], stage.data_input)
    text = with_conversion(copy.metadata_props.get(KEY, ""), _no_way_back(folds))
    copy.metadata_props[KEY] = text
    return copy


def _put_in(writer: Writer, place: Place, kernel: Array, bias: Array | None) -> None:
    node = place.node
    old = [*node.inputs[1:]]
    node.replace_input_with(1, writer.array("weight", kernel))
    if bias is not None:
        node.resize_inputs(3)
        node.replace_input_with(2, writer.array("bias", bias))
    if writer.nodes:
        place.graph.insert_before(node, writer.nodes)
    for value in dict.fromkeys(old):
        drop_unused(value)


def _bypass(place: Place, data_input: int) -> None:
    """Remove a node; its readers read its map."""
    node = place.node
    source = node.inputs[data_input]
    assert source is not None, "a stage reads a map"
    others = [value for number, value in enumerate(node.inputs) if number != data_input]
    node.outputs[0].replace_all_uses_with(source, replace_graph_outputs=True)
    place.graph.remove(node, safe=True)
    for value in dict.fromkeys(others):
        drop_unused(value)


def _no_way_back(folds: Sequence[Fold]) -> Rewriting:
    """What ``restore`` is told of them."""
    sites = []
    for each in folds:
        place, deconv = place_of(each.site), each.site.deconv
        lost = FOLDED.format(", ".join(each.operators))
        kernel = KeptKernel("", deconv.weights_shape, deconv.out_channels, deconv.groups, (), lost=lost)
        sites.append(RewrittenSite(each.site.id, place.where, place.in_function, "folded", 0, (), (), kernel))
    return Rewriting(tuple(sites), ("",))
