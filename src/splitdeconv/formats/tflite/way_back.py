"""What a converted model keeps of its original, and the original's operators in the place of the new ones again.

A conversion leaves all numbers of tensors and buffers as they are, so that the operators that are gone can be kept as
they were; what they read is in the buffers that became empty, but for kernels, which the new filters hold.
"""

from __future__ import annotations

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splitdeconv.deconv.program import Program
from splitdeconv.deconv.sub_pixel import REORDERED
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError, lacks_memory
from splitdeconv.formats.tflite.check import inconsistency
from splitdeconv.formats.tflite.constants import source_of
from splitdeconv.formats.tflite.file import pack
from splitdeconv.formats.tflite.flatbuffer import verify
from splitdeconv.formats.tflite.geometry import FILTER_AXES, as_stored_kernel
from splitdeconv.formats.tflite.graph import Graph, indices, text, touched_tensors
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.schema import op_name, tfl
from splitdeconv.formats.way_back import (
    CHANGED,
    KEY,
    MOVED,
    SAME_SITE,
    SMALL,
    SUMMED,
    TURNED,
    KeptFilter,
    KeptKernel,
    Rewriting,
    RewrittenSite,
    kept_kernel,
    put_together,
    undo_sites,
)
from splitdeconv.results.plan import Skipped


@dataclass(frozen=True, eq=False)
class ReplacedNode:
    """One site that was just rewritten: the node, its program, and the new operators."""

    node: Node
    program: Program
    operators: Sequence[Any]


def stored_text(root: Any) -> str:
    """The text under ``KEY``, or nothing."""
    entry = _entry(root)
    data = None if entry is None else root.buffers[entry.buffer].data
    return "" if data is None else bytes(data).decode("utf-8", "replace")


def kept_names(root: Any) -> dict[tuple[int, int], str]:
    """Names of sites that have got another output, by which they would be called, by subgraph and tensor."""
    try:
        sites = [
            site for each in json.loads(stored_text(root) or "{}").get("conversions", ()) for site in each["sites"]
        ]
        moved = [site for site in sites if site["lowering"] in SAME_SITE]
        return {(int(site["part"]), int(site["results"][0])): str(site["site"]) for site in moved}
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):  # it may be damaged
        return {}


def _entry(root: Any) -> Any:
    return next((each for each in root.metadata or [] if text(each.name) == KEY), None)


def with_text(root: Any, content: str) -> Any:
    """A tree with another text under ``KEY``; without one where it is empty."""
    new, entry = copy.copy(root), _entry(root)
    new.buffers, new.metadata = list(root.buffers), list(root.metadata or [])
    data = tfl.BufferT(data=np.frombuffer(content.encode(), np.uint8)) if content else tfl.BufferT()
    if entry is not None:
        new.buffers[entry.buffer] = data
    elif content:
        new.buffers.append(data)
        new.metadata.append(tfl.MetadataT(name=KEY.encode(), buffer=len(new.buffers) - 1))
    if not content and entry is not None:
        new.metadata.remove(entry)
    new.metadata = new.metadata or (root.metadata and None)
    return new


def rewriting(old: Any, new: Any, done: Sequence[ReplacedNode], removed: Mapping[int, Iterable[int]]) -> Rewriting:
    """What the original's operators and small constants were.

    Args:
        old, new: the tree before and after, contents that nothing reads any more left out.
        done: the sites.
        removed: subgraph → its operators that are gone.
    """
    dead = {number for number, (was, now) in enumerate(zip(old.buffers, new.buffers, strict=False)) if was is not now}
    after = {number: Graph(new, number) for number in {each.node.graph.number for each in done}}
    sites, kernels = [], set[int]()
    for each in done:
        graph = each.node.graph
        kernel = _kept_kernel(after[graph.number], each)
        buffer = graph.tensors[source_of(graph, each.node.kernel.tensor)].buffer
        size = len(old.buffers[buffer].data)
        is_kept_itself = buffer not in dead or (kernel.lost and size <= SMALL)
        if not is_kept_itself:
            kernels.add(buffer)
        made = tuple(str(tensor) for operator in each.operators for tensor in indices(operator.outputs))
        form, results = each.program.name, (str(each.node.result),)
        own = None if is_kept_itself else kernel
        sites.append(RewrittenSite(each.node.id, graph.describe(), False, form, graph.number, made, results, own))
    parts = [
        _part(old, new, number, sorted(removed.get(number, ())), dead - kernels) for number in range(max(removed) + 1)
    ]
    return Rewriting(tuple(sites), tuple(parts))


