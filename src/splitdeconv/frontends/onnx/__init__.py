"""ONNX: ConvTranspose of opsets 1, 11 and 22, anywhere in a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from splitdeconv.frontends.onnx import load as files
from splitdeconv.frontends.onnx.emit import refuse
from splitdeconv.frontends.onnx.find import named_places, read_site
from splitdeconv.frontends.onnx.load import OnnxModel
from splitdeconv.frontends.onnx.shapes import infer
from splitdeconv.frontends.onnx.splice import place_of, splice, stand_alone
from splitdeconv.frontends.onnx.work import other_macs
from splitdeconv.ops import Layout, Program
from splitdeconv.results import Skipped
from splitdeconv.sites import Findings, Site
from splitdeconv.weights import Weights

__all__ = ["OnnxFrontend", "OnnxModel"]


class OnnxFrontend:
    """See :class:`splitdeconv.frontends.base.Frontend`."""

    name = "onnx"
    layout: Layout = "NCHW"
    suffix = ".onnx"

    def load(self, path: Path) -> OnnxModel:
        return files.load(path)

    def save(self, model: OnnxModel, path: Path) -> None:
        files.save(model, path)

    def find(self, model: OnnxModel, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        shapes = infer(model.ir, in_shapes)
        found = [read_site(name, place, shapes, model.ir.ir_version) for name, place in named_places(model.ir)]
        sites = tuple(each for each in found if isinstance(each, Site))
        skipped = tuple(each for each in found if isinstance(each, Skipped))
        return Findings(sites, skipped, other_macs(model.ir, shapes))

    def refuse(self, model: OnnxModel, site: Site, program: Program) -> str | None:
        return refuse(program, place_of(model.ir, site.id).opset)

    def emit(self, model: OnnxModel, site: Site, program: Program, weights: Weights | None = None) -> bytes:
        return bytes(ir.to_proto(stand_alone(model.ir, site, program, weights)).SerializeToString())

    def splice(self, model: OnnxModel, programs: Mapping[str, Program]) -> OnnxModel:
        return OnnxModel(splice(model.ir, programs), model.path)
