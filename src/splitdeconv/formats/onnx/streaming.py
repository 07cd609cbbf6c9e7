"""A whole model made one that works in chunks: a walk over the nodes, which keep what they need of earlier chunks.

Before: x → Conv (pads 1, 1) → y.
After: x → Where(inside the signal, x, 0) → Concat(state, ·) → Conv (no pads) → y, and the Concat's last samples are the
next state. Deconvs keep inputs in the same way, and have pads that cut what belongs to other chunks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

import onnx_ir as ir

from splitdeconv.deconv.streaming import NotStreamableError, Signal, Streaming, output_of
from splitdeconv.errors import UsageError
from splitdeconv.formats.onnx.constants import drop_unused
from splitdeconv.formats.onnx.graph import STANDARD_DOMAINS, Place, places
from splitdeconv.formats.onnx.shapes import infer
from splitdeconv.formats.onnx.streaming_rules import Rule, rule_for
from splitdeconv.formats.onnx.streaming_walk import Walk

METADATA = "splitdeconv.streaming"  # of models that work in chunks
_LEAST_OPSET = 11  # has Range


def stream(model: ir.Model, axes: Mapping[str, int], where: str) -> tuple[ir.Model, Streaming]:
    """A copy of ``model`` that takes its inputs in chunks.

    Args:
        model: not changed.
        axes: the streamed axis of each input that has one; the other inputs are the same for every chunk.
        where: names the model in messages.

    Raises:
        UsageError: some operator needs the whole signal, or more of the model is not known than that takes.
    """
    copy = model.clone()
    if copy.opset_imports.get("", 0) < _LEAST_OPSET:
        raise UsageError(f"{where}: opset {copy.opset_imports.get('', 0)}, streaming wants at least {_LEAST_OPSET}")
    walk = Walk(copy, infer(copy))
    nodes, original = list(places(copy)), list(copy.graph)
    _begin(walk, axes, original, where)
    for place in nodes:
        if place.in_main_graph:
            _visit(walk, place, where)
        elif any(value in walk.signals for value in place.node.inputs if value is not None):
            raise UsageError(f"{where}: {place.where} reads streamed values, and bodies are not streamed")
    return copy, _finish(walk, axes, where)


def _begin(walk: Walk, axes: Mapping[str, int], original: list[ir.Node], where: str) -> None:
    """Open the streamed axes of the inputs."""
    inputs = {value.name or "": value for value in walk.model.graph.inputs}
    for number, (name, axis) in enumerate(axes.items()):
        value = inputs[name]
        walk.signals[value] = Signal(axis)
        value.shape = ir.Shape([("frames" if at == axis else size) for at, size in enumerate(value.shape or ())])
        if not number:
            walk.count_frames(value, axis)
    for value in (each for node in original for each in node.outputs):
        value.shape = None  # of the whole signal
    _insert(walk, original[0] if original else None, where)


def _visit(walk: Walk, place: Place, where: str) -> None:
    """Make a node work in chunks."""
    node = place.node
    if not any(value in walk.signals for value in node.inputs if value is not None):
        return
    walk.new_writer(node.name or node.op_type)
    read = list(node.inputs)
    try:
        made = _rule(node)(walk, node)
    except (NotStreamableError, ValueError) as error:
        named = f" '{node.name}'" if node.name else ""
        raise UsageError(f"{where}: {node.op_type}{named} cannot be streamed: {error}") from None
    walk.signals.update({output: made for output in node.outputs if made is not None})
    _insert(walk, node, where)
    for value in read:
        drop_unused(value)


def _rule(node: ir.Node) -> Rule:
    if node.domain not in STANDARD_DOMAINS:
        raise NotStreamableError(f"what {node.domain}::{node.op_type} reads is not known")
    if any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attribute in node.attributes.values()
    ):
        raise NotStreamableError("it has a body")
    return rule_for(node)


def _insert(walk: Walk, before: ir.Node | None, where: str) -> None:
    if before is None:
        raise UsageError(f"{where}: the model has no nodes, so there is nothing to stream")
    walk.model.graph.insert_before(before, walk.writer.nodes)


def _finish(walk: Walk, axes: Mapping[str, int], where: str) -> Streaming:
    """The outputs of the states, and the description."""
    graph, outputs = walk.model.graph, {}
    for value in graph.outputs:
        signal = walk.signals.get(value)
        if signal is None:
            continue
        if signal.delay < 0:
            raise UsageError(f"{where}: output '{value.name}' is a Pad of the streamed axis, which nothing reads")
        outputs[value.name or ""] = output_of(signal)
        sizes = [
            ("samples" if at == signal.axis else size or f"{value.name}_{at}")
            for at, size in enumerate(walk.shape(value))
        ]
        value.shape = ir.Shape(sizes)
    if not outputs:
        raise UsageError(f"{where}: no output depends on the streamed axis of {', '.join(axes)}")
    states = {}
    for state, after in walk.states.items():
        after.name = f"next_{state.name}"
        after.type, after.shape = state.type, state.shape
        graph.outputs.append(after)
        states[state.name or ""] = after.name
    results = [value for value in graph.outputs if value in walk.signals]
    found = walk.streaming(dict(axes), outputs, results, states, walk.beyond.name or "")
    walk.model.metadata_props[METADATA] = json.dumps(asdict(found), default=str)  # rates as fractions
    return found
