"""Exact conversion of transposed convolutions (deconvs) into ordinary convolutions.

``convert`` rewrites a model and proves it equal, ``restore`` is the way back, ``inspect`` shows what there is to
rewrite, ``bench`` times all forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splitdeconv.errors import (
    InputError,
    MissingExtraError,
    OutputError,
    SplitdeconvError,
    UsageError,
    VerificationError,
)
from splitdeconv.pipeline.arguments import checked
from splitdeconv.version import __version__

if TYPE_CHECKING:
    from splitdeconv.deconv.weights import Array
    from splitdeconv.pipeline.bench import Benchmark
    from splitdeconv.pipeline.convert import Conversion
    from splitdeconv.pipeline.inspect import Inspection
    from splitdeconv.pipeline.restore import Restoration
    from splitdeconv.results.bench import BenchRecord
    from splitdeconv.results.record import RunRecord

__all__ = [
    "InputError",
    "MissingExtraError",
    "OutputError",
    "SplitdeconvError",
    "UsageError",
    "VerificationError",
    "__version__",
    "bench",
    "convert",
    "from_json",
    "inspect",
    "restore",
]


@checked
def convert(
    model: object,
    out: str | Path | None = None,
    *,
    target: str = "auto",
    lowering: str = "",
    layers: Mapping[str, str] | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    plan: str | Path | None = None,
    inputs: Mapping[str, Array] | None = None,
    in_shapes: Mapping[str, tuple[int, ...] | Sequence[tuple[int, ...]]] | None = None,
    stream: Mapping[str, int] | None = None,
    numerics: str = "exact",
    fold: bool = False,
    to_deconv: bool = False,
    max_growth: float = math.inf,
    verify: bool = True,
    threads: int = 0,
    precision: str = "",
    budget: float = 60.0,
    cache: bool = True,
    progress: Callable[[str, float], None] | None = None,
) -> Conversion:
    """Rewrite every deconv of a model exactly as ordinary convolutions, and prove the result equal.

    Args:
        model: path of a model, or an object such as ``onnx.ModelProto`` or PyTorch's
            ``ExportedProgram``, which is not changed.
        out: where to write the result; it appears whole or not at all. None keeps it in memory.
        target: what the model is for. ``auto`` is the runtime for the format (ONNX Runtime, LiteRT, PyTorch), or
            ``generic`` where it is not installed; ``generic`` chooses by rule and measures nothing.
        lowering: name of a lowering or candidate for every site to which it applies (``split``,
            ``split:union:depth_to_space``).
        layers: site → lowering or candidate.
        only, skip: patterns of sites to rewrite, or to leave as they are.
        plan: a plan file of an earlier run.
        inputs: input name → array, for verification and timing; other inputs are random.
        in_shapes: input name → shape, for inputs whose sizes the model leaves open; or several shapes, for one plan
            that is slower than the original at none of them, and best on their mean.
        stream: input name → axis over which the model is to work in chunks (ONNX); the result takes a chunk and
            states, and gives samples and the next states. The record's notes tell its latency.
        numerics: ``exact`` keeps every rounding step of a quantised model; ``fused`` (TFLite) drops those between a
            deconv and its bias addition and activation; ``requantised`` quantises the summed filters of upsampled 8-bit
            maps anew. Both report the difference.
        fold: put BatchNormalization and arithmetic with constants around a deconv into its weights (modules are
            exported first); proved to the noise bound then, not bit for bit, and taken back where the whole model
            gains nothing.
        to_deconv: make sub-pixel convolutions (before DepthToSpace, or the same written out) transposed ones
            where the target runs these faster, so it must not be ``generic``; exact.
        max_growth: how many times as many weights as the model has a form may store; those of upsamplings have more.
        verify: False leaves the proof out.
        threads: worker threads of the target; 0 leaves it to the target.
        precision: arithmetic of the target; empty for the model's own.
        budget: seconds for measuring: three fifths for the sites, the rest for plans of the whole model.
        cache: whether to use and keep times of earlier runs.
        progress: called with the stage and the fraction done.

    Returns:
        The rewritten model, the plan, the verdict and the record of the run.

    Raises:
        InputError: the model cannot be read, or contradicts itself.
        UsageError: an option does not fit.
        OutputError: the result cannot be written.
        VerificationError: the result is not equal; nothing is written.
    """
    from splitdeconv.pipeline import convert as pipeline  # noqa: PLC0415  # importing the package imports nothing else
    from splitdeconv.pipeline.open import quiet  # noqa: PLC0415  # as above
    from splitdeconv.pipeline.request import ConvertRequest  # noqa: PLC0415  # as above

    request = ConvertRequest(
        target=target,
        lowering=lowering,
        layers=layers or {},
        only=tuple(only),
        skip=tuple(skip),
        plan=None if plan is None else Path(plan),
        numerics=numerics,
        fold=fold,
        to_deconv=to_deconv,
        verify=verify,
        inputs=inputs or {},
        in_shapes=in_shapes or {},
        stream=stream or {},
        threads=threads,
        precision=precision,
        budget=budget,
        cache=cache,
        max_growth=max_growth,
        progress=progress or quiet,
    )
    return pipeline.convert(model, None if out is None else Path(out), request)


@checked
def inspect(
    model: object,
    *,
    in_shapes: Mapping[str, tuple[int, ...]] | None = None,
    targets: Sequence[str] = (),
) -> Inspection:
    """The deconvs of a model: geometry, arithmetic in each form, and what targets say of them. Nothing is written.

    Args:
        model: path of a model, or an object such as ``onnx.ModelProto`` or PyTorch's ``ExportedProgram``.
        in_shapes: input name → shape, for inputs whose sizes the model leaves open.
        targets: names of targets to ask.

    Returns:
        The findings, the plan of the generic rule, and the targets' answers.

    Raises:
        InputError: the model cannot be read, or contradicts itself.
        UsageError: an unknown target or input.
    """
    from splitdeconv.pipeline import inspect as pipeline  # noqa: PLC0415  # as above

    return pipeline.inspect(model, in_shapes or {}, targets)


@checked
def restore(
    model: object,
    out: str | Path | None = None,
    *,
    verify: bool = True,
    inputs: Mapping[str, Array] | None = None,
    in_shapes: Mapping[str, tuple[int, ...]] | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Restoration:
    """Put the original deconvs back into a model that :func:`convert` has made, with their weights bit for bit.

    Args:
        model: path of a converted ONNX or TFLite model, or an object such as ``onnx.ModelProto``, which is not changed.
        out: where to write the result; it appears whole or not at all. None keeps it in memory.
        verify: False leaves the proof out.
        inputs: input name → array, for the proof; other inputs are random.
        in_shapes: input name → shape, for inputs whose sizes the model leaves open.
        progress: called with the stage and the fraction done.

    Returns:
        The restored model, and the record, which says which sites stay as they are and why.

    Raises:
        InputError: the model cannot be read, holds nothing of an original, or no site can be put together again.
        UsageError: an option does not fit.
        OutputError: the result cannot be written.
        VerificationError: the result is not equal to the converted model; nothing is written.
    """
    from splitdeconv.pipeline import restore as pipeline  # noqa: PLC0415  # as above
    from splitdeconv.pipeline.open import quiet  # noqa: PLC0415  # as above
    from splitdeconv.pipeline.request import RestoreRequest  # noqa: PLC0415  # as above

    request = RestoreRequest(verify, inputs or {}, in_shapes or {}, progress or quiet)
    return pipeline.restore(model, None if out is None else Path(out), request)


@checked
def bench(
    model: object = None,
    *,
    layers: str | Path | None = None,
    target: str = "auto",
    only: Sequence[str] = (),
    dtype: str = "float32",
    inputs: Mapping[str, Array] | None = None,
    in_shapes: Mapping[str, tuple[int, ...]] | None = None,
    threads: int = 0,
    precision: str = "",
    budget: float = 60.0,
    fold: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Benchmark:
    """Time every exact form of each deconv on a target, interleaved: of a model, or of a list of layers.

    Args:
        model: path of a model, or an object such as ``onnx.ModelProto`` or PyTorch's
            ``ExportedProgram``; it is also timed as a whole.
        layers: path of a JSON list of layers, instead of a model.
        target: what runs them; ``auto`` is the runtime for the format, and ONNX Runtime for a list of layers.
        only: patterns of sites or layers; none means all.
        dtype: of the layers of a list: ``float32``, ``float16`` or ``int8`` (QDQ with uint8 activations).
        inputs: input name → array, for the whole model; other inputs are random.
        in_shapes: input name → shape, for inputs whose sizes the model leaves open.
        threads: worker threads of the target; 0 leaves it to the target.
        precision: arithmetic of the target; empty for the model's own.
        budget: seconds for all layers; every form gets five rounds at least, and ten where it may win, however long
            that takes.
        fold: time the model with BatchNormalization and arithmetic with constants in the weights of its deconvs, beside
            the model as it came.
        progress: called with the stage and the fraction done.

    Returns:
        The times with their spread, what the planner makes of them, and the ratios.

    Raises:
        InputError: the model or the list cannot be read, or contradicts itself.
        UsageError: an option does not fit.
    """
    from splitdeconv.pipeline import bench as pipeline  # noqa: PLC0415  # as above
    from splitdeconv.pipeline.open import quiet  # noqa: PLC0415  # as above
    from splitdeconv.pipeline.request import BenchRequest  # noqa: PLC0415  # as above

    if (model is None) == (layers is None):
        raise UsageError("bench times a model or a list of layers: give one of them")
    request = BenchRequest(
        target=target,
        only=tuple(only),
        dtype=dtype,
        inputs=inputs or {},
        in_shapes=in_shapes or {},
        threads=threads,
        precision=precision,
        budget=budget,
        fold=fold,
        progress=progress or quiet,
    )
    return pipeline.bench_model(model, request) if layers is None else pipeline.bench_layers(Path(layers), request)


@checked
def from_json(text: str) -> RunRecord | tuple[BenchRecord, ...]:
    """The record of a run, or those of a benchmark, from what ``--json`` has written.

    Its text (``print(record)``) is what the command prints, and ``report(path)`` writes its page.

    Args:
        text: the content of that file.

    Raises:
        InputError: not such a record.
    """
    from splitdeconv import codec  # noqa: PLC0415  # as above
    from splitdeconv.pipeline.records import printable  # noqa: PLC0415  # as above

    return printable(codec.from_json(text, "the record"))
