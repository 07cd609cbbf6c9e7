"""BatchNormalization and arithmetic with constants around a deconv, put into its weights and bias.

Before: [Mul, …] → ConvTranspose → [BatchNormalization, Mul, Add, Sub, Div, crops, …]. After: ConvTranspose → [crops].
The same for a convolution of a stretched map, of which only what follows is folded.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import onnx_ir as ir

from splitdeconv.deconv.folding import ChannelArithmetic, arithmetic_of, normalisation
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.folding import Around, FoldedStep, OwnValues, Surroundings, new_values, no_way_back
from splitdeconv.formats.model import Fold, Site
from splitdeconv.formats.onnx.constants import constant, drop_unused, is_overridable, known_constant
from splitdeconv.formats.onnx.epilogue import NORM, Stage, as_stage
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, Place, dequantiser_of, is_standard, places
from splitdeconv.formats.onnx.quantised import read_stored_kernel
from splitdeconv.formats.onnx.shapes import Shapes
from splitdeconv.formats.onnx.splice import place_of, qdq_of, stretched_of, tail_of
from splitdeconv.formats.onnx.writer import Constants, Writer, take_over
from splitdeconv.formats.way_back import KEY, with_conversion

STORED = "has its weights stored as integers: folding would quantise them anew"
REPLACEABLE = "input '{}' could replace a constant at run time"
TRAINED = "the model's training_info trains what would be folded"
_EPSILON = 1e-5  # of BatchNormalization, where it states none


class NodesAround(Surroundings[ir.Node]):
    """The nodes around sites.

    Args:
        model: that holds them.
        shapes: of its values.
        trained: names of values that its own training part changes.
    """

    def __init__(self, model: ir.Model, shapes: Shapes, trained: Set[str]) -> None:
        self._model, self._shapes, self._trained = model, shapes, trained

    def behind(self, site: Site) -> tuple[FoldedStep[ir.Node], ...]:
        place = place_of(site)
        qdq = qdq_of(place, site.deconv, stretched_of(site))
        found = []
        for stage in tail_of(place, site.deconv).stages if qdq is None else qdq.stages:
            if (step := _step(stage, site.deconv.out_channels)) is None:
                break
            found.append(step)
        return tuple(found)

    def in_front(self, site: Site, taken: Set[ir.Node]) -> tuple[FoldedStep[ir.Node], ...]:
        place = place_of(site)
        found: list[FoldedStep[ir.Node]] = []
        value, channels, rank = place.node.inputs[0], site.deconv.in_channels, len(site.deconv.axes) + 2
        while not place.in_function and value is not None:
            node = value.producer()
            if node is None or node in taken or node.graph is not place.graph:
                break
            if len(value.uses()) != 1 or value.is_graph_output():
                break
            step = _step_in_front(node, place.opset, rank, channels)
            source = None if step is None else node.inputs[step.map_at]
            shape = () if source is None else self._shapes.by_name.get(source.name or "", ())
            if step is None or len(shape) != rank or shape[1] != channels:
                break
            found.insert(0, step)
            value = source
        return tuple(found)

    def refuse(self, site: Site, around: Around[ir.Node]) -> str | None:
        place = place_of(site)
        stored = dequantiser_of(place.node.inputs[1])
        if stored is not None and read_stored_kernel(stored, place.opset) is not None:
            return STORED
        read = [*place.node.inputs[1:]]
        read += [each for step in around.steps for n, each in enumerate(step.node.inputs) if n != step.map_at]
        for value in read:
            if value is not None and is_overridable(value, self._model.ir_version):
                return REPLACEABLE.format(value.name)
            if value is not None and place.in_main_graph and value.name in self._trained:
                return TRAINED
        return None

    def values(self, site: Site) -> OwnValues:
        return _own_values(place_of(site))


def _own_values(place: Place) -> OwnValues:
    _, weight, bias = (*place.node.inputs, None)[:3]
    assert weight is not None, "a located site has a weight"
    is_conv = not is_standard(place.node, "ConvTranspose")
    return OwnValues(known_constant(weight, place.opset), constant(bias, place.opset), is_conv)


def _step_in_front(node: ir.Node, opset: int, rank: int, channels: int) -> FoldedStep[ir.Node] | None:
    if node.domain not in STANDARD_DOMAINS or sum(bool(each.uses()) for each in node.outputs) != 1:
        return None
    stages = (as_stage(node, number, opset, rank, channels) for number in range(min(2, len(node.inputs))))
    steps = (_step(each, channels) for each in stages if each is not None)
    return next((each for each in steps if each is not None), None)


def _step(stage: Stage, channels: int) -> FoldedStep[ir.Node] | None:
    """The stage, or None where it is not linear."""
    given = [each.values for each in stage.parameters if each is not None]
    found: ChannelArithmetic | None = None
    if stage.node.op_type == NORM:
        epsilon = stage.node.attributes.get("epsilon")
        gamma, beta, mean, variance = given
        found = normalisation(gamma, beta, mean, variance, _EPSILON if epsilon is None else epsilon.as_float())
    elif len(given) == 1:
        name, number_first = stage.node.op_type.lower(), stage.data_input == 1
        found = arithmetic_of(name, given[0], channels, number_first=number_first)
    return None if found is None else FoldedStep(stage.node, stage.node.op_type, stage.data_input, found)


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
        _put_in(writer, place, *new_values(each, _own_values(place)))
        around: Around[ir.Node] = each.origin.nodes[0]
        for step in around.front:
            _bypass(twins[step.node], step.map_at)
        for step in around.behind:
            node = twins[step.node].node
            source = node.inputs[step.map_at]
            assert source is not None, "a stage reads a map"
            take_over(node.outputs[0], source)
            _bypass(twins[step.node], step.map_at)
    copy.metadata_props[KEY] = with_conversion(copy.metadata_props.get(KEY, ""), no_way_back(folds))
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


def _bypass(place: Place, map_at: int) -> None:
    """Remove a node; its readers read its map."""
    node = place.node
    source = node.inputs[map_at]
    assert source is not None, "a stage reads a map"
    others = [value for number, value in enumerate(node.inputs) if number != map_at]
    node.outputs[0].replace_all_uses_with(source, replace_graph_outputs=True)
    place.graph.remove(node, safe=True)
    for value in dict.fromkeys(others):
        drop_unused(value)
