"""Arithmetic with constants around a deconv, put into its weights and bias; converters write BatchNormalization so.

Before: [MUL, …] → TRANSPOSE_CONV → [MUL, ADD, SUB, DIV, crops, …]. After: TRANSPOSE_CONV → [crops], with the last one's
activation. The same for a convolution of a stretched map, of which only what follows is folded.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np

from splitdeconv.deconv.folding import arithmetic_of
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.folding import Around, FoldedStep, OwnValues, Surroundings, new_values, no_way_back
from splitdeconv.formats.model import Fold, Site
from splitdeconv.formats.tflite.constants import folded
from splitdeconv.formats.tflite.emit import ACTIVATED_DECONV, BIASED_DECONV
from splitdeconv.formats.tflite.epilogue import CROPS, readers
from splitdeconv.formats.tflite.geometry import FILTER_AXES, as_stored_kernel
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.node import Node, node_of
from splitdeconv.formats.tflite.schema import ACTIVATIONS
from splitdeconv.formats.tflite.splice import without_dead
from splitdeconv.formats.tflite.transposed import PLACES
from splitdeconv.formats.tflite.way_back import stored_text, with_text
from splitdeconv.formats.tflite.writer import GraphWriter
from splitdeconv.formats.way_back import Rewriting, with_conversion

STORED = "has its weights stored as {}: folding would round them anew"
NO_ACTIVATION = "the activation behind would become the deconv's, and a custom operator has none"
_ARITHMETIC = ("ADD", "DIV", "MUL", "SUB")
Where = tuple[int, int]  # subgraph and operator


class OperatorsAround(Surroundings[Where]):
    """The operators around sites."""

    def behind(self, site: Site) -> tuple[FoldedStep[Where], ...]:
        node, found = node_of(site), list[FoldedStep[Where]]()
        graph, source = node.graph, node.output
        if _activation(graph, node.operator):
            return ()
        for reader in readers(graph, source):
            step = _step(graph, reader, source, site.deconv.out_channels)
            is_crop = reader in node.epilogue.operators and graph.name(reader) in CROPS
            if step is None and not is_crop:
                break
            found += [] if step is None else [step]
            if step is not None and _activation(graph, reader):
                break
            (source,) = graph.outputs_of(reader)
        return tuple(found)

    def in_front(self, site: Site, taken: Set[Where]) -> tuple[FoldedStep[Where], ...]:
        node, found = node_of(site), list[FoldedStep[Where]]()
        graph, value, reader = node.graph, node.source, node.operator
        while (operator := graph.producer(value)) is not None and graph.only_consumer(value) == reader:
            if (graph.number, operator) in taken or _activation(graph, operator):
                break
            steps = (_step(graph, operator, each, site.deconv.in_channels) for each in graph.inputs_of(operator))
            step = next((each for each in steps if each is not None), None)
            if step is None:
                break
            found.insert(0, step)
            value, reader = graph.inputs_of(operator)[step.map_at], operator
        return tuple(found)

    def refuse(self, site: Site, around: Around[Where]) -> str | None:
        node = node_of(site)
        if node.kernel.operand != node.kernel.tensor:
            return STORED.format(node.graph.type_name(node.kernel.tensor))
        ends = around.behind and _activation(node.graph, around.behind[-1].node[1])
        return NO_ACTIVATION if ends and site.deconv.custom else None

    def values(self, site: Site) -> OwnValues:
        return _own_values(node_of(site))


def bare(site: Site) -> Site:
    """The site without what its epilogue adds, which is folded as every other operator."""
    return replace(site, weights=replace(site.weights, bias=_bias(node_of(site))))


def _own_values(node: Node) -> OwnValues:
    kernel, kind = folded(node.graph, node.kernel.tensor), node.graph.name(node.operator)
    assert kernel is not None, "nodes have constant kernels"
    return OwnValues(as_stored_kernel(kind, kernel), _bias(node), kind not in PLACES)


def _bias(node: Node) -> Array | None:
    stored = None if node.bias is None else folded(node.graph, node.bias.tensor)
    return None if stored is None else stored.reshape(-1)


def _activation(graph: Graph, operator: int) -> int:
    return int(getattr(graph.operators[operator].builtinOptions, "fusedActivationFunction", 0))


def _step(graph: Graph, operator: int, source: int, channels: int) -> FoldedStep[Where] | None:
    """What an operator computes of the map ``source`` and a constant, or None where it is not linear."""
    name, operands, made = graph.name(operator), graph.inputs_of(operator), graph.outputs_of(operator)
    if name not in _ARITHMETIC or len(operands) != 2 or operands.count(source) != 1 or len(made) != 1:
        return None
    map_at = operands.index(source)
    number, shape = folded(graph, operands[1 - map_at]), graph.shape(source)
    per_channel = number is not None and number.size in (1, channels) and number.shape[-1:] in ((), (number.size,))
    if number is None or not per_channel or graph.shape(made[0]) != shape or shape[-1:] != (channels,):
        return None
    arithmetic = arithmetic_of(name.lower(), number, channels, number_first=map_at == 1)
    if arithmetic is None or _activation(graph, operator) not in ACTIVATIONS:
        return None
    return FoldedStep((graph.number, operator), name, map_at, arithmetic)


def fold(root: Any, folds: Sequence[Fold]) -> Any:
    """A tree in which the operators of ``folds`` are in the weights of their sites."""
    new = root
    for number in sorted({node_of(each.site).graph.number for each in folds}):
        new = _fold_graph(new, [each for each in folds if node_of(each.site).graph.number == number], number)
    new = without_dead(root, new)
    return with_text(new, with_conversion(stored_text(new), _no_way_back(folds)))


def _fold_graph(root: Any, folds: Sequence[Fold], number: int) -> Any:
    """The tree with the folds of one subgraph; whatever read the last operator's result still does."""
    graph, writer = Graph(root, number), GraphWriter(root, number)
    operators, gone = list(graph.operators), set[int]()
    for each in folds:
        operator = node_of(each.site).operator
        operators[operator] = _folded_operator(writer, graph, each)
        for maker, result in _makers(graph, each.origin.nodes[0]).items():
            operators[maker] = copy.copy(operators[maker])
            operators[maker].outputs = np.asarray([result], np.int32)
        gone |= {step.node[1] for step in each.origin.nodes[0].steps}
    writer.subgraph.operators = [each for index, each in enumerate(operators) if index not in gone]
    return writer.root


