"""ONNX: ConvTranspose of opsets 1, 11 and 22, anywhere in a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir import serde

from splitdeconv.deconv.ops import Layout, Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import SplitdeconvError
from splitdeconv.formats.model import Findings, Input, Site
from splitdeconv.formats.onnx import float64
from splitdeconv.formats.onnx import load as files
from splitdeconv.formats.onnx.emit import refuse
from splitdeconv.formats.onnx.find import named_places, read_site
from splitdeconv.formats.onnx.layer import layer_model
from splitdeconv.formats.onnx.load import OnnxModel
from splitdeconv.formats.onnx.quantised import read_qdq
from splitdeconv.formats.onnx.quantised_emit import refuse as refuse_quantised
from splitdeconv.formats.onnx.quantised_layer import qdq_model, trained_like_weights
from splitdeconv.formats.onnx.shapes import infer
from splitdeconv.formats.onnx.splice import forget_places, place_of, splice, stand_alone
from splitdeconv.formats.onnx.work import other_macs
from splitdeconv.results.plan import Skipped

__all__ = ["OnnxFrontend", "OnnxModel"]


_BITS = 8  # of the weights of quantised layers


class OnnxFrontend:
    """See :class:`splitdeconv.formats.frontend.Frontend`."""

    name = "onnx"
    layout: Layout = "NCHW"
    suffix = ".onnx"

    def load(self, path: Path) -> OnnxModel:
        return files.load(path)

    def save(self, model: OnnxModel, path: Path) -> None:
        files.save(model, path)

    def adopt(self, found: object) -> OnnxModel | None:
        if isinstance(found, onnx.ModelProto):
            return files.in_memory(ir.from_proto(found))
        return files.in_memory(found) if isinstance(found, ir.Model) else None

    def hand_over(self, model: OnnxModel) -> onnx.ModelProto:
        try:
            return ir.to_proto(model.ir)
        except serde.SerdeError as error:
            raise files.unsound(model.path, error.__cause__ or error) from None

    def files(self, model: OnnxModel) -> tuple[Path, ...]:
        return files.files_of(model)

    def layer(self, deconv: Deconv, epilogue: Sequence[str]) -> OnnxModel:
        if deconv.quant is None:
            return OnnxModel(ir.from_proto(layer_model(deconv, epilogue)), None)
        weights = trained_like_weights(deconv, _BITS)
        return OnnxModel(ir.from_proto(qdq_model(deconv, weights, epilogue=epilogue)), None)

    def find(self, model: OnnxModel, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        try:
            return _find(model, in_shapes)
        except SplitdeconvError:
            raise
        except Exception as error:  # what cannot be copied, or has tensors unlike their shapes, fails in many ways
            raise files.unsound(model.path, error) from None

    def refuse(self, model: OnnxModel, site: Site, program: Program) -> str | None:
        place = place_of(model.ir, site.id)
        reason = refuse(program, place.opset)
        if reason is not None or site.weights.quant is None:
            return reason
        qdq = read_qdq(place, lambda _: site.deconv.uncropped_sizes)
        assert qdq is not None, "a quantised site is between DequantizeLinear and QuantizeLinear"
        return refuse_quantised(program, place.opset, site.weights.quant, site.weights.bias, qdq.stages)

    def emit(self, model: OnnxModel, site: Site, program: Program, weights: Weights | None = None) -> bytes:
        return bytes(ir.to_proto(stand_alone(model.ir, site, program, weights)).SerializeToString())

    def splice(self, model: OnnxModel, programs: Mapping[str, Program]) -> OnnxModel:
        try:
            return replace(model, ir=splice(model.ir, programs))
        except RuntimeError as error:  # onnx_ir does not copy graphs that run in a circle, or are not in order
            raise files.unsound(model.path, error.__cause__ or error) from None

    def inputs(self, model: OnnxModel) -> tuple[Input, ...]:
        graph = model.ir.graph
        given = [value for value in graph.inputs if (value.name or "") not in graph.initializers]
        return tuple(Input(value.name or "", _dtype(value), _shape(value)) for value in given)

    def float64(self, model: OnnxModel, feeds: Mapping[str, Array]) -> dict[str, Array] | str:
        shapes = infer(model.ir, {name: array.shape for name, array in feeds.items()})
        if reason := float64.refuse(model.ir, shapes):
            return reason
        try:
            return float64.evaluate(model.ir, feeds)
        except Exception as error:  # the evaluator fails in many ways on operators that it does not know
            return f"the reference evaluator failed ({' '.join(str(error).split())[:120]})"


def _find(model: OnnxModel, in_shapes: Mapping[str, tuple[int, ...]] | None) -> Findings:
    forget_places(model.ir)
    shapes = infer(model.ir, in_shapes)
    found = [read_site(name, place, shapes, model.ir.ir_version) for name, place in named_places(model.ir)]
    sites = tuple(each for each in found if isinstance(each, Site))
    skipped = tuple(each for each in found if isinstance(each, Skipped))
    return Findings(sites, skipped, other_macs(model.ir, shapes))


def _dtype(value: ir.Value) -> str:
    return "float32" if value.dtype is None else str(value.dtype.numpy().name)


def _shape(value: ir.Value) -> tuple[int | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
