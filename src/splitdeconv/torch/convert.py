"""Conversion of modules by the one road, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import fx, nn

from splitdeconv.errors import UsageError
from splitdeconv.formats.torch.exchange import SPLIT_OF, change_class, own_class
from splitdeconv.formats.torch.modules import ModuleModel
from splitdeconv.formats.torch.pairs import separate
from splitdeconv.lowerings import find_lowering
from splitdeconv.pipeline import bench as benching
from splitdeconv.pipeline import convert as converting
from splitdeconv.pipeline.arguments import checked
from splitdeconv.pipeline.open import GENERIC, MODEL_SHARE, quiet
from splitdeconv.pipeline.request import BenchRequest, ConvertRequest
from splitdeconv.results.bench import BenchRecord
from splitdeconv.results.record import RunRecord
from splitdeconv.torch_modules.modules import SplitConvTranspose, thaw_module
from splitdeconv.torch_modules.observe import CONV_TRANSPOSE, copy_of

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
NATIVE_OF = {split: native for native, split in SPLIT_OF.items()}
RECORD, ORIGINAL = "splitdeconv", "_splitdeconv_original"  # attributes of converted modules
NOT_FOLDED = (
    "BatchNormalization behind {} stays: a module goes on with the weights that are trained and saved; "
    "splitdeconv.convert(torch.export.export(module.eval(), inputs), fold=True) puts it into them"
)
NOT_TIMED = "nothing was timed: it may be slower than the original; a target and example inputs time it"


@checked
def convert(
    module: nn.Module,
    example_inputs: Sequence[Any] | None = None,
    target: str | None = None,
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

    A convolution right behind ``nn.Upsample`` in an ``nn.Sequential`` is a transposed convolution too: with a target,
    or where a lowering is named, the two become one :class:`splitdeconv.torch.SplitUpsampledConv2d`, as
    :func:`splitdeconv.torch.merge_upsampling` makes it. A 1×1 convolution behind one of another mode comes before it.

    Args:
        module: any module; also the GraphModule of ``torch.export`` or of PT2E quantisation.
        example_inputs: positional inputs. Needed to measure, to compare the outputs of both modules, and to find
            functional ``conv_transpose*`` calls: a module that has some is exported with these inputs, and the result
            is a GraphModule in the module's present mode (training or evaluation).
        target: measure every layer there (``torch``, ``torch:cuda:compiled:bfloat16``) and take what is fastest, or
            leave the layer as it is; None takes the default rule for every layer, and times nothing.
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
    if target is not None and (example_inputs is None or lowering is not None):
        needed = "example_inputs" if example_inputs is None else "no lowering beside a target"
        raise UsageError(f"convert(target='{target}') measures the layers and wants {needed}")
    if lowering is not None:
        find_lowering(lowering.partition("@")[0].split(":")[0])
    model = ModuleModel.of(
        module, example_inputs, dynamic_shapes=dynamic_shapes, lowering=lowering, measured=target is not None
    )
    request = ConvertRequest(
        target=target or GENERIC,
        verify=verify,
        inputs=model.feeds(),
        layers=model.asked(),
        threads=threads,
        budget=_budget(model, seconds),
        cache=cache,
        progress=progress or quiet,
    )
    conversion = converting.convert(model, None, request)
    return _kept(module, model, conversion, timed=target not in (None, GENERIC))


@checked
def bench(
    module: nn.Module,
    example_inputs: Sequence[Any],
    target: str = "torch",
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
        UsageError: an unknown target.
    """
    model = ModuleModel.of(module, example_inputs, measured=True)
    request = BenchRequest(
        target,
        inputs=model.feeds(),
        threads=threads,
        budget=_budget(model, seconds),
        forms=forms,
        progress=progress or quiet,
    )
    return benching.bench_model(model, request)


@checked
def record(module: nn.Module) -> RunRecord:
    """What :func:`convert` did to ``module``: plan, proof, times, notes, as ``splitdeconv convert --json`` writes it.

    Raises:
        UsageError: the module does not come from :func:`convert`.
    """
    found = module.__dict__.get(RECORD)
    if not isinstance(found, RunRecord):
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


def _budget(model: ModuleModel, seconds: float) -> float:
    """The seconds for all of the measuring."""
    layers = {site.deconv for site in model.find().sites}
    return seconds * max(1, len(layers)) / (1 - MODEL_SHARE)


def _not_folded(module: nn.Module) -> tuple[str, ...]:
    """What the user should know of normalisations right behind deconvs."""
    names = [
        f"{where}.{name}" if where else name
        for where, parent in module.named_modules()
        if type(parent) is nn.Sequential
        for (name, each), (_, behind) in pairwise(parent.named_children())
        if isinstance(each, CONV_TRANSPOSE) and isinstance(behind, BATCH_NORMS)
    ]
    return (NOT_FOLDED.format(", ".join(f"'{name}'" for name in names)),) if names else ()


def _kept(module: nn.Module, model: ModuleModel, conversion: converting.Conversion, *, timed: bool) -> nn.Module:
    """The converted module, with its record."""
    rewritten = conversion.rewritten
    assert isinstance(rewritten, ModuleModel), "a module stays one"
    converted = copy_of(module) if rewritten is model else rewritten.module
    found = conversion.record
    notes = (*(() if timed else (NOT_TIMED,)), *found.notes, *_not_folded(module))
    object.__setattr__(converted, RECORD, replace(found, notes=notes))
    if isinstance(converted, fx.GraphModule):
        object.__setattr__(converted, ORIGINAL, module)
    return converted
