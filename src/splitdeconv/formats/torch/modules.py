"""Modules, their deconvs replaced each in place.

    module → copy → classes of its deconv modules exchanged → converted module

Modules keep their identity: only their class changes, so hooks, parametrisations, shared modules, names and wrappers
stay as they are. A module that calls ``conv_transpose*`` itself is exported, and the calls in the graph are replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import fx, nn

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import InputError, UsageError
from splitdeconv.formats.model import Findings, Input, Origin, Site
from splitdeconv.formats.torch.counts import operator_counts
from splitdeconv.formats.torch.exchange import (
    Interpreted,
    displayed,
    examples_of,
    form_of,
    is_form,
    layer_module,
    layout_of,
    make_split,
    refuse_compiled,
    refuse_module,
    set_weights,
    weights_of,
)
from splitdeconv.formats.torch.model import TorchModel, array_of, evaluate, input_of
from splitdeconv.formats.torch.pairs import pairs
from splitdeconv.formats.torch.quantised import quantised_layer, read_quantised
from splitdeconv.formats.torch.written import alone
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.results.plan import Skipped
from splitdeconv.torch_modules import graphs
from splitdeconv.torch_modules.flat import Flat, first_line, with_example
from splitdeconv.torch_modules.forms import find_form
from splitdeconv.torch_modules.functions import deconv_of
from splitdeconv.torch_modules.interpret import Form
from splitdeconv.torch_modules.modules import SplitConvTranspose, freeze, geometry_of, is_uninitialised
from splitdeconv.torch_modules.observe import CONV_TRANSPOSE, Observation, copy_of, observe
from splitdeconv.torch_modules.quantised import is_quantised, quantised_form, replace_quantised

if TYPE_CHECKING:
    from typing_extensions import Self

LAZY = "its input channels are not known before it sees an input; it was proved for {} of them"
UNSEEN = "no call of it was seen with the example inputs, so nothing could be measured"
CALLED = (
    "a forward of your own upsamples its map, and that call cannot be taken out of your code: in "
    "torch.export.export(module, inputs) it is a node, and splitdeconv.convert takes the program, for inference"
)
UNFED = "the module came without example inputs, so it was not run as a whole"


@dataclass(frozen=True)
class ModuleModel(TorchModel):
    """A module, which is not changed.

    Attributes:
        module: whose deconvs are replaced: as it came, or its exported graph.
        example: positional inputs, or None.
        seen: which deconvs it computes for them.
        skipped: functional calls of a module that cannot be exported.
        lowering: the one that every deconv is to have, or None for the modules' own rule.
        measured: whether each deconv gets what a target measures as fastest, instead.
    """

    suffix: ClassVar[str] = ""

    module: nn.Module
    example: tuple[Any, ...] | None = None
    seen: Observation = field(default_factory=Observation)
    skipped: tuple[Skipped, ...] = ()
    lowering: str | None = None
    measured: bool = False

    @classmethod
    def of(
        cls,
        module: nn.Module,
        example: Sequence[Any] | None,
        *,
        dynamic_shapes: Any = None,
        lowering: str | None = None,
        measured: bool = False,
    ) -> Self:
        """The model of a module; see :func:`splitdeconv.torch.convert` for the arguments."""
        if example is None:
            return cls(module, lowering=lowering, measured=measured)
        example, seen = tuple(example), observe(module, example)
        skipped: tuple[Skipped, ...] = ()
        if seen.functional and not isinstance(module, fx.GraphModule):
            module, skipped = _exported(module, example, dynamic_shapes, seen)
        return cls(module, example, seen, skipped, lowering, measured)

    @classmethod
    def load(cls, path: Path, numerics: str = "exact") -> Self:
        raise InputError(f"{path}: no file holds a module; torch.export.save writes exported programs")

    @classmethod
    def from_object(cls, source: object, numerics: str = "exact") -> Self | None:
        return cls.of(source, None) if isinstance(source, nn.Module) else None

    @classmethod
    def layer(cls, deconv: Deconv, epilogue: Sequence[str]) -> ModuleModel:
        """A deconv module. PyTorch moves no element-wise work to another place, so ``epilogue`` is left out."""
        if deconv.quant is not None:
            why = "PyTorch runs quantised deconvs in float, so measuring tells nothing"
            raise UsageError(f"{deconv.describe()}: {why}")
        try:
            module = layer_module(deconv)
        except UsageError:
            return UnevenLayer(nn.Identity(), measured=True, deconv=deconv)
        return cls.of(module, examples_of(deconv), measured=True)

    def find(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        found = [*self._modules(), *self._upsampled(), *self._calls(), *self._called()]
        sites = tuple(each for each in found if isinstance(each, Site))
        return Findings(sites, (*(each for each in found if isinstance(each, Skipped)), *self.skipped))

    def refuse(self, site: Site, program: Program) -> str | None:
        if not is_form(program) and isinstance(self.module, fx.GraphModule):
            return "calls in a graph are replaced by lowerings only"
        written = site.deconv.written_out
        if written is not None and written.interpolation is not None and layout_of(program) != self.layout:
            return "the two modules work in the layout of their maps"
        if self.measured:
            return super().refuse(site, program)
        wanted = displayed(self._form(site.deconv))
        by = "the rule of modules" if self.lowering is None else f"'{self.lowering}'"
        return None if program.name == str(wanted) else f"nothing is timed, and by {by} it is {wanted}"

    def emit(self, site: Site, program: Program, weights: Weights | None = None) -> Compilable:
        if site.deconv.quant is not None:
            return Compilable(quantised_layer(site.deconv, weights or site.weights, program, self.lowering))
        if site.deconv.run_time:
            return alone(program, weights or site.weights)
        if not is_form(program):
            return Compilable(Flat(Interpreted(program, weights or site.weights)))
        if site.deconv.written_out is not None:
            (pair,) = site.origin.nodes
            lowering = None if program.name == str(NATIVE) else str(form_of(program))
            return Compilable(Flat(pair.alone(weights or site.weights, lowering)))
        module = layer_module(site.deconv)
        set_weights(module, weights or site.weights)
        if program.name != str(NATIVE):
            make_split(module, str(form_of(program)))
        return Compilable(Flat(freeze(module)))

    def splice(self, programs: Mapping[str, Program]) -> Self:
        module = copy_of(self.module)
        for name, each in list(module.named_modules()):
            if name in programs and isinstance(each, CONV_TRANSPOSE):
                if is_form(programs[name]):
                    make_split(each, self._lowering(programs[name]))
                else:
                    module = _with_submodule(module, name, Interpreted(programs[name], _values_of(each)))
        for pair in list(pairs(module)):
            if pair.name in programs and programs[pair.name].name != str(NATIVE):
                pair.merge(self._lowering(programs[pair.name]))
        if isinstance(module, fx.GraphModule):
            for call in graphs.find_calls(module):
                if call.name in programs:
                    replace_call = replace_quantised if is_quantised(call) else graphs.replace_call
                    replace_call(module, call, self._lowering(programs[call.name]))
            graphs.finish(module)
        return replace(self, module=module)

    def operator_counts(self) -> Mapping[str, int]:
        return operator_counts(self.module)

    def _form(self, deconv: Deconv) -> Form:
        """What a deconv is turned into where nothing is measured; UsageError where that does not apply."""
        if deconv.quant is not None:
            return quantised_form(deconv, self.lowering)
        by_rule = None if deconv.written_out is None else str(NATIVE)
        return find_form(deconv, self.lowering or by_rule, channels_last=False)

    def asked(self) -> dict[str, str]:
        """The form of each convolution behind an upsampling, where a lowering is named: by rule it stays as it is."""
        if self.lowering is None:
            return {}
        sites = (site for site in self.find().sites if site.deconv.written_out is not None)
        return {site.id: str(displayed(self._form(site.deconv))) for site in sites}

    def _lowering(self, program: Program) -> str | None:
        """What a module is told: its form, or what the user said where nothing was measured."""
        return str(form_of(program)) if self.measured else self.lowering

    def inputs(self) -> tuple[Input, ...]:
        if self.example is None:
            return (Input("inputs", "float32", None, unknown=UNFED),)
        return tuple(input_of(name, each) for name, each in with_example(self.module, self.example)[1].items())

    def feeds(self) -> dict[str, Array]:
        """The example inputs by name."""
        tensors = {} if self.example is None else with_example(self.module, self.example)[1]
        return {name: array_of(each) for name, each in tensors.items()}

    def float64(self, feeds: Mapping[str, Array], *, patient: bool = False) -> dict[str, Array] | str:
        return evaluate(self._ready(), feeds)

    def files(self) -> tuple[Path, ...]:
        return ()

    def save(self, path: Path) -> None:
        raise UsageError(f"{path}: no file holds a module; torch.export.save writes exported programs")

    def compilable(self, path: Path) -> Compilable:
        return Compilable(self._ready())

    def _ready(self) -> Flat:
        """A frozen copy, as it is to be run for inference; lazy modules see the example inputs first."""
        module = copy_of(self.module)
        if self.example is None:
            return Flat(module)
        flat, _ = with_example(module, self.example)
        flat.eval()
        if any(isinstance(each, CONV_TRANSPOSE) and is_uninitialised(each) for each in module.modules()):
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(0)
                module(*self.example)
        freeze(module)
        return flat

    def to_object(self) -> nn.Module:
        return self.module

    def _modules(self) -> Iterator[Site | Skipped]:
        """The deconv modules."""
        for name, each in self.module.named_modules():
            if (reason := refuse_compiled(each)) is not None:
                yield Skipped(name or type(each).__name__, "module", reason)
            elif isinstance(each, CONV_TRANSPOSE) and not isinstance(each, SplitConvTranspose):
                reason = refuse_module(each)
                yield Skipped(name, "module", reason) if reason else self._module_site(name, each)

    def _module_site(self, name: str, module: Any) -> Site | Skipped:
        lazy, layers = is_uninitialised(module), self.seen.layers.get(name, ())
        if layers:
            deconv = max(layers, key=lambda layer: layer.macs()).deconv
        elif self.measured:
            return Skipped(name, "module", UNSEEN)
        else:
            shape = (module.groups, module.out_channels // module.groups, *module.kernel_size)
            weight = torch.empty(shape, device="meta") if lazy else module.weight
            deconv = deconv_of(weight, module.bias is not None, geometry_of(module, module.output_padding))
        notes = (LAZY.format(deconv.in_channels),) if lazy and not layers else ()
        return self._site(name, module, deconv, weights_of(deconv, (module.weight, module.bias)), "module", notes)

    def _called(self) -> Iterator[Skipped]:
        """The convolutions behind an upsampling that only a run shows."""
        known = {pair.name for pair in pairs(self.module)}
        own = type(self.module).__name__
        yield from (Skipped(name or own, "module", CALLED) for name in self.seen.upsampled if name not in known)

    def _upsampled(self) -> Iterator[Site | Skipped]:
        """The convolutions right behind an upsampling."""
        for pair in pairs(self.module):
            shape = self.seen.in_shapes.get(pair.path)
            if (reason := pair.refuse(shape)) is not None:
                yield Skipped(pair.name, "module", reason)
            elif shape is None and self.measured:
                yield Skipped(pair.name, "module", UNSEEN)
            else:
                deconv = pair.deconv(shape)
                weights = weights_of(deconv, pair.parameters())
                yield self._site(pair.name, pair, deconv, weights, "module", (pair.note(),))

    def _calls(self) -> Iterator[Site | Skipped]:
        """The calls in a graph, but for those that modules with code of their own make."""
        if isinstance(self.module, fx.GraphModule):
            alone = {each.site for each in self.skipped}
            for call in graphs.find_calls(self.module):
                if call.owner not in alone:
                    yield self._quantised_site(call) if is_quantised(call) else self._call_site(call)

    def _call_site(self, call: graphs.Call) -> Site | Skipped:
        if call.is_open:
            return Skipped(call.name, "graph", graphs.OPEN)
        layer, weight = call.layer(), graphs.value_of(call.weight)
        if layer is None and self.measured:
            return Skipped(call.name, "graph", UNSEEN)
        if weight is None:
            return Skipped(call.name, "graph", "its weight is computed in a graph without shapes: export the module")
        deconv = layer.deconv if layer else deconv_of(weight, call.bias is not None, call.geometry)
        if self.measured and call.weight.op != "get_attr":  # what makes the filters is timed with them
            deconv = replace(deconv, run_time=call.parameters)
        bias = None if call.bias is None else graphs.value_of(call.bias)
        return self._site(call.name, call, deconv, weights_of(deconv, (weight, bias)), "graph")

    def _quantised_site(self, call: graphs.Call) -> Site | Skipped:
        assert isinstance(self.module, fx.GraphModule), "only graphs have calls"
        if self.measured:
            return Skipped(call.name, "graph", "PyTorch runs quantised graphs in float, so measuring tells nothing")
        found = read_quantised(self.module, call)
        return (
            Skipped(call.name, "graph", found)
            if isinstance(found, str)
            else self._site(call.name, call, *found, "graph")
        )

    def _site(
        self, name: str, node: Any, deconv: Deconv, weights: Weights, where: str, notes: tuple[str, ...] = ()
    ) -> Site | Skipped:
        if not self.measured:
            try:
                self._form(deconv)
            except UsageError as error:
                return Skipped(name, where, str(error))
        return Site(name, Origin((node,)), deconv, weights, where=where, notes=notes)


def _values_of(module: Any) -> Weights:
    """The values of a deconv module."""
    deconv = deconv_of(module.weight, module.bias is not None, geometry_of(module, module.output_padding))
    return weights_of(deconv, (module.weight, module.bias))


def _with_submodule(module: nn.Module, name: str, new: nn.Module) -> nn.Module:
    """``module`` with ``new`` in the place ``name``, which may be its own."""
    if not name:
        return new
    owner, _, last = name.rpartition(".")
    setattr(module.get_submodule(owner), last, new)
    return module


@dataclass(frozen=True)
class UnevenLayer(ModuleModel):
    """One deconv whose pads no module of PyTorch has, as a graph that pads or crops beside the call.

    Attributes:
        deconv: it.
    """

    deconv: Deconv = field(kw_only=True)

    def find(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        return Findings((Site("deconv", Origin(()), self.deconv, weights_of(self.deconv, (None, None))),), ())

    def emit(self, site: Site, program: Program, weights: Weights | None = None) -> Compilable:
        return alone(program, weights or site.weights)


def _exported(
    module: nn.Module, example: tuple[Any, ...], dynamic_shapes: Any, seen: Observation
) -> tuple[nn.Module, tuple[Skipped, ...]]:
    """The graph of a module that calls ``conv_transpose*`` itself, and what is left alone; or the module itself.

    Modules whose class stays keep the calls that they make.
    """
    try:
        exported: nn.Module = torch.export.export(module, example, dynamic_shapes=dynamic_shapes).module()
    except Exception as error:  # export raises errors of many kinds, all about the user's code
        reason = f"calls conv_transpose itself, and the module cannot be exported: {first_line(error)}"
        return module, tuple(Skipped(name, "module", reason) for name in seen.functional)
    named = module.named_modules(remove_duplicate=False)
    modules = ((name, refuse_module(each)) for name, each in named if isinstance(each, CONV_TRANSPOSE))
    return exported, tuple(Skipped(name, "module", reason) for name, reason in modules if reason is not None)
