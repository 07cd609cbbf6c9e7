"""Conversion of modules by the one road, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import Tensor, fx, nn

from splitdeconv.errors import UsageError
from splitdeconv.formats.torch.exchange import SPLIT_OF, change_class, own_class
from splitdeconv.formats.torch.modules import ModuleModel
from splitdeconv.formats.torch.pairs import separate
from splitdeconv.lowerings import find_lowering
from splitdeconv.pipeline import bench as benching
from splitdeconv.pipeline import convert as converting
from splitdeconv.pipeline.arguments import checked
from splitdeconv.pipeline.open import AUTO, GENERIC, MODEL_SHARE, quiet
from splitdeconv.pipeline.records import PrintedRecord
from splitdeconv.pipeline.request import BenchRequest, ConvertRequest
from splitdeconv.results.bench import BenchRecord
from splitdeconv.torch_modules.devices import runtime_of
from splitdeconv.torch_modules.flat import positional
from splitdeconv.torch_modules.graphs import find_calls
from splitdeconv.torch_modules.modules import SplitConvTranspose, thaw_module
from splitdeconv.torch_modules.observe import CONV_TRANSPOSE, copy_of
from splitdeconv.torch_modules.quantised import is_quantised

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NATIVE_OF = {split: native for native, split in SPLIT_OF.items()}
RECORD, ORIGINAL = "splitdeconv", "_splitdeconv_original"  # attributes of converted modules
NOT_FOLDED = (
    "arithmetic around deconvs stays, {}: a module goes on with the weights that are trained and saved; "
    "splitdeconv.convert(torch.export.export(module.eval(), inputs), fold=True) puts it into them"
)


@checked
def convert(
    module: nn.Module,
    example_inputs: Sequence[Any] | Tensor | None = None,
    target: str = AUTO,
    *,
    lowering: str | None = None,
    dynamic_shapes: Any = None,
    seconds: float = 4.0,
    verify: bool = True,
    threads: int = 0,
    cache: bool = True,
    progress: Callable[[str, float], None] | None = None,
) -> nn.Module:
    """A copy of ``module`` whose transposed convolutions are computed by ordinary ones; ``module`` is not changed.

    A convolution right behind ``nn.Upsample`` in an ``nn.Sequential`` is a transposed convolution too: where that
    measures faster, or a lowering is named, the two become one :class:`splitdeconv.torch.SplitUpsampledConv2d`, as
    :func:`splitdeconv.torch.merge_upsampling` makes it. A 1×1 convolution behind one of another mode comes before it.

    Args:
        module: any module; also the GraphModule of ``torch.export`` or of PT2E quantisation.
        example_inputs: positional inputs, or a tensor. Needed to measure, to compare the outputs of both modules, and
            to find functional ``conv_transpose*`` calls: a module that has some is exported with these inputs, and the
            result is a GraphModule in the module's present mode (training or evaluation).
        target: where every layer is measured (``torch``, ``torch:cuda:compiled:bfloat16``), to take what is fastest or
            leave the layer as it is; the whole module has the last word. ``auto`` is PyTorch on the module's device and
            in its type; ``generic`` takes the rule for every layer and times nothing, as ``auto`` does without example
            inputs, for quantised graphs, and where a lowering is named.
        lowering: take this lowering for every layer that it applies to, instead of a choice.
        dynamic_shapes: as ``torch.export.export`` takes them, for modules that must be exported.
        seconds: for each distinct layer to compile, check and measure its forms; the whole module has a third of their
            sum on top.
        verify: False leaves the proof out.
        threads: worker threads of the target; 0 leaves it to PyTorch.
        cache: whether to use and keep times of earlier runs.
        progress: called with the stage and the fraction done.

    Returns:
        The converted copy. :func:`record` tells what was done and what was left alone for which reason.

    Raises:
        UsageError: options that contradict each other, an unknown target or lowering, or an argument of a wrong type.
        VerificationError: the copy is not equal.
    """
    if target not in (AUTO, GENERIC) and (example_inputs is None or lowering is not None):
        needed = "example_inputs" if example_inputs is None else "no lowering beside a target"
        raise UsageError(f"convert(target='{target}') measures the layers and wants {needed}")
    if lowering is not None:
        find_lowering(lowering.partition("@")[0].split(":")[0])
    name, why = (target, "") if target != AUTO else _auto(module, example_inputs, lowering)
    example = None if example_inputs is None else positional(example_inputs)
    model = ModuleModel.of(module, example, dynamic_shapes=dynamic_shapes, lowering=lowering, measured=name != GENERIC)
    request = ConvertRequest(
        target=name,
        verify=verify,
        inputs=model.feeds(),
        layers=model.asked(),
        threads=threads,
        budget=_budget(model, seconds),
        cache=cache,
        progress=progress or quiet,
    )
    conversion = converting.convert(model, None, request)
    return _kept(module, model, conversion, why)


@checked
def bench(
    module: nn.Module,
    example_inputs: Sequence[Any] | Tensor,
    target: str = AUTO,
    *,
    seconds: float = 4.0,
    forms: int = 0,
    threads: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> BenchRecord:
    """Time every exact form of each deconv of a module on a target, interleaved, and the whole module.

    Args:
        module, example_inputs, target, seconds, threads, progress: as :func:`convert` takes them.
        forms: how many forms of each layer are timed, the most promising; ``native``, ``zero_insert`` and the paper's
            split come on top. 0 takes all.

    Raises:
        UsageError: an unknown target, or an argument of a wrong type.
    """
    model = ModuleModel.of(module, positional(example_inputs), measured=True)
    request = BenchRequest(
        runtime_of(module) if target == AUTO else target,
        inputs=model.feeds(),
        threads=threads,
        budget=_budget(model, seconds),
        forms=forms,
        progress=progress or quiet,
    )
    return benching.bench_model(model, request)


@checked
def record(module: nn.Module) -> PrintedRecord:
    """What :func:`convert` did to ``module``: plan, proof, times, notes, as ``splitdeconv convert --json`` writes it.

    Its text (``print(record)``) is what the command prints, and ``report(path)`` writes its page.

    Raises:
        UsageError: the module does not come from :func:`convert`.
    """
    found = module.__dict__.get(RECORD)
    if not isinstance(found, PrintedRecord):
        raise UsageError(f"{type(module).__name__}: not a module that splitdeconv.torch.convert returned")
    return found


@checked
def restore(module: nn.Module) -> nn.Module:
    """A copy of a converted module with PyTorch's own deconvs again, and with the parameters as they are now.

    Of a module that had to be exported, the original module comes back with the present values (of a quantised
    graph: as it was, since its weights cannot be trained).
    """
    kept = module.__dict__.get(ORIGINAL)
    if kept is not None:
        original = copy_of(kept)
        original.load_state_dict(module.state_dict(), strict=False)
        return original
    restored = copy_of(module)
    for each in list(restored.modules()):
        if isinstance(each, SplitConvTranspose):
            thaw_module(each)
            for name in ("lowering", "_kept", "_frozen", "_packed"):
                each.__dict__.pop(name, None)
            change_class(each, NATIVE_OF[own_class(each)])
    separate(restored)
    restored.__dict__.pop(RECORD, None)
    return restored


def _auto(module: nn.Module, example_inputs: object, lowering: str | None) -> tuple[str, str]:
    """The target that ``auto`` stands for, and why."""
    if lowering is not None:
        return GENERIC, ""
    if example_inputs is None:
        return GENERIC, "nothing is measured, because there are no example inputs"
    if isinstance(module, fx.GraphModule) and any(map(is_quantised, find_calls(module))):
        return GENERIC, "nothing is measured, because PyTorch runs quantised graphs in float"
    try:
        return runtime_of(module), "the module's device and type; target= names another"
    except UsageError as error:
        return GENERIC, f"nothing is measured, because {error}"


def _budget(model: ModuleModel, seconds: float) -> float:
    """The seconds for all of the measuring."""
    layers = {site.deconv for site in model.find().sites}
    return seconds * max(1, len(layers)) / (1 - MODEL_SHARE)


def _not_folded(module: nn.Module, model: ModuleModel) -> tuple[str, ...]:
    """What the user should know of arithmetic around deconvs: that a run has shown, or of an ``nn.Sequential``."""
    around = _norms(module) if model.example is None else model.seen.around
    names = "; ".join(f"{', '.join(operators)} of '{name}'" for name, operators in around.items())
    return (NOT_FOLDED.format(names),) if names else ()


def _norms(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """The normalisations right behind deconvs in containers."""
    return {
        f"{where}.{name}" if where else name: ("batch_norm",)
        for where, parent in module.named_modules()
        if type(parent) is nn.Sequential
        for (name, each), (_, behind) in pairwise(parent.named_children())
        if isinstance(each, CONV_TRANSPOSE) and isinstance(behind, BATCH_NORMS)
    }


def _kept(module: nn.Module, model: ModuleModel, conversion: converting.Conversion, why: str) -> nn.Module:
    """The converted module, with its record, which says why its target."""
    rewritten = conversion.rewritten
    assert isinstance(rewritten, ModuleModel), "a module stays one"
    converted = copy_of(module) if rewritten is model else rewritten.module
    notes = (*conversion.record.notes, *_not_folded(module, model))
    object.__setattr__(converted, RECORD, replace(conversion.record, target_reason=why, notes=notes))
    if isinstance(converted, fx.GraphModule):
        object.__setattr__(converted, ORIGINAL, module)
    return converted
