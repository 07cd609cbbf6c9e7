"""Proof of a whole model: its outputs on real inputs stay within a small multiple of the original's own noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splitdeconv import targets
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import MissingExtraError, VerificationError
from splitdeconv.formats.model import Model
from splitdeconv.proof.errors import bound_of, error_of, rounding_of
from splitdeconv.proof.inputs import random_inputs
from splitdeconv.results.verdict import OutputCheck
from splitdeconv.targets.target import Compiled, CompileError, Target

TRIALS = 2  # sets of random inputs; sizes that the model leaves open differ between them
# Where float64 is unavailable, the original's noise is its own change when inputs move by this many roundings.
MOVED_ROUNDINGS = 16
# The same for models with rewritten quantised sites: half a step of 8 bits, which moves some values by one step.
MOVED_QUANTISED = 2**-9
UNSTABLE = 0.01  # relative noise of an original that is fed with what it was not made for


def compare_models(
    original: Model,
    before: Compiled,
    after: Compiled,
    feeds: Mapping[str, Array],
    *,
    quantised: bool = False,
    plain: Compiled | None = None,
) -> tuple[OutputCheck, ...]:
    """Errors of all outputs for one set of inputs.

    Args:
        original: the model, for its float64 evaluation.
        before, after: the original and the rewritten model, ready to run.
        feeds: the inputs.
        quantised: whether a rewritten site is; where a sum falls between two steps it may be rounded either way.
        plain: the original without the runtime's own rewriting, or None. Where float64 cannot be had, both are held
            against it: a runtime may saturate in convolutions that are not ours, before or after.

    Raises:
        CompileError: the original does not run on these inputs.
        VerificationError: the original does, and the rewritten model does not.
    """
    old = before.run(feeds)
    try:
        new = after.run(feeds)
    except CompileError as error:
        raise VerificationError(f"the rewritten model stops where the original runs ({error})") from None
    exact = original.float64(feeds)
    if isinstance(exact, str):
        moved = before.run(_moved(feeds, quantised))
        by = "half a step of 8 bits" if quantised else f"{MOVED_ROUNDINGS} roundings"
        wanted = old if plain is None else plain.run(feeds)
        what = "the original" if plain is None else "the original as ONNX defines it"
        against = f"{what}, whose noise is its change when inputs move by {by}"
        errors = {
            name: (
                max(error_of(moved[name], old[name]), error_of(old[name], wanted[name])),
                error_of(new[name], wanted[name]),
            )
            for name in old
        }
    else:
        against = "float64"
        errors = {name: (error_of(old[name], exact[name]), error_of(new[name], exact[name])) for name in old}
    return tuple(
        OutputCheck(name, noise, error, bound_of(noise, old[name].dtype.name), against)
        for name, (noise, error) in errors.items()
    )


def _moved(feeds: Mapping[str, Array], quantised: bool) -> dict[str, Array]:
    """Inputs with every value moved up or down by some roundings, or by half a step of 8 bits."""
    rng = np.random.default_rng(1)
    moved = {}
    for name, array in feeds.items():
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            moved[name] = array
            continue
        step = MOVED_QUANTISED if quantised else MOVED_ROUNDINGS * rounding_of(array.dtype.name)
        factor = 1 + step * rng.choice([-1.0, 1.0], array.shape)
        moved[name] = (array.astype(np.float64) * factor).astype(array.dtype)
    return moved


def unstable(checks: Sequence[OutputCheck]) -> tuple[str, ...]:
    """Notes on outputs whose noise is so large on the inputs that were tried that the comparison says little."""
    return tuple(
        f"output '{each.name}' of the original {_instability(each.before)} when inputs move by some roundings, so "
        "the comparison says little; --input gives it inputs as the model expects them"
        for each in checks
        if each.before > UNSTABLE
    )


def _instability(noise: float) -> str:
    return f"moves by {noise:.0%}" if math.isfinite(noise) else "overflows in other places"


def merge_checks(trials: Iterable[Sequence[OutputCheck]]) -> tuple[OutputCheck, ...]:
    """The worst check of each output, ignoring unstable inputs."""
    by_name: dict[str, list[OutputCheck]] = {}
    for checks in trials:
        for each in checks:
            by_name.setdefault(each.name, []).append(each)
    worst = []
    for found in by_name.values():
        telling = [each for each in found if each.before <= UNSTABLE or not each.passed] or found
        worst.append(max(telling, key=lambda each: each.after / each.bound))
    return tuple(worst)


@dataclass(frozen=True, slots=True)
class Given:
    """What the user gave to compare and time whole models with.

    Attributes:
        inputs: arrays by input name; the other inputs are random.
        shapes: for inputs that the model leaves open.
    """

    inputs: Mapping[str, Array]
    shapes: Mapping[str, tuple[int, ...]]

    def feeds(self, model: Model, trial: int) -> dict[str, Array] | str:
        """Inputs for one trial, or the reason why they cannot be made."""
        missing = [each for each in model.inputs() if each.name not in self.inputs]
        drawn = random_inputs(missing, self.shapes, trial)
        return drawn if isinstance(drawn, str) else {**drawn, **self.inputs}

    def infinite(self) -> tuple[str, ...]:
        """Notes on arrays of the user that hold no numbers everywhere."""
        return tuple(
            f"--input {name} holds infinite values or NaN: what they reach is only compared by where it is not finite"
            for name, array in self.inputs.items()
            if array.dtype.kind in "fV" and not np.isfinite(array.astype(np.float64)).all()
        )

    def trials(self, model: Model) -> int:
        """How many sets of inputs there are to try."""
        return 1 if set(self.inputs) >= {each.name for each in model.inputs()} else TRIALS


def compare(
    model: Model, original: Path, rewritten: Path, given: Given, runner: Target, *, quantised: bool
) -> tuple[tuple[OutputCheck, ...], tuple[str, ...]]:
    """Outputs of both models on the user's inputs, or on random ones of several sizes; and notes.

    Raises:
        VerificationError: the rewritten model does not run where the original does.
    """
    trials: list[Sequence[OutputCheck]] = []
    notes: list[str] = []
    try:
        runner, before, other = _that_runs(model, original, runner)
        notes += other
        compiled = _compile_elsewhere if other else _compile_rewritten
        after = compiled(runner, rewritten)
        plain = runner.compile_plain(Compilable(original)) if quantised else None
        for trial in range(given.trials(model)):
            feeds = given.feeds(model, trial)
            if isinstance(feeds, str):
                return (), (feeds,)
            trials.append(compare_models(model, before, after, feeds, quantised=quantised, plain=plain))
    except CompileError as error:
        shapes = "; --input-shape and --input give it sizes and values that it takes"
        notes.append(f"{runner.name} does not run the model ({error}){shapes}")
    outputs = merge_checks(trials)
    return outputs, (*notes, *given.infinite(), *unstable(outputs))


def _that_runs(model: Model, original: Path, runner: Target) -> tuple[Target, Compiled, tuple[str, ...]]:
    """A target that runs the original, the original ready to run, and a note where it is not ``runner``.

    Raises:
        CompileError: there is none.
    """
    try:
        return runner, runner.compile(Compilable(original), whole=True), ()
    except CompileError as error:
        try:
            other = targets.target(model.reference_runtime)
            before = other.compile(Compilable(original), whole=True)
        except (MissingExtraError, CompileError):
            raise error from None
        note = f"the original does not run on {runner.name} ({error}): both are compared on {other.name}"
        return other, before, (note,)


def _compile_elsewhere(runner: Target, rewritten: Path) -> Compiled:
    """The rewritten model on a target that the user did not choose, which may lack what his has.

    Raises:
        CompileError: it does.
    """
    return runner.compile(Compilable(rewritten), whole=True)


def _compile_rewritten(runner: Target, rewritten: Path) -> Compiled:
    """The rewritten model, which must compile where the original does."""
    try:
        return runner.compile(Compilable(rewritten), whole=True)
    except CompileError as error:
        raise VerificationError(f"{runner.name} takes the original but not the rewritten model ({error})") from None
