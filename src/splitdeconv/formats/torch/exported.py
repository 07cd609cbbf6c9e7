"""Exported programs: files of ``torch.export.save``, and their objects."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import fx, nn
from torch.export import ExportedProgram, export

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv, WeightName
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import InputError
from splitdeconv.formats.folding import find_folds
from splitdeconv.formats.model import Findings, Fold, Input, Origin, Site, SubPixelSite
from splitdeconv.formats.open_sizes import with_batch_of_one
from splitdeconv.formats.sub_pixels import apart
from splitdeconv.formats.torch.constants import StoredTensors
from splitdeconv.formats.torch.counts import map_bytes, operator_counts
from splitdeconv.formats.torch.exchange import WrittenLayer, examples_of, weights_of
from splitdeconv.formats.torch.fold import CallsAround
from splitdeconv.formats.torch.model import TorchModel, evaluate, input_of
from splitdeconv.formats.torch.modules import ModuleModel
from splitdeconv.formats.torch.sizes import Sizes, sizes_of
from splitdeconv.formats.torch.splice import Splice
from splitdeconv.formats.torch.stretched import StretchedConv, find_stretched, name_for
from splitdeconv.formats.torch.sub_pixel import AsItIs, find_sub_pixels, write_sub_pixel
from splitdeconv.formats.torch.written import WrittenSite, alone
from splitdeconv.results.plan import Skipped
from splitdeconv.torch_modules import archive, graphs
from splitdeconv.torch_modules.flat import Flat, of_program, user_inputs
from splitdeconv.torch_modules.functions import deconv_of
from splitdeconv.torch_modules.quantised import is_quantised

if TYPE_CHECKING:
    from typing_extensions import Self

NESTED = "is computed inside of a branch or a loop"
QUANTISED = "is quantised: convert the program's module with splitdeconv.torch.convert"
RUN_TIME = "computed at run time: its weights; operators make the filters in each run"


@dataclass(frozen=True)
class ExportedModel(TorchModel):
    """An exported program, which is not changed.

    Attributes:
        program: it.
        path: where it came from, or None.
    """

    program: ExportedProgram
    path: Path | None = None

    @classmethod
    def load(cls, path: Path, numerics: str = "exact") -> Self:
        return cls(archive.load(path), path)

    @classmethod
    def from_object(cls, source: object, numerics: str = "exact") -> Self | None:
        return cls(source) if isinstance(source, ExportedProgram) else None

    @classmethod
    def layer(cls, deconv: Deconv, epilogue: Sequence[str]) -> Self | ModuleModel:  # type: ignore[override]
        """A program of a convolution of a stretched map; of a deconv its module, which says how it is measured."""
        if deconv.written_out is None or deconv.quant is not None:
            return ModuleModel.layer(deconv, epilogue)
        return cls(export(WrittenLayer(deconv).eval(), examples_of(deconv)))

    def find(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        module, constants = self.program.graph_module, StoredTensors(self.program)
        calls = {call.node: call for call in graphs.find_calls(module)}
        stretched = {}
        for each in find_stretched(module.graph, constants):
            node, what = (each.node, each) if isinstance(each, StretchedConv) else each
            stretched[node] = what
        deconvs = {*calls, *(node for node, what in stretched.items() if isinstance(what, StretchedConv))}
        sizes = sizes_of(self.program, in_shapes or {}, deconvs)
        found: list[Site | Skipped] = []
        for node in module.graph.nodes:
            if node in calls:
                found.append(_read(calls[node], sizes, constants))
            elif node in stretched:
                found.append(_read_stretched(node, stretched[node], sizes, constants))
        sites = tuple(each for each in found if isinstance(each, Site))
        skipped = (*(each for each in found if isinstance(each, Skipped)), *_nested(module))
        return Findings(sites, skipped, sizes.other_macs)

    def foldable(self) -> tuple[tuple[Fold, ...], tuple[Skipped, ...]]:
        return find_folds(self.find().sites, CallsAround(StoredTensors(self.program)))

    def folded(self, folds: Sequence[Fold]) -> Self:
        if not folds:
            return self
        return replace(self, program=Splice(self.program, StoredTensors(self.program)).folded(folds), path=None)

    def sub_pixels(
        self, in_shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> tuple[tuple[SubPixelSite, ...], tuple[Skipped, ...]]:
        return apart(find_sub_pixels(self.program, sizes_of(self.program, in_shapes or {}, ())))

    def emit_sub_pixel(self, site: SubPixelSite, kernel: Array, bias: Array | None, *, turned: bool) -> Compilable:
        if not turned:
            return Compilable(Flat(AsItIs(site, kernel, bias)))
        (x,) = examples_of(site.deconv)
        return Compilable(Flat(WrittenSite(write_sub_pixel(site, x, kernel, bias))))

    def turned(self, sites: Sequence[SubPixelSite]) -> Self:
        return replace(self, program=Splice(self.program, StoredTensors(self.program)).turned(sites), path=None)

    def emit(self, site: Site, program: Program, weights: Weights | None = None) -> Compilable:
        weights, (found,) = weights or site.weights, site.origin.nodes
        if "kernel" not in site.deconv.run_time or not isinstance(found, StretchedConv):
            return alone(program, weights)
        as_read = replace(weights, kernel=found.stretched.weight_of(weights.kernel))
        return alone(program, as_read, found.own_kernel)

    def run_time(self, site: Site, weights: Weights) -> dict[WeightName, Array]:
        given, (found,) = weights.run_time(site.deconv), site.origin.nodes
        if "kernel" in given and isinstance(found, StretchedConv):
            given["kernel"] = found.stretched.weight_of(given["kernel"])
        return given

    def operator_counts(self) -> Mapping[str, int]:
        return operator_counts(self.program.graph_module)

    def peak_bytes(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> int | None:
        shapes = with_batch_of_one(self.inputs(), in_shapes or {})
        try:
            return map_bytes(self.program, sizes_of(self.program, shapes, ()))
        except InputError:  # a program may refuse a batch of 1
            return None

    def splice(self, programs: Mapping[str, Program]) -> Self:
        return replace(self, program=Splice(self.program, StoredTensors(self.program)).made(programs), path=None)

    def inputs(self) -> tuple[Input, ...]:
        values = {node.name: node.meta["val"] for node in self.program.graph.nodes if node.op == "placeholder"}
        return tuple(input_of(name, values[name]) for name in user_inputs(self.program))

    def float64(self, feeds: Mapping[str, Array], *, patient: bool = False) -> dict[str, Array] | str:
        return evaluate(copy.deepcopy(of_program(self.program)), feeds)  # its tensors are the program's

    def files(self) -> tuple[Path, ...]:
        return () if self.path is None else (self.path,)

    def save(self, path: Path) -> None:
        path.write_bytes(archive.to_bytes(self.program))

    def to_object(self) -> ExportedProgram:
        return self.program


def _read(call: graphs.Call, sizes: Sizes, constants: StoredTensors) -> Site | Skipped:
    """One call of the program's own graph."""
    if is_quantised(call):
        return Skipped(call.name, "graph", QUANTISED)
    parameters = [None if each is None else constants.value(each) for each in (call.weight, call.bias)]
    computed = parameters[0] is None or (parameters[1] is None) != (call.bias is None)
    if call.is_open:
        return Skipped(call.name, "graph", graphs.OPEN)
    deconv = deconv_of(call.weight.meta["val"], call.bias is not None, call.geometry)
    if computed:
        deconv = replace(deconv, run_time=call.parameters)
    rank, shape = len(deconv.axes), sizes.of(call.x)
    batch = shape[0] if len(shape) == rank + 2 else 1
    deconv = deconv.with_in_sizes(batch, shape[-rank:])
    notes = (RUN_TIME,) if computed else ()
    return Site(call.name, Origin((call,)), deconv, weights_of(deconv, parameters), notes=notes)


def _read_stretched(
    node: fx.Node, found: StretchedConv | str, sizes: Sizes, constants: StoredTensors
) -> Site | Skipped:
    """One convolution behind an upsampling or inserted zeros."""
    if isinstance(found, str):
        return Skipped(name_for(node), "graph", found)
    weight, bias = (None if each is None else constants.value(each) for each in (found.weight, found.bias))
    deconv = found.deconv(sizes.of(found.stretched.source))
    if weight is None or (bias is None) != (found.bias is None):
        deconv = replace(deconv, run_time=("kernel", "bias") if found.bias else ("kernel",))
    own = None if weight is None else found.own_kernel(weight)
    notes = (*found.notes(), RUN_TIME) if deconv.run_time else found.notes()
    return Site(found.name, Origin((found,)), deconv, weights_of(deconv, (own, bias)), notes=notes)


def _nested(module: nn.Module, where: str = "") -> Iterator[Skipped]:
    """The deconvs in graphs of branches and loops."""
    for name, child in module.named_children():
        if isinstance(child, fx.GraphModule):
            path = f"{where}{name}"
            yield from (Skipped(f"{path}:{call.name}", path, NESTED) for call in graphs.find_calls(child))
            yield from _nested(child, f"{path}.")
