"""Conversion of whole models, and the way back.

    model → copy → modules replaced, each in place → (functional calls: export, nodes replaced) → converted model

Modules keep their identity: only their class changes, so hooks, parametrisations, shared modules, names and wrappers
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import UsageError
from splitdeconv.results.plan import Choice, Skipped
from splitdeconv.results.record import Environment
from splitdeconv.targets import target as find_target
from splitdeconv.targets.torch import Torch, first_line
from splitdeconv.torch.choose import Chooser, Decision
from splitdeconv.torch_modules import graphs
from splitdeconv.torch_modules.functions import deconv_of
from splitdeconv.torch_modules.modules import (
    LazySplitConvTranspose1d,
    LazySplitConvTranspose2d,
    LazySplitConvTranspose3d,
    SplitConvTranspose,
    SplitConvTranspose1d,
    SplitConvTranspose2d,
    SplitConvTranspose3d,
    geometry_of,
    is_uninitialised,
    thaw_module,
)
from splitdeconv.torch_modules.observe import CONV_TRANSPOSE, Observation, copy_of, observe
from splitdeconv.torch_modules.quantised import is_quantised, replace_quantised

SPLIT_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.ConvTranspose1d: SplitConvTranspose1d,
    nn.ConvTranspose2d: SplitConvTranspose2d,
    nn.ConvTranspose3d: SplitConvTranspose3d,
    nn.LazyConvTranspose1d: LazySplitConvTranspose1d,
    nn.LazyConvTranspose2d: LazySplitConvTranspose2d,
    nn.LazyConvTranspose3d: LazySplitConvTranspose3d,
}
NATIVE_OF = {split: native for native, split in SPLIT_OF.items()}
RECORD = "_splitdeconv"


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was decided for a converted module; :func:`record` gives it.

    Attributes:
        converted: names of the sites that were rewritten.
        skipped: deconvs that were left alone, with the reasons.
        choices: with a target: the table of every measured site.
        environment: with a target: where it was measured.
        original: with functional calls or quantised layers: the module that the exported graph came from.
    """

    converted: tuple[str, ...]
    skipped: tuple[Skipped, ...] = ()
    choices: tuple[Choice, ...] = ()
    environment: Environment | None = None
    original: nn.Module | None = None