def _makers(graph: Graph, around: Around[Where]) -> dict[int, int]:
    """What makes the results of the operators behind a site when these are gone: the site, or a crop."""
    makers, results = dict[int, int](), dict[int, int]()
    for step in around.behind:
        source, (result,) = graph.inputs_of(step.node[1])[step.map_at], graph.outputs_of(step.node[1])
        producer = graph.producer(source)
        assert producer is not None, "it stands behind the site"
        makers[result] = makers.get(source, producer)
        results[makers[result]] = result
    return results


def _folded_operator(writer: GraphWriter, graph: Graph, fold: Fold) -> Any:
    """The site's operator with new weights, in front of which nothing is computed any more."""
    node, around = node_of(fold.site), fold.origin.nodes[0]
    kind, operands = graph.name(node.operator), graph.inputs_of(node.operator)
    kernel, bias = new_values(fold, _own_values(node))
    stored = np.ascontiguousarray(kernel.transpose(np.argsort(FILTER_AXES[kind])))
    operands[1] = writer.constant(stored, f"{node.id}/kernel")
    if bias is not None:
        at = PLACES[kind].bias if kind in PLACES else 2
        operands[at:] = [writer.constant(bias, f"{node.id}/bias")]
    if around.front:
        first = around.front[0]
        operands[operands.index(node.source)] = graph.inputs_of(first.node[1])[first.map_at]
    activation = _activation(graph, around.behind[-1].node[1]) if around.behind else 0
    version = ACTIVATED_DECONV if activation else BIASED_DECONV
    version = version if kind == "TRANSPOSE_CONV" else 0
    writer.copied(graph.root, graph.operators[node.operator], operands, graph.outputs_of(node.operator), version)
    new = writer.operators[-1]
    if activation:
        new.builtinOptions = copy.copy(new.builtinOptions)
        new.builtinOptions.fusedActivationFunction = activation
    return new


def _no_way_back(folds: Sequence[Fold]) -> Rewriting:
    """As of all formats, with the tensors by which sites keep their names."""
    found = no_way_back(folds)
    sites = []
    for site, each in zip(found.sites, folds, strict=True):
        node = node_of(each.site)
        made = _makers(node.graph, each.origin.nodes[0]).get(node.operator, node.output)
        sites.append(replace(site, part=node.graph.number, results=(str(made),)))
    return replace(found, sites=tuple(sites))
