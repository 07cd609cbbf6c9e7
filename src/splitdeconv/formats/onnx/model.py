"""ONNX models."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir import serde

from splitdeconv.deconv.network import Compilable, Operations
from splitdeconv.deconv.ops import Layout, Shape
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv, WeightName
from splitdeconv.deconv.streaming import Streaming
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import SplitdeconvError, UsageError, lacks_memory
from splitdeconv.formats.folding import find_folds
from splitdeconv.formats.model import Findings, Fold, Input, Model, Site, SubPixelSite
from splitdeconv.formats.onnx import files, float64
from splitdeconv.formats.onnx.emit import refuse
from splitdeconv.formats.onnx.find import Anchor, anchors, unread
from splitdeconv.formats.onnx.fold import NodesAround, fold
from splitdeconv.formats.onnx.graph import is_quantiser
from splitdeconv.formats.onnx.kept import NOTHING, Kept, from_proto, to_proto
from splitdeconv.formats.onnx.layer import layer_model
from splitdeconv.formats.onnx.quantised_emit import refuse as refuse_quantised
from splitdeconv.formats.onnx.quantised_layer import qdq_model, trained_like_weights
from splitdeconv.formats.onnx.readable import readable
from splitdeconv.formats.onnx.shapes import Shapes, infer
from splitdeconv.formats.onnx.splice import place_of, qdq_of, run_time_of, splice, stand_alone, stretched_of
from splitdeconv.formats.onnx.streaming import stream
from splitdeconv.formats.onnx.sub_pixel import find_sub_pixels, stand_alone_sub_pixel, turn
from splitdeconv.formats.onnx.watched import sizes, unknown, watched
from splitdeconv.formats.onnx.way_back import undone
from splitdeconv.formats.onnx.work import map_bytes, operations, operator_counts, other_macs
from splitdeconv.formats.open_sizes import with_batch_of_one
from splitdeconv.formats.sub_pixels import apart
from splitdeconv.formats.way_back import KEY, WayBack, undo_all
from splitdeconv.results.plan import Skipped

if TYPE_CHECKING:
    from typing_extensions import Self

_BITS = 8  # of the weights of quantised layers


@dataclass(frozen=True)
class OnnxModel(Model):
    """A model in memory; its external data stay on disk until they are used.

    Attributes:
        ir: the model.
        path: where it came from, or None for a model that was handed over in memory.
        data_files: files that hold its external data; a model that came with some is written in that way.
        kept: what onnx_ir does not carry.
        seen: shapes of inner maps in a run, by name, for sizes of inputs as that run had.
    """

    format: ClassVar[str] = "onnx"
    layout: ClassVar[Layout] = "NCHW"
    suffix: ClassVar[str] = ".onnx"
    runtime: ClassVar[str] = "onnxruntime"
    reference_runtime: ClassVar[str] = "onnxruntime"
    numerics_known: ClassVar[tuple[str, ...]] = ("exact", "requantised")

    ir: ir.Model
    path: Path | None
    data_files: tuple[Path, ...] = ()
    numerics: str = "exact"
    kept: Kept = NOTHING
    notes: tuple[str, ...] = ()
    seen: Mapping[str, Shape] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, numerics: str = "exact") -> Self:
        with _uncollected():
            model, data_files, kept = files.load(path)
            in_order = files.put_in_order(model, path)
            model, notes = readable(model)
            return cls(model, path, data_files, numerics, kept, (*in_order, *notes))

    @classmethod
    def from_object(cls, source: object, numerics: str = "exact") -> Self | None:
        if isinstance(source, onnx.ModelProto):
            model, kept = from_proto(source)
            in_order = files.put_in_order(model, None)
        elif isinstance(source, ir.Model):
            model, kept, in_order = source, NOTHING, ()
        else:
            return None
        model, notes = readable(model)
        return cls(model, None, files.data_files(model), numerics, kept, (*in_order, *notes))

    @classmethod
    def layer(cls, deconv: Deconv, epilogue: Sequence[str]) -> Self:
        if deconv.quant is None:
            return cls(ir.from_proto(layer_model(deconv, epilogue)), None)
        if deconv.written_out is not None:
            raise UsageError(f"{deconv.describe()}: quantised layers of this kind are written as TFLite only")
        weights = trained_like_weights(deconv, _BITS)
        return cls(ir.from_proto(qdq_model(deconv, weights, epilogue=epilogue)), None)

    def find(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        return self._found if not in_shapes else self._find(in_shapes)

    @cached_property
    def _found(self) -> Findings:
        """Its deconvs with the sizes that the inputs state; more than one stage asks for them."""
        return self._find({})

    def _find(self, in_shapes: Mapping[str, tuple[int, ...]]) -> Findings:
        with _reading(self.path):
            shapes = self._shapes(in_shapes)
            trained = self.kept.trained()
            read = [
                _trained(each, trained) or each.read(shapes, self._stated, self.ir.ir_version) for each in self._anchors
            ]
            sites = tuple(each for each in read if isinstance(each, Site))
            skipped = (*(each for each in read if isinstance(each, Skipped)), *unread(self.ir))
            return Findings(sites, skipped, other_macs(self.ir, shapes, {place_of(site).node for site in sites}))

    def foldable(self) -> tuple[tuple[Fold, ...], tuple[Skipped, ...]]:
        sites = self.find().sites
        with _reading(self.path):
            return find_folds(sites, NodesAround(self.ir, self._stated, self.kept.trained()))

    def folded(self, folds: Sequence[Fold]) -> Self:
        with _reading(self.path):
            return replace(self, ir=fold(self.ir, folds), path=None) if folds else self

    def sub_pixels(
        self, in_shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> tuple[tuple[SubPixelSite, ...], tuple[Skipped, ...]]:
        with _reading(self.path):
            return apart(find_sub_pixels(self.ir, self._shapes(in_shapes)))

    def emit_sub_pixel(self, site: SubPixelSite, kernel: Array, bias: Array | None, *, turned: bool) -> Compilable:
        alone = type(self)(stand_alone_sub_pixel(self.ir.ir_version, site, kernel, bias, turned=turned), None)
        return Compilable(bytes(alone.to_object().SerializeToString()), alone.operations)

    def turned(self, sites: Sequence[SubPixelSite]) -> Self:
        with _reading(self.path):
            return replace(self, ir=turn(self.ir, sites), path=None)

    def sized_by(self, in_shapes: Mapping[str, tuple[int, ...]], run: Callable[[Model], Mapping[str, Array]]) -> Self:
        with _reading(self.path):
            names = unknown(self.ir, self._shapes(in_shapes))
            return replace(self, seen=sizes(names, run(replace(self, ir=watched(self.ir, names))))) if names else self

    def streamed(self, axes: Mapping[str, int]) -> tuple[Self, Streaming]:
        with _reading(self.path):
            model, streaming = stream(self.ir, axes, str(self.path or "the model"))
            return replace(self, ir=model, path=None), streaming

    def _shapes(self, in_shapes: Mapping[str, tuple[int, ...]] | None) -> Shapes:
        shapes = infer(self.ir, in_shapes) if in_shapes else self._stated
        return replace(shapes, by_name={**shapes.by_name, **self.seen}) if self.seen else shapes

    @cached_property
    def _anchors(self) -> tuple[Anchor, ...]:
        """What the sites are made of: the same whatever sizes are given for open inputs."""
        return anchors(self.ir, self._stated, self.numerics)

    @cached_property
    def _stated(self) -> Shapes:
        """All sizes, from those that the inputs state."""
        return infer(self.ir)

    def refuse(self, site: Site, program: Program) -> str | None:
        place = place_of(site)
        reason = refuse(program, place.opset)
        if reason is not None or site.weights.quant is None:
            return reason
        qdq = qdq_of(place, site.deconv, stretched_of(site))
        assert qdq is not None, "a quantised site is between DequantizeLinear and QuantizeLinear"
        return refuse_quantised(program, place.opset, site.weights.quant, site.weights.bias, qdq.stages)

    def emit(self, site: Site, program: Program, weights: Weights | None = None) -> Compilable:
        alone = type(self)(stand_alone(self.ir.ir_version, site, program, weights), None)
        proto = alone.to_object()
        return Compilable(bytes(proto.SerializeToString()), alone.operations, partial(_evaluate, proto))

    def run_time(self, site: Site, weights: Weights) -> dict[WeightName, Array]:
        return run_time_of(site, weights)

    def operations(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Operations:
        with _reading(self.path):
            shapes = infer(self.ir, with_batch_of_one(self.inputs(), in_shapes or {}))
            return operations(self.ir, shapes, str(self.path or "the model"))

    def operator_counts(self) -> Mapping[str, int]:
        return operator_counts(self.ir)

    def peak_bytes(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> int | None:
        known = with_batch_of_one(self.inputs(), in_shapes or {})
        shapes = [known.get(each.name, each.shape) for each in self.inputs()]
        if any(shape is None or None in shape for shape in shapes):
            return None  # as inference would find, which takes long
        with _reading(self.path):
            return map_bytes(self.ir, self._shapes(known))

    def splice(self, programs: Mapping[str, Program]) -> Self:
        try:
            with _uncollected():
                return replace(self, ir=splice(self.ir, programs, self._anchors, self._stated))
        except RuntimeError as error:  # onnx_ir does not copy graphs that run in a circle, or are not in order
            raise files.unsound(self.path, error.__cause__ or error) from None

    def way_back(self) -> str:
        return str(self.ir.metadata_props.get(KEY, ""))

    def undo(self, way_back: WayBack) -> tuple[Self, tuple[Skipped, ...]]:
        copy = self.ir.clone()
        text, stayed = undo_all(way_back, partial(undone, copy))
        copy.metadata_props.pop(KEY, None)
        if text:
            copy.metadata_props[KEY] = text
        files.put_in_order(copy, self.path)
        return replace(self, ir=copy, path=None), stayed

    def inputs(self) -> tuple[Input, ...]:
        graph = self.ir.graph
        given = [value for value in graph.inputs if (value.name or "") not in graph.initializers]
        return tuple(Input(value.name or "", _dtype(value), _shape(value), _is_quantised(value)) for value in given)

    def float64(self, feeds: Mapping[str, Array], *, patient: bool = False) -> dict[str, Array] | str:
        if reason := float64.refuse(self.ir, {name: array.shape for name, array in feeds.items()}, patient=patient):
            return reason
        try:
            return float64.evaluate(self.ir, feeds)
        except Exception as error:  # the evaluator fails in many ways on operators that it does not know
            return f"the reference evaluator failed ({' '.join(str(error).split())[:120]})"

    def files(self) -> tuple[Path, ...]:
        return () if self.path is None else (self.path, *self.data_files)

    def save(self, path: Path) -> None:
        try:
            with _uncollected():
                files.write(self.ir, self.kept, path, external=bool(self.data_files))
        except serde.SerdeError as error:
            if lacks_memory(error):
                raise
            raise files.unsound(self.path, error.__cause__ or error) from None

    def to_object(self) -> onnx.ModelProto:
        try:
            return to_proto(self.ir, self.kept)
        except serde.SerdeError as error:
            if lacks_memory(error):
                raise
            raise files.unsound(self.path, error.__cause__ or error) from None


def _trained(anchor: Anchor, trained: frozenset[str]) -> Skipped | None:
    """Why a site stays whose weights the model's own training part changes."""
    place = anchor.place
    if place.in_main_graph and any(value is not None and value.name in trained for value in place.node.inputs[1:]):
        return Skipped(
            anchor.name, place.where, "the model's training_info trains its weights, which would no longer be there"
        )
    return None


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing of a graph is garbage while it is read, copied or written, but each collection would walk through it."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _reading(path: Path | None) -> Iterator[None]:
    """What cannot be copied, or has tensors unlike their shapes, fails in many ways, which become one."""
    try:
        with _uncollected():
            yield
    except SplitdeconvError:
        raise
    except Exception as error:
        if lacks_memory(error):
            raise
        raise files.unsound(path, error) from None


def _evaluate(proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs, by ONNX's own reference."""
    evaluator = ReferenceEvaluator(proto)
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))


def _dtype(value: ir.Value) -> str:
    return "float32" if value.dtype is None else str(value.dtype.numpy().name)


def _shape(value: ir.Value) -> tuple[int | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)


def _is_quantised(value: ir.Value) -> bool:
    """Whether numbers of 8 or 16 bits are made real ones: every one of them is valid."""
    if value.dtype not in (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16):
        return False
    return any(is_quantiser(use.node, "DequantizeLinear") and use.idx == 0 for use in value.uses())