def convert(
    module: nn.Module,
    example_inputs: Sequence[Any] | None = None,
    target: str | None = None,
    *,
    lowering: str | None = None,
    dynamic_shapes: Any = None,
    seconds: float = 1.0,
    forms: int = 0,
) -> nn.Module:
    """A copy of ``module`` whose transposed convolutions are computed by ordinary ones; ``module`` is not changed.

    Args:
        module: any module; also the GraphModule of ``torch.export`` or of PT2E quantisation.
        example_inputs: positional inputs. Needed to measure, and to find functional ``conv_transpose*`` calls: a
            module that has some is exported with these inputs, and the result is a GraphModule in the module's
            present mode (training or evaluation).
        target: measure every layer there (``torch``, ``torch:cuda:compiled:bfloat16``) and take what is fastest, or
            leave the layer as it is; None takes the default rule for every layer.
        lowering: take this lowering for every layer that it applies to, instead of a choice.
        dynamic_shapes: as ``torch.export.export`` takes them, for modules that must be exported.
        seconds: measuring time for each distinct layer.
        forms: how many forms of a layer are measured beside PyTorch's own, the most promising first; 0 for as many as
            are worth it on the target. Making them ready takes time beside ``seconds``.

    Returns:
        The converted copy. :func:`record` tells what was done and what was left alone for which reason.

    Raises:
        UsageError: options that contradict each other, an unknown target or lowering, or no module.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"a {type(module).__name__} is not a torch.nn.Module; model files go to splitdeconv.convert")
    if target is not None and (example_inputs is None or lowering is not None):
        needed = "example_inputs" if example_inputs is None else "no lowering beside a target"
        raise UsageError(f"convert(target='{target}') measures the layers and wants {needed}")
    chooser = Chooser(None if target is None else _torch_target(target), lowering, seconds, forms)
    seen = Observation() if example_inputs is None else observe(module, example_inputs)
    if isinstance(module, fx.GraphModule) or not seen.functional:
        converted, results = _convert_modules(copy_of(module), seen, chooser)
        if isinstance(converted, fx.GraphModule):
            results = (*results, *_convert_calls(converted, chooser, frozenset()))
    else:
        converted, results = _convert_exported(module, tuple(example_inputs or ()), dynamic_shapes, seen, chooser)
    exported = isinstance(converted, fx.GraphModule)
    object.__setattr__(converted, RECORD, _conversion(results, chooser, module if exported else None))
    return converted


def record(module: nn.Module) -> Conversion:
    """What :func:`convert` did to ``module``.

    Raises:
        UsageError: the module does not come from :func:`convert`.
    """
    found = getattr(module, RECORD, None)
    if not isinstance(found, Conversion):
        raise UsageError(f"{type(module).__name__}: not a module that splitdeconv.torch.convert returned")
    return found


def restore(module: nn.Module) -> nn.Module:
    """A copy of a converted module with PyTorch's own deconvs again, and with the parameters as they are now.

    Of a module that had to be exported, the original module comes back with the present values (of a quantised
    graph: as it was, since its weights cannot be trained).
    """
    found = getattr(module, RECORD, None)
    if isinstance(found, Conversion) and found.original is not None:
        original = copy_of(found.original)
        original.load_state_dict(module.state_dict(), strict=False)
        return original
    restored = copy_of(module)
    for each in list(restored.modules()):
        if isinstance(each, SplitConvTranspose):
            thaw_module(each)
            for name in ("lowering", "_kept", "_frozen", "_packed"):
                each.__dict__.pop(name, None)
            _change_class(each, NATIVE_OF[_own_class(each)])
    restored.__dict__.pop(RECORD, None)
    return restored


Result = tuple[str, Decision]


def _conversion(results: Sequence[Result], chooser: Chooser, original: nn.Module | None) -> Conversion:
    """The record of all decisions."""
    return Conversion(
        tuple(site for site, decision in results if not decision.left_alone),
        tuple(Skipped(site, "module", decision.left_alone) for site, decision in results if decision.left_alone),
        tuple(decision.choice for _, decision in results if decision.choice is not None),
        None if chooser.target is None else chooser.target.environment(),
        original,
    )


def _convert_modules(module: nn.Module, seen: Observation, chooser: Chooser) -> tuple[nn.Module, tuple[Result, ...]]:
    """``module`` itself with its deconv modules converted, and what each of them got."""
    results = []
    for name, each in list(module.named_modules()):
        if not isinstance(each, CONV_TRANSPOSE) or isinstance(each, SplitConvTranspose):
            continue
        decision = _decide_module(name, each, seen, chooser)
        results.append((name, decision))
        if not decision.left_alone:
            _change_class(each, SPLIT_OF[_own_class(each)])
            each.lowering = decision.lowering
    return module, tuple(results)


def _decide_module(name: str, module: Any, seen: Observation, chooser: Chooser) -> Decision:
    reason = _refuse(module)
    if reason is not None:
        return Decision(left_alone=reason)
    lazy = is_uninitialised(module)
    deconv = None if lazy else _deconv(module)
    return chooser.decide(name, deconv, seen.layers.get(name, ()))


def _refuse(module: nn.Module) -> str | None:
    """Why a ConvTranspose module is left alone, or None."""
    found = _own_class(module)
    if found in SPLIT_OF:
        return None
    if isinstance(module, torch.jit.ScriptModule):
        return "is compiled by torch.jit.script: convert the module before scripting it"
    (native,) = [each for each in CONV_TRANSPOSE if isinstance(module, each)]
    if found.forward is not native.forward:
        return f"{found.__name__} overrides forward, which may do anything: its own code stays"
    return f"{found.__name__} is a subclass of {native.__name__} of its own: its class cannot be exchanged"


def _deconv(module: Any) -> Deconv:
    return deconv_of(module.weight, module.bias is not None, geometry_of(module, module.output_padding))


def _convert_exported(
    module: nn.Module, inputs: tuple[Any, ...], dynamic_shapes: Any, seen: Observation, chooser: Chooser
) -> tuple[nn.Module, tuple[Result, ...]]:
    """The module as an exported graph with all its deconvs converted; where it cannot be exported, its modules only."""
    try:
        exported = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes).module()
    except Exception as error:  # export raises errors of many kinds, all about the user's code
        converted, results = _convert_modules(copy_of(module), seen, chooser)
        reason = f"calls conv_transpose itself, and the module cannot be exported: {first_line(error)}"
        return converted, (*results, *((name, Decision(left_alone=reason)) for name in seen.functional))
    named = module.named_modules(remove_duplicate=False)
    modules = ((name, _refuse(each)) for name, each in named if isinstance(each, CONV_TRANSPOSE))
    skipped = tuple((name, Decision(left_alone=reason)) for name, reason in modules if reason is not None)
    alone = frozenset(name for name, _ in skipped)
    return exported, (*skipped, *_convert_calls(exported, chooser, alone))


def _convert_calls(module: fx.GraphModule, chooser: Chooser, alone: frozenset[str]) -> tuple[Result, ...]:
    """Convert the calls in a graph, in place, but for those that the modules named in ``alone`` make."""
    results = []
    for call in graphs.find_calls(module):
        if call.owner in alone:
            continue
        convert_call = _convert_quantised if is_quantised(call) else _convert_call
        results.append((call.name, convert_call(module, call, chooser)))
    if results:
        graphs.finish(module)
    return tuple(results)


def _convert_call(module: fx.GraphModule, call: graphs.Call, chooser: Chooser) -> Decision:
    layer = call.layer()
    decision = chooser.decide(call.name, None if layer is None else layer.deconv, [layer] if layer else [])
    if not decision.left_alone:
        graphs.replace_call(module, call, decision.lowering)
    return decision


def _convert_quantised(module: fx.GraphModule, call: graphs.Call, chooser: Chooser) -> Decision:
    if chooser.target is not None:
        return Decision(left_alone="PyTorch runs quantised graphs in float, so measuring here would tell nothing")
    try:
        reason = replace_quantised(module, call, chooser.lowering)
    except UsageError as error:
        reason = str(error)
    return Decision(chooser.lowering, left_alone=reason or "")


def _own_class(module: nn.Module) -> Any:
    """The module's class without what a parametrisation put on top of it."""
    return parametrize.type_before_parametrizations(module)


def _change_class(module: nn.Module, wanted: type[nn.Module]) -> None:
    """Exchange the class of ``module``, below the one that a parametrisation made for it."""
    if not parametrize.is_parametrized(module):
        module.__class__ = wanted
        return
    made = type(module)
    body = {name: value for name, value in vars(made).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(f"Parametrized{wanted.__name__}", (wanted,), body)


def _torch_target(name: str) -> Torch:
    found = find_target(name)
    if not isinstance(found, Torch):
        raise UsageError(f"target '{name}' does not run modules, wanted torch or torch:OPTIONS")
    return found