def _kept_kernel(graph: Graph, done: ReplacedNode) -> KeptKernel:
    """Where the kernel's values are in the new operators of ``graph``."""
    node = done.node
    if done.program.name == TURNED:
        deconv = done.program.deconv
        return KeptKernel(str(node.kernel.tensor), deconv.weights_shape, deconv.out_channels, 1, (), lost=REORDERED)
    made = [str(int(each.outputs[0])) for each in done.operators if op_name(graph.root, each) in FILTER_AXES]
    form = "deconv" if node.stretched is None else "turned" if node.stretched.geometry.turned else "conv"
    axes = tuple(int(axis) for axis in np.argsort(FILTER_AXES[node.graph.name(node.operator)]))
    kept = kept_kernel(done.program, str(node.kernel.tensor), made, form, axes=axes)
    stored = node.graph.content(node.kernel.tensor)
    if stored is None:
        return replace(kept, lost=MOVED)
    types = {found.dtype for each in kept.filters if (found := _filter(graph, each)) is not None}
    return kept if types == {stored.dtype} else replace(kept, lost=SUMMED)


def _filter(graph: Graph, kept: KeptFilter) -> Array | None:
    """The stored filter of a new convolution, OIHW (IOHW of a TRANSPOSE_CONV)."""
    operator = graph.producer(int(kept.made)) if kept.made.isdecimal() else None
    if operator is None or graph.name(operator) not in FILTER_AXES or len(graph.inputs_of(operator)) < 2:
        return None
    tensor = graph.inputs_of(operator)[1]
    opened = graph.producer(tensor)
    if opened is not None and graph.name(opened) == "DEQUANTIZE":
        tensor = graph.inputs_of(opened)[0]
    found, name = graph.content(tensor), graph.name(operator)
    return as_stored_kernel(name, found) if found is not None and found.ndim == len(FILTER_AXES[name]) else None


def _part(root: Any, new: Any, number: int, operators: Sequence[int], buffers: Iterable[int]) -> str:
    """Operators, contents and tensors of one subgraph that are gone; the inputs are the numbers of the tensors."""
    graph, after = root.subgraphs[number], new.subgraphs[number].tensors
    kept = set(buffers)
    tensors = {index: was for index, (was, now) in enumerate(zip(graph.tensors, after, strict=False)) if was is not now}
    part = tfl.ModelT(version=3, operatorCodes=root.operatorCodes)
    part.buffers = [each if index in kept else tfl.BufferT() for index, each in enumerate(root.buffers)]
    gone = [graph.operators[operator] for operator in operators]
    part.subgraphs = [tfl.SubGraphT(tensors=list(tensors.values()), inputs=list(tensors), operators=gone)]
    return b64encode(pack(part)).decode()


def undone(root: Any, last: Rewriting) -> tuple[Any, tuple[Skipped, ...]]:
    """A tree with the original's operators again, as far as it has what they need; and what stays.

    Raises:
        InputError: the description is damaged.
    """
    trees = [root]

    def undo(site: RewrittenSite, part: Any) -> None:
        trees.append(_undo(trees[-1], site, part))

    left = undo_sites(last, _read, undo)
    return trees[-1], left


def _read(content: str) -> Any:
    try:
        packed = b64decode(content)
        verify(packed)
        return tfl.ModelT.InitFromPackedBuf(packed)
    except Exception as error:  # the generated code fails in many ways
        if lacks_memory(error):
            raise
        raise InputError(f"what it holds of its original is damaged ({error})") from None


