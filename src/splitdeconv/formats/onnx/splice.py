"""Putting programs in the place of ConvTranspose nodes, and cutting a site out as a model of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import NativeDeconv
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv, WeightName
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.model import Site
from splitdeconv.formats.onnx.constants import drop_unused, known_constant
from splitdeconv.formats.onnx.emit import Source, crop_output, write_program
from splitdeconv.formats.onnx.epilogue import Tail, find_tail
from splitdeconv.formats.onnx.find import Anchor
from splitdeconv.formats.onnx.graph import MICROSOFT, Place, places
from splitdeconv.formats.onnx.quantised import Qdq, read_qdq
from splitdeconv.formats.onnx.quantised_emit import write_quantised
from splitdeconv.formats.onnx.quantised_stretched import (
    is_stored,
    read_stretched_qdq,
    real_source,
    write_as_the_model_has_it,
    write_stored_front,
)
from splitdeconv.formats.onnx.quantised_values import hand_over, requantise
from splitdeconv.formats.onnx.shapes import Shapes, state
from splitdeconv.formats.onnx.source import source_of, source_with
from splitdeconv.formats.onnx.stretched import StretchedValue
from splitdeconv.formats.onnx.stretched_emit import (
    StretchingCopy,
    beside_stages,
    write_beside,
    write_front,
    write_stages,
)
from splitdeconv.formats.onnx.way_back import Replaced, kept_weight, rewriting, stored_weight
from splitdeconv.formats.onnx.writer import Constants, Writer, take_over
from splitdeconv.formats.stretched import Stretched
from splitdeconv.formats.way_back import KEY, with_conversion

_METADATA_FROM = 10  # IR version in which nodes got metadata


def splice(model: ir.Model, programs: Mapping[str, Program], anchors: Sequence[Anchor], shapes: Shapes) -> ir.Model:
    """A copy of ``model`` with each named site replaced by its program; native programs leave their site alone.

    Args:
        model: not changed.
        programs: by the names of sites.
        anchors: of the model's sites.
        shapes: of its values, by which the new ones are stated.
    """
    copy = model.clone()
    twins = dict(zip((place.node for place in places(model)), places(copy), strict=True))
    held = list(copy.graphs())
    taken = _names(held, twins.values())
    main = Constants(copy.graph, copy.ir_version, taken)
    renewed: dict[ir.Value, ir.Value] = {}
    done: list[Replaced] = []
    for anchor in anchors:
        program = programs.get(anchor.name)
        if program is None or is_native(program):
            continue
        place = twins[anchor.place.node]
        constants = main if place.in_main_graph else Constants(None, copy.ir_version, taken)
        front = None
        if isinstance(anchor.stretched, Stretched):
            maps = [_twin(value, twins, copy) for value in anchor.stretched.maps]
            front = _Front(anchor.stretched, *(renewed.get(value, value) for value in maps))
        done.append(_replace(anchor.name, place, program, constants, copy.ir_version, front))
        renewed[done[-1].last.outputs[0]] = done[-1].output
    if done:
        _state(done, shapes)
        text = with_conversion(copy.metadata_props.get(KEY, ""), rewriting(held, twins, done))
        copy.metadata_props[KEY] = text
    return copy


def _state(done: Sequence[Replaced], shapes: Shapes) -> None:
    """Give what the new nodes of each graph make types and shapes; names of functions are no names of ``shapes``."""
    together: dict[ir.Graph | ir.Function, list[Replaced]] = {}
    for each in done:
        together.setdefault(each.place.graph, []).append(each)
    for sites in together.values():
        nodes = [node for each in sites for node in each.nodes if node.graph is not None]
        place = sites[0].place
        state(nodes, place.opset, Shapes({}) if place.in_function else shapes)


class _Front:
    """What stands in front of the program of a stretched map, in a copy of the model."""

    def __init__(self, stretched: StretchedValue, source: ir.Value, *beside: ir.Value) -> None:
        self.stretched, self._source, self._beside = stretched, source, beside

    def write(self, writer: Writer, qdq: Qdq | None) -> tuple[ir.Value, list[ir.Value]]:
        """The program's inputs; stored ones of a quantised site."""
        if qdq is not None:
            return write_stored_front(writer, self.stretched, self._source, qdq.values), []
        x = write_front(writer, self.stretched, self._source)
        return x, write_beside(writer, self.stretched, self._beside)


def _twin(value: ir.Value, twins: Mapping[ir.Node, Place], copy: ir.Model) -> ir.Value:
    """The value of the copy that stands for ``value`` of the model."""
    producer = value.producer()
    if producer is not None:
        return twins[producer].node.outputs[value.index() or 0]
    inputs = (each for graph in copy.graphs() for each in graph.inputs)
    return next(each for each in inputs if each.name == value.name)


def is_native(program: Program) -> bool:
    """Whether the program is the runtime's own deconv as the model has it."""
    op = program.steps[0].op
    return isinstance(op, NativeDeconv) and not op.simplified


