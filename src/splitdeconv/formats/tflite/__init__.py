"""TFLite models: FlatBuffers of schema version 3, as LiteRT, TFLite Micro and Arm's Vela take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from splitdeconv.deconv.ops import Layout, Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Findings, Input, Site
from splitdeconv.formats.tflite import file
from splitdeconv.formats.tflite.file import TfliteModel
from splitdeconv.formats.tflite.fused import FusedDifference, difference
from splitdeconv.formats.tflite.graph import Graph, indices, text
from splitdeconv.formats.tflite.nodes import Node, find_nodes, nodes_of
from splitdeconv.formats.tflite.refuse import refusal
from splitdeconv.formats.tflite.splice import splice, stand_alone
from splitdeconv.formats.tflite.work import other_macs
from splitdeconv.results.plan import Skipped

__all__ = ["TfliteFrontend", "TfliteModel"]


class TfliteFrontend:
    """Implements :class:`~splitdeconv.formats.frontend.Frontend`.

    Args:
        numerics: ``exact`` keeps every rounding step of quantised models; ``fused`` also folds a separate bias
            addition and a rescaling activation into the convolutions, which changes the bits.
    """

    name = "tflite"
    layout: Layout = "NHWC"
    suffix = ".tflite"
    numerics_known = ("exact", "fused")

    def __init__(self, numerics: str = "exact") -> None:
        if numerics not in self.numerics_known:
            raise UsageError(f"no numerics are called '{numerics}'; there are {', '.join(self.numerics_known)}")
        self.numerics = numerics

    def load(self, path: Path) -> TfliteModel:
        return file.read(path)

    def layer(self, deconv: Deconv, epilogue: Sequence[str]) -> TfliteModel:
        """Layers without a model cannot be written in this format."""
        raise UsageError(f"{deconv.describe()}: a layer without a model is written as ONNX only; give a .tflite model")

    def find(self, model: TfliteModel, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        found = find_nodes(model.root, self.numerics)
        nodes = [each for each in found if isinstance(each, Node)]
        skipped = tuple(each for each in found if isinstance(each, Skipped))
        return Findings(tuple(_site(node) for node in nodes), skipped, other_macs(model.root))

    def refuse(self, model: TfliteModel, site: Site, program: Program) -> str | None:
        """Why ``program`` would not be exact, or cannot be written, in this format; None if it can."""
        return refusal(self._node(model, site), program, self.numerics)

    def inputs(self, model: TfliteModel) -> tuple[Input, ...]:
        graph = Graph(model.root, 0)
        return tuple(_input(graph, tensor) for tensor in indices(model.root.subgraphs[0].inputs))

    def float64(self, model: TfliteModel, feeds: Mapping[str, Array]) -> dict[str, Array] | str:
        return "TFLite models are evaluated by LiteRT only, which has no float64"

    def adopt(self, found: object) -> TfliteModel | None:
        """From the bytes of a file."""
        if not isinstance(found, bytes | bytearray):
            return None
        return file.from_bytes(bytes(found), "<bytes>")

    def hand_over(self, model: TfliteModel) -> bytes:
        """The bytes of a file, which is what LiteRT's interpreter takes."""
        return file.to_bytes(model)

    def files(self, model: TfliteModel) -> tuple[Path, ...]:
        return () if model.path is None else (model.path,)

    def emit(self, model: TfliteModel, site: Site, program: Program, weights: Weights | None = None) -> bytes:
        return file.pack(stand_alone(self._node(model, site), program, weights))

    def difference(self, model: TfliteModel, site: Site, x: Array, before: Array, after: Array) -> FusedDifference:
        """What fused numerics changed at a quantised site.

        Args:
            x: input of the stand-alone model, NHWC, as stored.
            before, after: outputs of the site's stand-alone model under ``native`` and under the chosen program.
        """
        return difference(self._node(model, site), x, before, after)

    def _node(self, model: TfliteModel, site: Site) -> Node:
        return next(node for node in nodes_of(model.root, self.numerics) if node.id == site.id)

    def splice(self, model: TfliteModel, programs: Mapping[str, Program]) -> TfliteModel:
        return model.with_root(splice(model.root, programs, self.numerics))

    def save(self, model: TfliteModel, path: Path) -> None:
        path.write_bytes(file.to_bytes(model))

    def to_bytes(self, model: TfliteModel) -> bytes:
        """The content of the file that :meth:`save` would write."""
        return file.to_bytes(model)


def _site(node: Node) -> Site:
    notes = node.notes
    if node.epilogue.changes_bits:
        notes = (*notes, "a rounding step of its epilogue goes away, which changes bits")
    return Site(node.id, node.deconv, node.weights(), node.epilogue.names, node.graph.describe(), notes)


def _input(graph: Graph, tensor: int) -> Input:
    found = graph.tensors[tensor]
    quantised = found.quantization is not None and found.quantization.scale is not None
    quantised = quantised and len(found.quantization.scale) > 0
    return Input(
        text(found.name), graph.type_name(tensor), graph.shape(tensor), quantised, _output_shape(graph, tensor)
    )


def _output_shape(graph: Graph, tensor: int) -> tuple[int, ...]:
    """The recorded shape, where an input of the model says the output shape of a deconv."""
    for operator in range(len(graph.operators)):
        if graph.name(operator) == "TRANSPOSE_CONV" and graph.inputs_of(operator)[0] == tensor:
            shape = graph.shape(graph.outputs_of(operator)[0])
            return () if None in shape else tuple(size or 1 for size in shape)
    return ()
