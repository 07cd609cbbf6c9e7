"""Proof of a whole model: its outputs on real inputs stay within a small multiple of the original's own noise."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splitdeconv import targets
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array, rounding_of
from splitdeconv.errors import MissingExtraError, UsageError, VerificationError
from splitdeconv.formats.model import Model
from splitdeconv.proof.errors import bound_of, error_of
from splitdeconv.proof.inputs import random_inputs, with_open_sizes
from splitdeconv.proof.sizes import OtherSizesError, check_sizes
from splitdeconv.results.verdict import OutputCheck
from splitdeconv.targets.target import Compiled, CompileError, Target
from splitdeconv.workers.arrays import named

TRIALS = 2  # sets of random inputs; sizes that the model leaves open differ between them
# Where float64 is unavailable, the original's noise is its own change when inputs move by this many roundings.
MOVED_ROUNDINGS = 16
# The same for models with rewritten quantised sites: half a step of 8 bits, which moves some values by one step.
MOVED_QUANTISED = 2**-9
_TEXT = "OUS"  # kinds of NumPy's types
_ONLY_NAN = "NaN everywhere on the inputs that were tried, which proves NOTHING of it: --input gives it others"
UNSTABLE = 0.01  # relative noise of an original that is fed with what it was not made for


def compare_models(
    original: Model,
    before: Compiled,
    after: Compiled,
    feeds: Mapping[str, Array],
    *,
    quantised: bool = False,
    plain: Compiled | None = None,
) -> tuple[tuple[OutputCheck, ...], dict[str, str]]:
    """Errors of all outputs for one set of inputs, and what is the matter with those that prove nothing.

    Args:
        original: the model, for its float64 evaluation.
        before, after: the original and the rewritten model, ready to run.
        feeds: the inputs.
        quantised: whether a rewritten site is; where a sum falls between two steps it may be rounded either way.
        plain: the original without the runtime's own rewriting, or None. Where float64 cannot be had, both are held
            against it: a runtime may saturate in convolutions that are not ours, before or after.

    Raises:
        CompileError: the original does not run on these inputs.
        OtherSizesError: outputs have other sizes.
        VerificationError: the original does, and the rewritten model does not.
    """
    old = before.run(feeds)
    try:
        new = after.run(feeds)
    except CompileError as error:
        raise VerificationError(f"the rewritten model stops where the original runs ({error})") from None
    check_sizes(old, new, feeds)
    names = [name for name, array in old.items() if array.dtype.kind not in _TEXT]
    exact = in_float64(original, feeds)
    if isinstance(exact, str) or not set(names) <= set(exact):
        wanted = old if plain is None else plain.run(feeds)
        equal = all(_error(name, new, wanted) == 0 for name in names)
        stored = {each.name for each in original.inputs() if quantised and each.quantised and not equal}
        moved = before.run(_moved(feeds, quantised, stored))
        by = "half a step of 8 bits" if quantised else f"{MOVED_ROUNDINGS} roundings"
        what = "the original" if plain is None else "the original as ONNX defines it"
        against = f"{what}, whose noise is its change when inputs move by {by}"
        noise = {name: max(_error(name, moved, old), _error(name, old, wanted)) for name in names}
    else:
        against, wanted = "float64", exact
        noise = {name: _error(name, old, exact) for name in names}
    checks = [
        OutputCheck(
            name,
            noise[name],
            _error(name, new, wanted),
            bound_of(noise[name], old[name].dtype.name) + (_step(wanted[name]) if quantised else 0.0),
            against,
        )
        for name in names
    ]
    silent = {name: "text, which is not compared" for name in old if name not in names}
    silent |= {each.name: _ONLY_NAN for each in checks if each.passed and _is_only_nan(old[each.name])}
    return tuple(each for each in checks if each.name not in silent), silent


def in_float64(model: Model, feeds: Mapping[str, Array], *, patient: bool = False) -> dict[str, Array] | str:
    """The model's outputs in float64, parts of sequences as arrays of their own; or the reason why not."""
    exact = model.float64(feeds, patient=patient)
    if isinstance(exact, str):
        return exact
    return {name: array for output, value in exact.items() for name, array in named(output, value)}


