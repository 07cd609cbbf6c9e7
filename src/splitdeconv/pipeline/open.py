"""What every command begins with: the model, the target, the plan file, and a place for the result."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from splitdeconv import codec, formats, targets
from splitdeconv.deconv.network import Compilable
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.files import parse_json, read_text, staged
from splitdeconv.formats.model import Model
from splitdeconv.measuring.cache import TimingCache, default_path
from splitdeconv.results.plan import PlanFile
from splitdeconv.results.schema import SCHEMA_VERSION
from splitdeconv.targets.target import Target

AUTO, GENERIC = "auto", "generic"  # targets by rule: the format's installed runtime; none, with nothing measured
DEFAULT_SECONDS = 60.0
MODEL_SHARE = 0.4  # part of the budget that is kept for plans of the whole model; the sites have the rest

Progress = Callable[[str, float], None]
Shapes = Mapping[str, tuple[int, ...]]


def quiet(_stage: str, _share: float) -> None:
    """No progress."""


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        threads: worker threads; 0 leaves it to the target.
        precision: arithmetic of the target, or empty for the model's own.
        seconds: budget for all sites and the whole model together.
        cache: whether to use the file of earlier times.
    """

    threads: int = 0
    precision: str = ""
    seconds: float = DEFAULT_SECONDS
    cache: bool = True

    @property
    def model_seconds(self) -> float:
        """What the whole model may take of the budget."""
        return MODEL_SHARE * self.seconds

    @property
    def site_seconds(self) -> float:
        """What all sites together may take of the budget."""
        return self.seconds - self.model_seconds

    def open_cache(self) -> TimingCache:
        """The cache that these options ask for."""
        return TimingCache(default_path() if self.cache else None)


def open_model(source: object, numerics: str = "exact") -> Model:
    """The model in a path, or in an object of a format's own library.

    Raises:
        InputError: not a model.
        UsageError: the format does not know these numerics.
    """
    if isinstance(source, Model):
        return source
    if isinstance(source, str | Path):
        return formats.load(Path(source), numerics)
    return formats.from_object(source, numerics)


def name_of(source: object) -> str:
    """How records name a model: by its path, or by its type."""
    if isinstance(source, Model):
        source = source.to_object()
    return str(source) if isinstance(source, str | Path) else f"<{type(source).__name__}>"


def named_target(name: str, model: Model) -> tuple[str, str]:
    """The target that ``name`` stands for, and why where that is not what the user wrote."""
    if name != AUTO:
        return name, ""
    try:
        targets.target(model.runtime)
    except MissingExtraError as error:
        return GENERIC, f"nothing is measured, because {error}"
    return model.runtime, f"the runtime for {model.suffix} models that is installed; --target names another"


def open_target(name: str, model: Model, options: Options) -> Target:
    """The target called ``name``.

    Raises:
        UsageError: unknown, or it does not take models of this format.
    """
    target = targets.target(name, threads=options.threads, precision=options.precision)
    if model.format not in target.formats:
        raise UsageError(f"target '{name}' takes {', '.join(target.formats)} models, this one is {model.format}")
    return target


def runner_for(model: Model, target: Target | None, options: Options) -> Target:
    """What runs the models of a proof: the target if it runs models, else the format's own runtime.

    A target that is to compute in a lower precision proves in its full one: rounded sums have no equal bits.

    Raises:
        UsageError: that runtime is not installed.
    """
    if target is not None and target.gives_outputs:
        target = targets.target(target.name, threads=options.threads) if options.precision else target
        return target.in_full_precision()
    try:
        return targets.target(model.runtime)
    except MissingExtraError as error:
        raise UsageError(f"verification runs the model: {error}, or convert with --no-verify") from None


def proving(model: Model, target: Target | None, options: Options) -> tuple[Model, Target]:
    """The model as what runs its proof sees it, and that.

    A target that only estimates has arithmetic of its own, which does not depend on which kernels of the format's
    runtime take what; where that would change bits, the proof is done in kernels that compute all alike.

    Raises:
        UsageError: as :func:`runner_for`.
    """
    runner = runner_for(model, target, options)
    seen = model.seen_by(runner)
    if seen is not model and target is not None and target.kind == "estimated":
        return model, targets.target(model.reference_runtime)
    return seen, runner


def read_plan(path: Path) -> dict[str, str]:
    """Sites and candidates of a plan file.

    Raises:
        InputError: it cannot be read, or is not a plan.
        UsageError: it is one of another schema.
    """
    wanted = "wanted the file that --save-plan writes"
    found = codec.from_object(PlanFile, parse_json(read_text(path, wanted), str(path), wanted), str(path), wanted)
    if found.schema != SCHEMA_VERSION:
        raise UsageError(f"{path}: plan of schema {found.schema}, this version reads {SCHEMA_VERSION}; plan anew")
    return dict(found.sites)


@contextmanager
def workplace(model: Model, out: Path | None) -> Iterator[Path]:
    """The folder in which the result is made; without an output it goes away afterwards."""
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        with staged(out, model.files()) as folder:
            yield folder


def saved(model: Model, path: Path) -> Compilable:
    """The whole model for targets, written to ``path`` where files hold such models."""
    if model.suffix:
        model.save(path)
    return model.compilable(path)


@contextmanager
def as_it_came(model: Model) -> Iterator[Compilable]:
    """The whole model for targets: its own file, or one that goes away afterwards."""
    if own := model.files():
        yield model.compilable(own[0])
        return
    with tempfile.TemporaryDirectory() as folder:
        yield saved(model, Path(folder) / ("original" + model.suffix))
