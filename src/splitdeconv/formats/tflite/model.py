"""TFLite models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from splitdeconv.deconv.network import Compilable, Operations
from splitdeconv.deconv.ops import Layout
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.folding import find_folds
from splitdeconv.formats.model import Findings, Fold, Input, Model, Origin, Site, SubPixelSite
from splitdeconv.formats.sub_pixels import apart
from splitdeconv.formats.tflite import file
from splitdeconv.formats.tflite.counts import map_bytes, operator_counts
from splitdeconv.formats.tflite.file import Contents
from splitdeconv.formats.tflite.fixed_sizes import settled_by_inputs, watched, with_fixed_sizes
from splitdeconv.formats.tflite.fold import OperatorsAround, bare, fold
from splitdeconv.formats.tflite.fused import difference
from splitdeconv.formats.tflite.graph import Graph, indices, text
from splitdeconv.formats.tflite.kernels import left_out
from splitdeconv.formats.tflite.layer import layer_root
from splitdeconv.formats.tflite.node import Node, node_of
from splitdeconv.formats.tflite.nodes import find_nodes
from splitdeconv.formats.tflite.refuse import refusal, unportable
from splitdeconv.formats.tflite.splice import splice, stand_alone, without_dead
from splitdeconv.formats.tflite.sub_pixel import find_sub_pixels, stand_alone_sub_pixel, turn
from splitdeconv.formats.tflite.way_back import stored_text, undone, with_text, without_unread
from splitdeconv.formats.tflite.work import operations, other_macs
from splitdeconv.formats.way_back import Rewriting, WayBack, undo_all
from splitdeconv.results.plan import Skipped
from splitdeconv.results.verdict import FusedDifference
from splitdeconv.targets.litert import distinct

if TYPE_CHECKING:
    from typing_extensions import Self

    from splitdeconv.targets.target import Target


@dataclass(frozen=True)
class TfliteModel(Model):
    """A FlatBuffer of schema version 3.

    Attributes:
        contents: of the file.
        path: the file, or None for a model that is in none.
        numerics: ``exact`` keeps every rounding step of quantised models; ``fused`` also folds a separate bias
            addition and a rescaling activation into the convolutions, which changes the bits; ``requantised`` also
            splits int8 convolutions of upsampled maps, whose filters become others.
        left_out: sites that no delegate takes on the runtime that was asked, and whose rewritten forms have other bits
            for that.
        sizes: of the maps that sites with open sizes read, where a run told them.
    """

    format: ClassVar[str] = "tflite"
    layout: ClassVar[Layout] = "NHWC"
    suffix: ClassVar[str] = ".tflite"
    runtime: ClassVar[str] = "litert"
    reference_runtime: ClassVar[str] = "litert:reference"
    asks_runtime: ClassVar[bool] = True
    numerics_known: ClassVar[tuple[str, ...]] = ("exact", "fused", "requantised")

    contents: Contents
    path: Path | None = None
    numerics: str = "exact"
    left_out: frozenset[str] = frozenset()
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def root(self) -> Any:
        """The schema's ``ModelT`` tree."""
        return self.contents.root

    @classmethod
    def load(cls, path: Path, numerics: str = "exact") -> Self:
        return cls(file.read(path), path, numerics)

    @classmethod
    def from_object(cls, source: object, numerics: str = "exact") -> Self | None:
        """From the bytes of a file."""
        if not isinstance(source, bytes | bytearray):
            return None
        return cls(file.from_bytes(bytes(source), "<bytes>"), None, numerics)

    @classmethod
    def layer(cls, deconv: Deconv, epilogue: Sequence[str]) -> Self:
        content = file.pack(layer_root(deconv, epilogue))
        return cls(file.from_bytes(content, deconv.describe()))

    def find(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        read = find_nodes(self.root, self.numerics)
        sites = tuple(_site(each, self.sizes) for each in read if isinstance(each, Node))
        skipped = tuple(each for each in read if isinstance(each, Skipped))
        own = {each.operator for each in read if isinstance(each, Node) and each.graph.number == 0}
        return Findings(sites, skipped, other_macs(self.root, own))

    def foldable(self) -> tuple[tuple[Fold, ...], tuple[Skipped, ...]]:
        return find_folds([bare(site) for site in self.find().sites], OperatorsAround())

    def folded(self, folds: Sequence[Fold]) -> Self:
        return self._with_root(fold(self.root, folds)) if folds else self

    def sub_pixels(
        self, in_shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> tuple[tuple[SubPixelSite, ...], tuple[Skipped, ...]]:
        return apart(find_sub_pixels(self.root))

    def emit_sub_pixel(self, site: SubPixelSite, kernel: Array, bias: Array | None, *, turned: bool) -> Compilable:
        return _compilable(stand_alone_sub_pixel(site, kernel, bias, turned=turned))

    def turned(self, sites: Sequence[SubPixelSite]) -> Self:
        return self._with_root(turn(self.root, sites))

    def sized_by(self, in_shapes: Mapping[str, tuple[int, ...]], run: Callable[[Model], Mapping[str, Array]]) -> Self:
        """The maps in front of sites with open sizes become outputs of the model that runs."""
        nodes = [node_of(site) for site in self.find().sites if None in site.deconv.in_sizes]
        nodes = [node for node in nodes if node.graph.number == 0]
        seen = _with_outputs(self.root, [node.source for node in nodes])
        outputs = run(self._with_root(seen))
        names = zip((node.id for node in nodes), _output_names(seen), strict=True)
        return replace(self, sizes={site: outputs[name].shape for site, name in names if name in outputs})

    def fixed(self, in_shapes: Mapping[str, tuple[int, ...]], run: Callable[[Model], Mapping[str, Array]]) -> Self:
        """Delegates take a deconv whose output shape is constant, not one that computes it."""
        settled = settled_by_inputs(self.root)
        seen = watched(self.root, settled)
        outputs = run(self._with_root(seen))
        found = [outputs[name] for name in _output_names(seen) if name in outputs]
        if not settled.maps or len(found) < len(seen.subgraphs[0].outputs):
            return self
        return self._with_root(with_fixed_sizes(self.root, settled, found))

    def seen_by(self, runner: Target) -> Self:
        sites = self.find().sites
        own = Compilable(self.path) if self.path is not None else Compilable(self.to_object())
        found = left_out([node_of(site) for site in sites], own, runner)
        return replace(self, left_out=found) if found else self

    def refuse(self, site: Site, program: Program) -> str | None:
        """Why ``program`` would not be exact, or cannot be written, in this format; None if it can."""
        return refusal(program, self.numerics, left_out=site.id in self.left_out)

    def unportable(self, program: Program) -> str | None:
        return unportable(program)

    def emit(self, site: Site, program: Program, weights: Weights | None = None) -> Compilable:
        return _compilable(stand_alone(node_of(site), program, weights))

    def operations(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Operations:
        return operations(self.root, str(self.path or "the model"))

    def operator_counts(self) -> Mapping[str, int]:
        return operator_counts(self.root)

    def peak_bytes(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> int | None:
        return map_bytes(self.root, [(in_shapes or {}).get(each.name) for each in self.inputs()])

    def splice(self, programs: Mapping[str, Program]) -> Self:
        root = splice(self.root, programs, self.numerics)
        return replace(self._with_root(root), left_out=frozenset())

    def way_back(self) -> str:
        return stored_text(self.root)

    def undo(self, way_back: WayBack) -> tuple[Self, tuple[Skipped, ...]]:
        root = self.root

        def undo(last: Rewriting) -> tuple[Skipped, ...]:
            nonlocal root
            root, left = undone(root, last)
            return left

        text, stayed = undo_all(way_back, undo)
        root = without_unread(with_text(without_dead(self.root, root), text))
        return replace(self._with_root(root), left_out=frozenset()), stayed

    def _with_root(self, root: Any) -> Self:
        return replace(self, contents=replace(self.contents, root=root), path=None)

    def inputs(self) -> tuple[Input, ...]:
        graph = Graph(self.root, 0)
        tensors = indices(self.root.subgraphs[0].inputs)
        names = distinct([text(graph.tensors[tensor].name) for tensor in tensors])
        return tuple(_input(graph, tensor, name) for tensor, name in zip(tensors, names, strict=True))

    def float64(self, feeds: Mapping[str, Array], *, patient: bool = False) -> dict[str, Array] | str:
        return "TFLite models are evaluated by LiteRT only, which has no float64"

    def files(self) -> tuple[Path, ...]:
        return () if self.path is None else (self.path,)

    def save(self, path: Path) -> None:
        path.write_bytes(self.to_object())

    def to_object(self) -> bytes:
        """The content of a file, which is what LiteRT's interpreter takes."""
        return file.to_bytes(self.contents)

    def difference(self, site: Site, x: Array, before: Array, after: Array) -> FusedDifference:
        return difference(node_of(site), x, before, after)


def _compilable(root: Any) -> Compilable:
    """A stand-alone model for targets."""
    content = file.pack(root)
    return Compilable(content, partial(operations, root, "the model"), partial(_evaluate, content))


def _evaluate(content: bytes, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs, by LiteRT: the format has no other definition."""
    from splitdeconv.targets.litert import LiteRtModel, interpreter  # noqa: PLC0415  # only of targets that do not run

    return LiteRtModel(interpreter(content, "xnnpack", 1)).run(feeds)


def _site(node: Node, sizes: Mapping[str, tuple[int, ...]]) -> Site:
    notes, deconv = node.notes, node.deconv
    if node.id in sizes:
        batch, *in_sizes, _ = sizes[node.id]
        deconv = deconv.with_in_sizes(batch, in_sizes)
    if node.epilogue.changes_bits:
        notes = (*notes, "a rounding step of its epilogue goes away, which changes bits")
    where, operators = node.graph.describe(), node.epilogue.names
    return Site(node.id, Origin((node,)), deconv, node.weights(), operators, where, notes)


def _with_outputs(root: Any, tensors: Sequence[int]) -> Any:
    """The tree with other outputs of its first subgraph, and without signatures, which name the old ones."""
    new, first = copy.copy(root), copy.copy(root.subgraphs[0])
    first.outputs = np.asarray(tensors, np.int32)
    new.subgraphs, new.signatureDefs = [first, *root.subgraphs[1:]], None
    return new


def _output_names(root: Any) -> list[str]:
    """Names of the outputs of the first subgraph, as runs give them."""
    graph = Graph(root, 0)
    return distinct([text(graph.tensors[tensor].name) for tensor in graph.outputs])


def _input(graph: Graph, tensor: int, name: str) -> Input:
    found = graph.tensors[tensor]
    quantised = found.quantization is not None and found.quantization.scale is not None
    quantised = quantised and len(found.quantization.scale) > 0
    return Input(name, graph.type_name(tensor), graph.shape(tensor), quantised, _output_shape(graph, tensor))


def _output_shape(graph: Graph, tensor: int) -> tuple[int, ...]:
    """The recorded shape, where an input of the model says the output shape of a deconv."""
    for operator in range(len(graph.operators)):
        if graph.name(operator) == "TRANSPOSE_CONV" and graph.inputs_of(operator)[0] == tensor:
            shape = graph.shape(graph.outputs_of(operator)[0])
            return () if None in shape else tuple(size or 1 for size in shape)
    return ()