def _error(name: str, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    """The error of one output; infinite where a sequence has no such element on one of the sides."""
    return error_of(found[name], wanted[name]) if name in found and name in wanted else math.inf


def _step(array: Array) -> float:
    """One step of stored numbers as an error; 0 of floats. Moved inputs may miss the sum that is a tie."""
    return 1 / max(1, int(np.abs(array.astype(np.int64)).max(initial=0))) if array.dtype.kind in "iu" else 0.0


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _is_only_nan(array: Array) -> bool:
    return _is_float(array) and array.size > 0 and bool(np.isnan(array.astype(np.float64)).all())


def _moved(feeds: Mapping[str, Array], quantised: bool, stored: Collection[str] = ()) -> dict[str, Array]:
    """Inputs with every value moved up or down by some roundings, or by half a step of 8 bits.

    Of the inputs in ``stored``, which are quantised, some values move by one step.
    """
    rng = np.random.default_rng(1)
    moved = {}
    for name, array in feeds.items():
        if name in stored:
            limits, steps = np.iinfo(array.dtype), rng.integers(-1, 2, array.shape)
            moved[name] = np.clip(array.astype(np.int64) + steps, limits.min, limits.max).astype(array.dtype)
            continue
        if not _is_float(array):
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
        sizes: for inputs that the model leaves open, one set of shapes or several, which take turns.
    """

    inputs: Mapping[str, Array]
    sizes: Sequence[Mapping[str, tuple[int, ...]]] = ({},)

    def feeds(self, model: Model, trial: int) -> dict[str, Array] | str:
        """Inputs for one trial, or the reason why they cannot be made."""
        missing = [each for each in model.inputs() if each.name not in self.inputs]
        shapes = with_open_sizes(model, self.sizes[trial % len(self.sizes)], trial)
        drawn = random_inputs(missing, shapes, trial)
        return drawn if isinstance(drawn, str) else {**drawn, **self.inputs}

    def feeds_that_run(self, model: Model, original: Compilable, target: Target) -> dict[str, Array] | str:
        """The first inputs on which the target runs the model; the first of all where it runs on none, or gives none.

        Drawn whole numbers are 0 at first, which not every model takes.
        """
        feeds = self.feeds(model, 0)
        drawn = (each for each in model.inputs() if each.name not in self.inputs)
        if (
            isinstance(feeds, str)
            or not target.gives_outputs
            or all(feeds[each.name].dtype.kind == "f" for each in drawn)
        ):
            return feeds
        for trial in range(self.trials(model)):
            others = self.feeds(model, trial)
            with suppress(CompileError):
                if not isinstance(others, str) and target.compile(original, whole=True).run(others):
                    return others
        return feeds

    def infinite(self) -> tuple[str, ...]:
        """Notes on arrays of the user that hold no numbers everywhere."""
        return tuple(
            f"--input {name} holds infinite values or NaN: what they reach is only compared by where it is not finite"
            for name, array in self.inputs.items()
            if array.dtype.kind in "fV" and not np.isfinite(array.astype(np.float64)).all()
        )

    def blame(self, outputs: Sequence[OutputCheck]) -> None:
        """Check that no input of the user's explains why outputs differ.

        Raises:
            VerificationError: one holds what is not finite.
        """
        failed = [each.name for each in outputs if not each.passed]
        if failed and (found := self.infinite()):
            raise VerificationError(
                f"output '{failed[0]}' differs, as it may: {found[0]}; infinity times 0 is NaN, and forms differ in "
                "the zeros of their filters"
            )

    def trials(self, model: Model) -> int:
        """How many sets of inputs there are to try."""
        all_given = set(self.inputs) >= {each.name for each in model.inputs()}
        return 1 if all_given else max(TRIALS, len(self.sizes))


def compare(
    model: Model,
    original: Compilable,
    rewritten: Compilable,
    given: Given,
    runner: Target,
    *,
    quantised: bool,
    as_defined: bool = False,
) -> tuple[tuple[OutputCheck, ...], tuple[str, ...]]:
    """Outputs of both models on the user's inputs, or on random ones of several sizes; and notes.

    Args:
        model: the original.
        original, rewritten: both, for targets.
        given: inputs to compare them on.
        runner: what runs them.
        quantised: whether a rewritten site is.
        as_defined: whether a quantised rewritten model is computed operator by operator where the runner can: what its
            fused kernels do on this processor is not the question.

    Raises:
        VerificationError: the rewritten model does not run where the original does.
    """
    reason, trials = "", []
    silent: dict[str, str] = {}
    other: tuple[str, ...] = ()
    try:
        plain = runner.compile_plain(original) if quantised else None
        if plain is not None and as_defined:  # optimisers also write nodes that old opsets do not have
            before, after = plain, _compile_rewritten(runner, rewritten, plain=True)
        else:
            runner, before, other = _that_runs(model, original, runner)
            # a target that the user did not choose may lack what his has
            after = runner.compile(rewritten, whole=True) if other else _compile_rewritten(runner, rewritten)
    except CompileError as error:
        return _compare_in_float64(model, rewritten, given, f"{runner.name} does not run the original ({error})")
    for trial in range(given.trials(model)):
        feeds = given.feeds(model, trial)
        if isinstance(feeds, str):
            return (), (feeds,)
        try:
            checks, proving_nothing = compare_models(model, before, after, feeds, quantised=quantised, plain=plain)
        except OtherSizesError as error:
            return _compare_on_reference(model, original, rewritten, given, runner, error, quantised=quantised)
        except CompileError as error:
            shapes = "; --input-shape and --input give it sizes and values that it takes"
            reason = reason or f"{runner.name} does not run the model ({error}){shapes}"
        else:
            trials.append(checks)
            silent |= proving_nothing
    outputs = merge_checks(trials)
    told = {each.name for each in outputs}
    given.blame(outputs)
    nothing = (f"output '{name}' is {what}" for name, what in silent.items() if name not in told)
    notes = (*other, *((reason,) if reason and not trials else ()), *nothing, *given.infinite(), *unstable(outputs))
    return outputs, notes


def _compare_on_reference(
    model: Model,
    original: Compilable,
    rewritten: Compilable,
    given: Given,
    runner: Target,
    error: OtherSizesError,
    *,
    quantised: bool,
) -> tuple[tuple[OutputCheck, ...], tuple[str, ...]]:
    """Both models on the format's reference runtime, where it gives the original the sizes that the rewritten one has.

    Raises:
        OtherSizesError: it does not, or is not installed.
    """
    if runner.name == model.reference_runtime:
        raise error
    try:
        other = targets.target(model.reference_runtime)
        found = other.compile(original, whole=True).run(error.feeds)
    except (MissingExtraError, CompileError):
        raise error from None
    if any(found[name].shape != shape for name, shape in error.shapes.items() if name in found):
        raise error
    outputs, notes = compare(model, original, rewritten, given, other, quantised=quantised)
    note = f"{runner.name} computes wrong sizes of the original ({error}): both are compared on {other.name}"
    return outputs, (note, *notes)


def _compare_in_float64(
    model: Model, rewritten: Compilable, given: Given, reason: str
) -> tuple[tuple[OutputCheck, ...], tuple[str, ...]]:
    """Both models in float64, where no runtime here runs the original.

    Raises:
        UsageError: they cannot be evaluated.
    """
    feeds = given.feeds(model, 0)
    if not isinstance(rewritten.content, Path):
        return (), (reason,)
    if isinstance(feeds, str):
        return (), (feeds,)
    wide = {name: array.astype(np.float64) if _is_float(array) else array for name, array in feeds.items()}
    loaded = type(model).load(rewritten.content)
    evaluated = (model, wide), (loaded, wide), (model, _moved(wide, quantised=False))
    old, new, moved = (in_float64(each, arrays, patient=True) for each, arrays in evaluated)
    if isinstance(old, str) or isinstance(moved, str) or isinstance(new, str):
        why = next(each for each in (old, moved, new) if isinstance(each, str))
        raise UsageError(
            f"{reason}, and its outputs cannot be proved in float64 either: {why}; --target names a runtime that runs "
            "it, --no-verify leaves the proof out"
        )
    against = f"the original in float64, whose noise is its change when inputs move by {MOVED_ROUNDINGS} roundings"
    checks = []
    for name in old:
        noise = _error(name, moved, old)
        checks.append(OutputCheck(name, noise, _error(name, new, old), bound_of(noise, "float64"), against))
    return tuple(checks), (f"{reason}: both models were compared in float64",)


def _that_runs(model: Model, original: Compilable, runner: Target) -> tuple[Target, Compiled, tuple[str, ...]]:
    """A target that runs the original, the original ready to run, and a note where it is not ``runner``.

    Raises:
        CompileError: there is none.
    """
    try:
        return runner, runner.compile(original, whole=True), ()
    except CompileError as error:
        try:
            other = targets.target(model.reference_runtime)
            before = other.compile(original, whole=True)
        except (MissingExtraError, CompileError):
            raise error from None
        note = f"the original does not run on {runner.name} ({error}): both are compared on {other.name}"
        return other, before, (note,)


def _compile_rewritten(runner: Target, rewritten: Compilable, *, plain: bool = False) -> Compiled:
    """The rewritten model, which must compile where the original does."""
    try:
        return (runner.compile_plain(rewritten) if plain else None) or runner.compile(rewritten, whole=True)
    except CompileError as error:
        raise VerificationError(f"{runner.name} takes the original but not the rewritten model ({error})") from None