def _undo(root: Any, site: RewrittenSite, part: Any) -> Any:
    """One site's operators in the place of the new ones."""
    graph, pool = Graph(root, site.part), part.subgraphs[0].operators
    new = {graph.producer(int(tensor)) for tensor in site.new}
    if None in new or not new:
        raise InputError(CHANGED)
    wanted = _closure(graph, new, pool, [int(tensor) for tensor in site.results])
    result = copy.copy(root)
    result.buffers, result.operatorCodes = list(root.buffers), list(root.operatorCodes)
    result.subgraphs = list(root.subgraphs)
    result.subgraphs[site.part] = subgraph = copy.copy(root.subgraphs[site.part])
    subgraph.tensors = tensors = list(graph.tensors)
    gone = dict(zip(indices(part.subgraphs[0].inputs), part.subgraphs[0].tensors or [], strict=True))
    for tensor in touched_tensors(tfl.ModelT(), tfl.SubGraphT(operators=[pool[number] for number in wanted])):
        tensors[tensor] = gone.get(tensor, tensors[tensor])
    read = {tensor for number in wanted for tensor in indices(pool[number].inputs) if tensor >= 0}
    for buffer in {tensors[tensor].buffer for tensor in read}:
        if result.buffers[buffer].data is None and buffer < len(part.buffers):
            result.buffers[buffer] = part.buffers[buffer]
    if site.kernel is not None:
        tensor = tensors[int(site.kernel.name)]
        kernel = put_together(site.kernel, lambda kept: _filter(graph, kept))
        if list(kernel.shape) != indices(tensor.shape):
            raise InputError(CHANGED)
        result.buffers[tensor.buffer] = tfl.BufferT(data=np.frombuffer(kernel.tobytes(), np.uint8))
    back = [_with_code(result, part, pool[number]) for number in sorted(wanted)]
    at = min(number for number in new if number is not None)
    operators = [*graph.operators[:at], *back, *graph.operators[at:]]
    replaced = {id(graph.operators[number]) for number in new if number is not None}
    subgraph.operators = [each for each in operators if id(each) not in replaced]
    if problem := inconsistency(result, 0):
        raise InputError(f"what it holds of its original is damaged ({problem})")
    return result


def _closure(graph: Graph, new: set[int | None], pool: Sequence[Any], results: Sequence[int]) -> set[int]:
    """The operators of the pool without which the results are not made."""
    makers = {tensor: number for number, operator in enumerate(pool) for tensor in indices(operator.outputs)}
    wanted: set[int] = set()
    tensors = list(results)
    while tensors:
        tensor = tensors.pop()
        producer = graph.producer(tensor)
        if producer is not None and producer not in new:
            continue
        if tensor in makers and makers[tensor] not in wanted:
            wanted.add(makers[tensor])
            tensors += indices(pool[makers[tensor]].inputs)
        elif producer is not None and tensor not in makers:
            raise InputError(CHANGED)
    return wanted


def _with_code(root: Any, part: Any, operator: Any) -> Any:
    """The operator with its code's number in ``root``, where that may be added."""
    code, back = part.operatorCodes[operator.opcodeIndex], copy.copy(operator)
    same = (number for number, each in enumerate(root.operatorCodes) if vars(each) == vars(code))
    back.opcodeIndex = next(same, len(root.operatorCodes))
    if back.opcodeIndex == len(root.operatorCodes):
        root.operatorCodes.append(code)
    return back


def without_unread(root: Any) -> Any:
    """A tree without the tensors, buffers and operator codes at the ends of their lists that nothing reads."""
    new = copy.copy(root)
    new.subgraphs = [_shorter(root, graph) for graph in root.subgraphs]
    codes = {operator.opcodeIndex for graph in new.subgraphs for operator in graph.operators or []}
    new.operatorCodes = root.operatorCodes[: max(codes, default=0) + 1]
    buffers = {tensor.buffer for graph in new.subgraphs for tensor in graph.tensors or []}
    buffers |= {entry.buffer for entry in root.metadata or []}
    new.buffers = root.buffers[: max(buffers, default=0) + 1]
    return new


def _shorter(root: Any, graph: Any) -> Any:
    new = copy.copy(graph)
    new.tensors = graph.tensors[: max(touched_tensors(root, graph), default=-1) + 1]
    return new