def _names(held: Iterable[ir.Graph], nodes: Iterable[Place]) -> set[str]:
    """All names of nodes and values."""
    names = {value.name or "" for graph in held for value in (*graph.inputs, *graph.initializers.values())}
    for place in nodes:
        names.add(place.node.name or "")
        names.update([output.name or "" for output in place.node.outputs])
    return names


def _replace(
    site: str,
    place: Place,
    program: Program,
    constants: Constants,
    ir_version: int,
    front: _Front | None,
) -> Replaced:
    """Write the program behind the epilogue's last node, and remove the nodes that it replaces.

    Args:
        front: what the program of a stretched map reads; None where the node's own input is read.
    """
    stretched = front.stretched if front else None
    qdq = qdq_of(place, program.deconv, stretched)
    found = tail_of(place, program.deconv) if qdq is None else qdq
    stages, old = found.stages, [place.node, *found.nodes]
    parameters = [value for node in old for value in node.inputs if value is not None]
    writer = Writer(site, place.opset, constants, _notes(site, place, program))
    last = old[-1]
    source = source_of(place, program.deconv, qdq, stretched)
    own = place.node.inputs[0] if qdq is None else qdq.x
    x, further = (own, []) if front is None else front.write(writer, qdq)
    assert x is not None, "a convolution has an input"
    if qdq is None:
        output = write_program(writer, program, x, source, stages, further)
        take_over(last.outputs[0], output)
    else:
        stored = write_quantised(writer, program, x, source, stages)
        output = hand_over(writer, stored, last.outputs[0], qdq.values.y_type)
    weight = stored_weight(place, qdq, source)
    kernel, small = kept_weight(place, program, source, weight, stretched, writer.nodes)
    if ir_version < _METADATA_FROM:
        _metadata_to_doc(writer.nodes)
    last.outputs[0].replace_all_uses_with(output, replace_graph_outputs=True)
    place.graph.insert_after(last, writer.nodes)
    place.graph.remove(old, safe=True)
    produced = {id(node.outputs[0]) for node in old}
    for value in dict.fromkeys(parameters):
        if id(value) not in produced and value is not x:
            drop_unused(value)
    return Replaced(site, place, program.name, tuple(writer.nodes), weight, kernel, small, last, output)


def tail_of(place: Place, deconv: Deconv) -> Tail:
    """What follows a float site."""
    return find_tail(place, len(deconv.axes) + 2, deconv.out_channels, deconv.uncropped_sizes)


def qdq_of(place: Place, deconv: Deconv, stretched: StretchedValue | None) -> Qdq | None:
    """What a quantised site has, or None where it is a float one."""
    if deconv.quant is None:
        return None
    if stretched is not None:
        return read_stretched_qdq(place, stretched, deconv.uncropped_sizes)
    return read_qdq(place, lambda _: deconv.uncropped_sizes)


def _notes(site: str, place: Place, program: Program) -> dict[str, str]:
    """What the new convolutions keep of the node that they replace."""
    attributes: dict[str, Any] = {
        attribute.name: attribute.value for attribute in place.node.attributes.values() if not attribute.is_ref()
    }
    original = {"name": place.node.name, "op_type": place.node.op_type, "attributes": attributes}
    if place.node.doc_string:
        original["doc_string"] = place.node.doc_string
    return {
        **place.node.metadata_props,
        "splitdeconv.site": site,
        "splitdeconv.lowering": program.name,
        "splitdeconv.original": json.dumps(original, default=_jsonable),
    }


def _jsonable(found: Any) -> Any:
    return found.decode() if isinstance(found, bytes) else list(found)


def _metadata_to_doc(nodes: list[ir.Node]) -> None:
    """Before IR version 10 nodes had no metadata: the notes become the doc string."""
    for node in nodes:
        if node.metadata_props:
            node.doc_string = json.dumps(dict(node.metadata_props))
            node.metadata_props.clear()


