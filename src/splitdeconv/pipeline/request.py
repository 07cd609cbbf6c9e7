"""What conversions and benchmarks are asked for, and whether it can be: each field is an option of the command line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

from splitdeconv import formats, lowerings
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Model
from splitdeconv.formats.open_sizes import InShapes
from splitdeconv.pipeline.open import AUTO, DEFAULT_SECONDS, Options, Progress, Shapes, quiet, read_plan
from splitdeconv.pipeline.sites import Extent
from splitdeconv.proof.inputs import check_inputs, check_shapes


@dataclass(frozen=True, slots=True)
class Help:
    """What the command line says of an option, and what it calls its value."""

    text: str
    metavar: str = ""


SHAPE_HELP = (
    "NAME=1,3,224,224: sizes for an input that the model leaves open; NAME may be left out if it has one input."
)
_SHAPES = (
    f"{SHAPE_HELP} Repeated for the same input: one plan for all of these sizes, never slower than the original at any."
)
_INPUT = "NAME=FILE.npy: an input for verification and timing; FILE.npz holds several by name. Repeatable."
Inputs = Annotated[Mapping[str, Array], Help(_INPUT, "NAME=FILE")]
OneSize = Annotated[InShapes, Help(SHAPE_HELP, "NAME=SIZES")]
SeveralSizes = Annotated[InShapes, Help(_SHAPES, "NAME=SIZES")]
Threads = Annotated[int, Help("Worker threads of the target; 0 for its own choice.", "N")]
Precision = Annotated[str, Help("Arithmetic of the target, where it has a choice.", "NAME")]
_TARGET = (
    "What the model is for; auto: the installed runtime of its format; generic: by rule, nothing is measured; "
    "`splitdeconv targets` lists all."
)
_LOWERING = "This lowering wherever it applies, instead of a choice; `splitdeconv targets` lists them."
_STREAM = "Number of the axis over which the model is to work in chunks; of one input by name. Repeatable."
_FOLD = (
    "Put BatchNormalization and arithmetic with constants around a deconv into its weights; proved to the noise bound, "
    "not bit for bit (models in files)."
)
_TO_DECONV = (
    "Make sub-pixel convolutions (those before DepthToSpace) transposed ones where the target runs these faster."
)
Folds = Annotated[bool, Help(_FOLD)]
_NUMERICS = (
    "exact; fused (TFLite): drop rounding steps of the epilogue; requantised: quantise the summed filters of upsampled "
    "int8 maps anew. Both report the difference."
)


@dataclass(frozen=True, slots=True)
class ConvertRequest:
    """What a conversion is asked to do.

    Attributes:
        progress: called with the stage and the fraction done.
        overrides: what the user decides himself.
        options: how to measure.
    """

    target: Annotated[str, Help(_TARGET, "NAME")] = AUTO
    lowering: Annotated[str, Help(_LOWERING, "FORM")] = ""
    layers: Annotated[Mapping[str, str], Help("SITE=LOWERING for one site. Repeatable.", "SITE=FORM")] = field(
        default_factory=dict
    )
    only: Annotated[tuple[str, ...], Help("Rewrite only sites that fit this pattern.", "PATTERN")] = ()
    skip: Annotated[tuple[str, ...], Help("Leave sites that fit this pattern.", "PATTERN")] = ()
    plan: Annotated[Path | None, Help("Take the choices from this plan file.", "FILE")] = None
    numerics: Annotated[str, Help(_NUMERICS, "NAME")] = "exact"
    fold: Folds = False
    to_deconv: Annotated[bool, Help(_TO_DECONV)] = False
    max_growth: Annotated[float, Help("Refuse forms that store more than this many times the weights.", "TIMES")] = (
        math.inf
    )
    verify: Annotated[bool, Help("Prove the result equal before it is written.")] = True
    inputs: Inputs = field(default_factory=dict)
    in_shapes: SeveralSizes = field(default_factory=dict)
    stream: Annotated[Mapping[str, int], Help(_STREAM, "[NAME=]AXIS")] = field(default_factory=dict)
    threads: Threads = 0
    precision: Precision = ""
    budget: Annotated[float, Help("Seconds for measuring.", "SECONDS")] = DEFAULT_SECONDS
    cache: Annotated[bool, Help("Use and keep times of earlier runs.")] = True
    progress: Progress = quiet
    overrides: Overrides = field(init=False)
    options: Options = field(init=False)

    def __post_init__(self) -> None:
        """Read the plan file.

        Raises:
            InputError: it is no plan.
        """
        planned = None if self.plan is None else read_plan(self.plan)
        overrides = Overrides(self.lowering, self.layers, planned, self.only, self.skip)
        object.__setattr__(self, "overrides", overrides)
        object.__setattr__(self, "options", Options(self.threads, self.precision, self.budget, self.cache))


@dataclass(frozen=True, slots=True)
class RestoreRequest:
    """How a converted model is restored; ``progress`` is called with the stage and the fraction done."""

    verify: Annotated[bool, Help("Prove the result equal before it is written.")] = True
    inputs: Inputs = field(default_factory=dict)
    in_shapes: OneSize = field(default_factory=dict)
    progress: Progress = quiet


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to time.

    Attributes:
        target: name of the target.
        forms: how many forms of each layer are timed, the most promising; ``native``, ``zero_insert`` and the paper's
            split come on top. 0 takes as many as the budget leaves time for.
        equal_work: whether to time the plain convolution of the same work, too.
        progress: called with the stage and the fraction done.
    """

    target: str
    only: Annotated[tuple[str, ...], Help("Time only sites or layers that fit this pattern.", "PATTERN")] = ()
    dtype: Annotated[str, Help("Of a list's layers: float32, float16 or int8.", "NAME")] = "float32"
    inputs: Inputs = field(default_factory=dict)
    in_shapes: OneSize = field(default_factory=dict)
    threads: Threads = 0
    precision: Precision = ""
    budget: Annotated[float, Help("Seconds for all layers on a target.", "SECONDS")] = DEFAULT_SECONDS
    forms: int = 0
    equal_work: bool = True
    fold: Folds = False
    progress: Progress = quiet

    def takes(self, name: str) -> bool:
        """Whether a layer is wanted."""
        return not self.only or any(fnmatchcase(name, pattern) for pattern in self.only)

    @property
    def extent(self) -> Extent:
        """How much of each layer is timed."""
        return Extent(keep=True, forms=self.forms, equal_work=self.equal_work)

    @property
    def options(self) -> Options:
        """How to measure; the cache is not used."""
        return Options(self.threads, self.precision, self.budget, cache=False)


def check_names(model: Model, out: Path | None, request: ConvertRequest, given: Sequence[Shapes]) -> None:
    """Check everything that a request names.

    Raises:
        UsageError: there is no such form, input or size, or no file of that name.
    """
    for name in (request.overrides.lowering, *request.overrides.layers.values()):
        if name:
            lowerings.find_lowering(name.split(":")[0])
    check_output(model, out)
    inputs = model.inputs()
    check_inputs(inputs, request.inputs)
    for shapes in given:
        check_shapes(inputs, shapes)
    if len(given) > 1 and (both := [name for name in given[0] if name in request.inputs]):
        raise UsageError(
            f"--input {both[0]}: has one size, and --input-shape gives it {len(given)}; wanted one of both"
        )


def check_output(model: Model, out: Path | None) -> None:
    """Check that ``out`` may be the name of a file of the model's format.

    Raises:
        UsageError: it may not.
    """
    if out is not None and not model.suffix:
        raise UsageError(f"{out}: no file holds such a model; leave the name out, and take the result")
    if out is not None and out.suffix != model.suffix and out.suffix in formats.SUFFIXES:
        raise UsageError(f"{out}: the model is {model.format} and stays so; wanted a name that ends in {model.suffix}")
