"""The deconvs of a model over inputs of definite sizes; some sizes of inner maps only a run of it tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Findings, Model
from splitdeconv.pipeline.open import Options, Shapes, runner_for, saved
from splitdeconv.proof.whole import TRIALS, Given
from splitdeconv.targets.target import CompileError, Target


@dataclass(frozen=True, slots=True)
class Sized:
    """What a model is at one of the sizes of its inputs.

    Attributes:
        shapes: of the inputs that the model leaves open, or that the user gave.
        findings: its deconvs over inputs of these shapes.
    """

    shapes: Shapes
    findings: Findings


def find_sized(model: Model, shapes: Shapes, inputs: Mapping[str, Array], runner: Target | None) -> Findings:
    """The deconvs of a model over inputs of ``shapes``; sizes that cannot be inferred are those of one run.

    Args:
        model: whose deconvs are looked for.
        shapes: of inputs that the model leaves open.
        inputs: of the user; the others are drawn.
        runner: what runs the model, or None where nothing may run; then such sizes stay unknown.
    """
    found = model.find(shapes)
    if runner is None or all(None not in site.deconv.in_sizes for site in found.sites):
        return found

    def run(watched: Model) -> dict[str, Array]:
        return _outputs(watched, Given(inputs, (shapes,)), runner)

    return model.sized_by(shapes, run).find(shapes)


def fixed(
    model: Model, given: Sequence[Shapes], inputs: Mapping[str, Array], target: Target | None, options: Options
) -> tuple[Model, tuple[str, ...]]:
    """The model with the sizes that the user gave written into it, and what is said of that.

    Only one set of sizes, which gives all those that are open, can be written.

    Args:
        model: as it came.
        given: sizes of inputs, one set of shapes or several.
        inputs: of the user; the others are drawn.
        target: where the model is to run, or None.
        options: how to measure.
    """
    first, *others = given
    is_open = [each.name for each in model.inputs() if each.shape is None or None in each.shape]
    if others or not is_open or not first.keys() >= set(is_open):
        return model, ()

    def run(watched: Model) -> dict[str, Array]:
        with suppress(UsageError):  # nothing that runs it is installed
            return _outputs(watched, Given(inputs, (first,)), runner_for(model, target, options))
        return {}

    found = model.fixed(first, run)
    sizes = ", ".join(f"'{name}' {'×'.join(map(str, first[name]))}" for name in is_open)
    return found, () if found is model else (f"the sizes that the model left open are fixed: {sizes}",)


def _outputs(model: Model, given: Given, runner: Target) -> dict[str, Array]:
    """What the model makes of the first inputs on which it runs; nothing where it does not run."""
    with TemporaryDirectory() as folder:
        for trial in range(TRIALS):
            feeds = given.feeds(model, trial)
            if isinstance(feeds, str):
                continue
            try:
                # An optimiser takes sizes from its own inference, which may be as wrong as others'.
                watched = saved(model, Path(folder) / f"sizes{model.suffix}")
                return (runner.compile_plain(watched) or runner.compile(watched, whole=True)).run(feeds)
            except CompileError:
                continue
    return {}