def stand_alone(ir_version: int, site: Site, program: Program, weights: Weights | None) -> ir.Model:
    """One site as a model: input ``x``, output ``y``.

    Args:
        ir_version: of the model that holds the site.
        site: with the sizes that the result is to have.
        program: how it is computed.
        weights: used instead of the site's own, and then without the epilogue.
    """
    place, deconv = place_of(site), site.deconv
    ir_version = max(ir_version, 4)
    stretched = stretched_of(site)
    qdq = qdq_of(place, deconv, stretched)
    stored = (weights or site.weights).kernel.dtype if qdq is None else np.dtype(qdq.values.x_type)
    dtype = ir.DataType.from_numpy(stored)
    x = ir.Value(name="x", type=ir.TensorType(dtype), shape=ir.Shape(program.in_shape))
    further = [
        ir.Value(name=f"x{number}", type=ir.TensorType(dtype), shape=ir.Shape(shape))
        for number, shape in enumerate(program.inputs, start=1)
    ]
    values: dict[WeightName, ir.Value] = {
        name: ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(array.shape))
        for name, array in run_time_of(site, weights or site.weights).items()
    }
    graph = ir.Graph([x, *further, *values.values()], [], nodes=[], opset_imports={"": place.opset}, name=site.id)
    writer = Writer(
        site.id, place.opset, Constants(graph, ir_version, {"y", *(value.name or "" for value in graph.inputs)}), {}
    )
    source = source_of(place, deconv, qdq, stretched)
    stages = tail_of(place, deconv).stages if qdq is None else qdq.stages
    if weights is not None:
        source, stages = source_with(weights, source), ()
    source = replace(source, run_time=values)
    others: list[ir.Value] = []
    if stretched is not None and weights is None and qdq is None:
        y, *others = _write_stretched(writer, site, program, [x, *further], source)
    elif stretched is not None and weights is None and qdq is not None:
        y, *others = _write_stored_stretched(writer, site, program, x, source, qdq)
        dtype = ir.DataType.from_numpy(np.dtype(qdq.values.y_type))
    elif source.quant is None:
        y = write_program(writer, program, x, source, stages, further)
    else:
        y = requantise(writer, write_quantised(writer, program, x, source, stages), source.quant.y_type).value
        dtype = ir.DataType.from_numpy(np.dtype(source.quant.y_type))
    y.name, y.type = "y", ir.TensorType(dtype)
    y.shape = ir.Shape(program.shapes()[-1])
    graph.outputs.append(y)
    for kept in others:
        kept.name = "kept"
        kept.type = kept.type or ir.TensorType(dtype)
        graph.outputs.append(kept)
    graph.extend(writer.nodes)
    graph.opset_imports.update({node.domain: 1 for node in writer.nodes if node.domain == MICROSOFT})
    return ir.Model(graph, ir_version=ir_version, producer_name="splitdeconv")


def _write_stretched(
    writer: Writer, site: Site, program: Program, inputs: Sequence[ir.Value], source: Source
) -> list[ir.Value]:
    """A convolution of a stretched map with all that belongs to it: as the model has it, or by its program.

    The first input is the small map in the convolution's layout, its borders done. Behind the output comes what stays
    of the stretching whatever becomes of the site, so that each form's time has it.
    """
    (place, stretched), (x, *further) = site.origin.nodes, inputs
    stages = tail_of(place, site.deconv).stages
    needed = stretched.is_plain and (is_native(program) or stretched.kept)
    copy = StretchingCopy(writer, stretched, x, further) if needed else None
    part, rank = stretched.part, len(stretched.perm)
    value = copy.of(place.node.inputs[0]) if copy and is_native(program) else None
    if value is None:
        others = [write_stages(writer, beside_stages(part, place.opset, rank), each) for each in further]
        y = write_program(writer, program, write_stages(writer, stretched.stages, x), source, stages, others)
    else:
        names: tuple[WeightName, ...] = ("kernel", "bias")
        weights = [
            source.run_time.get(name) or writer.array("weight", known_constant(each, place.opset))
            for name, each in zip(names, place.node.inputs[1:], strict=False)
            if each
        ]
        y = crop_output(writer, site.deconv, writer.copy(place.node, [value, *weights]))
        y = write_stages(writer, stages, y)
    kept = copy.of(stretched.kept) if copy and stretched.kept else None
    return [y] if kept is None else [y, kept]


def _write_stored_stretched(
    writer: Writer, site: Site, program: Program, x: ir.Value, source: Source, qdq: Qdq
) -> list[ir.Value]:
    """As :func:`_write_stretched` of a quantised site: stored maps, and what stays stored or not."""
    place, stretched = site.origin.nodes
    needed = stretched.is_plain and (is_native(program) or stretched.kept)
    copy = StretchingCopy(writer, stretched, real_source(writer, stretched, x, qdq.values)) if needed else None
    value = copy.of(place.node.inputs[0]) if copy and is_native(program) else None
    if value is None:
        y = write_quantised(writer, program, x, source, qdq.stages)
        stored = requantise(writer, y, qdq.values.y_type).value
    else:
        stored = crop_output(writer, site.deconv, write_as_the_model_has_it(writer, place, qdq, value))
    kept = copy.of(stretched.kept) if copy and stretched.kept else None
    if kept is None:
        return [stored]
    dtype = np.dtype(qdq.values.x_type if is_stored(stretched, stretched.kept) else np.float32)
    kept.type = ir.TensorType(ir.DataType.from_numpy(dtype))
    return [stored, kept]


def run_time_of(site: Site, weights: Weights) -> dict[WeightName, Array]:
    """The parameters that the model computes, as the site's node reads them."""
    found, stretched = weights.run_time(site.deconv), stretched_of(site)
    if stretched is not None and "kernel" in found:
        found["kernel"] = stretched.weight_of(found["kernel"])
    return found


def place_of(site: Site) -> Place:
    """Where a site's ConvTranspose, or convolution, stands."""
    place = site.origin.nodes[0]
    assert isinstance(place, Place), "a site of an ONNX model"
    return place


def stretched_of(site: Site) -> StretchedValue | None:
    """The stretched map that a site's convolution reads, or None of a ConvTranspose."""
    return site.origin.nodes[1] if site.deconv.written_out is not None else None
