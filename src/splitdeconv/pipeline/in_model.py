"""The whole model has the last word: forms that are best inside it, and whether it gains anything at all.

A form that is best alone may force a layout on the operators around it. On compilers that estimate, whole models
compile in seconds, so each site in turn tries its best forms, the others as they stand.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from splitdeconv import lowerings
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.ops import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Model
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.measuring.cache import Timings, model_key, notes_of_origin
from splitdeconv.pipeline.open import Options, Progress
from splitdeconv.pipeline.timing import measure_those_that_run
from splitdeconv.results.plan import Choice, Plan
from splitdeconv.results.record import WholeTimes
from splitdeconv.results.times import Measurement, comparison
from splitdeconv.targets.target import KEEP_ALL, CompileError, Target

PASSES = 2  # over all sites; the second rarely changes anything
TRIED = 5  # forms of a site, the best ones by their time alone
GAIN = 0.999  # of the time so far that a change must come below
_HASHED = 2**28  # bytes; larger models are timed anew each time

Chosen = Mapping[str, Candidate]


def programs_of(model: Model, plan: Plan, chosen: Chosen | None = None) -> dict[str, Program]:
    """The programs of all sites that do not stay native.

    Args:
        model: that they are written for.
        plan: which candidate each site gets.
        chosen: site → candidate, instead of the plan's own.
    """
    return {
        choice.site: lowerings.lower(choice.deconv, model.layout, candidate)
        for choice in plan.choices
        if (candidate := choice.chosen if chosen is None else chosen[choice.site]) != NATIVE
    }


def race(
    target: Target, models: Mapping[str, Path], feeds: Mapping[str, Array], seconds: float
) -> dict[str, Measurement]:
    """Times of whole models on the same inputs, interleaved; in the fewest rounds that tell, where seconds are short.

    Raises:
        CompileError: the target does not take one of them.
    """
    compiled = {name: target.compile(path, whole=True) for name, path in models.items()}
    times, stopped = measure_those_that_run(target, compiled, feeds, seconds, drop=KEEP_ALL)
    if stopped:
        raise CompileError("; ".join(f"'{name}' {reason}" for name, reason in stopped.items()))
    return times


def race_cached(
    target: Target, models: Mapping[str, Path], feeds: Mapping[str, Array], options: Options
) -> tuple[dict[str, Measurement], tuple[str, ...]]:
    """As :func:`race`, from the cache where these models were timed before, which a note then says.

    Raises:
        CompileError: the target does not take one of them.
    """
    if any(path.stat().st_size >= _HASHED for path in models.values()):
        return race(target, models, feeds, options.model_seconds), ()
    cache = options.open_cache()
    contents = {name: path.read_bytes() for name, path in models.items()}
    key = model_key(contents, {name: array.shape for name, array in feeds.items()}, target.environment())
    timings = cache.find(key, options.model_seconds)
    if timings is None:
        taken = race(target, models, feeds, options.model_seconds)
        timings = Timings(taken, {}, options.model_seconds)
        cache.keep(key, timings)
    return dict(timings.times), notes_of_origin([timings], "the whole model")


def guard(
    plan: Plan,
    models: Mapping[str, Path],
    feeds: Mapping[str, Array] | str,
    target: Target,
    overrides: Overrides,
    options: Options,
) -> tuple[Plan, str, WholeTimes | None]:
    """The plan that the whole model's time leaves, a note with the figures, and the times.

    Args:
        plan: as it was decided site by site.
        models: files of the original (``before``) and of the rewritten model (``after``).
        feeds: inputs for both, or the reason why there are none.
        target: where they are timed.
        overrides: of the user, which stay.
        options: how to measure.
    """
    if isinstance(feeds, str):
        return plan, f"the whole model was not timed: {feeds}", None
    try:
        taken, origin = race_cached(target, models, feeds, options)
    except CompileError as error:
        return plan, f"the whole model was not timed: {error}", None
    before, after = taken["before"], taken["after"]
    left, note = planner.guard(plan, before, after, overrides)
    figures = f"{before.median_ms:.4g} ms before, now {comparison(after, before)}"
    note = note or f"whole model: {figures} ({before.kind} on {target.name})"
    return left, "; ".join((note, *origin)), WholeTimes(before, after, kept=left == plan)


def refine(model: Model, plan: Plan, target: Target, overrides: Overrides, progress: Progress) -> tuple[Plan, str]:
    """The plan with the forms that make the whole model fastest by the target's estimate, and a note with the figures.

    Args:
        plan: what is best for each site alone.
        target: one whose times are estimates.
        overrides: sites that the user has decided stay as they are.
    """
    judge = _Judge(model, plan, target)
    chosen: Chosen = {choice.site: choice.chosen for choice in plan.choices}
    alone = best = judge.time_of(chosen)
    open_choices = [choice for choice in plan.choices if not overrides.forces(choice.site) and len(choice.options) > 1]
    for number in range(PASSES):
        before = chosen
        for place, choice in enumerate(open_choices):
            share = (number * len(open_choices) + place) / (PASSES * len(open_choices))
            progress(f"trying forms of {choice.site} in the whole model", share)
            chosen, best = _best_in_place(judge, choice, chosen, best)
        if chosen == before:
            break
    changed = [choice.site for choice in plan.choices if chosen[choice.site] != choice.chosen]
    note = f"{len(changed)} sites got another form in the whole model: {alone:.4g} ms before that, {best:.4g} ms after"
    choices = tuple(_with_form(choice, chosen[choice.site], best) for choice in plan.choices)
    return replace(plan, choices=choices), note if changed else ""


def _best_in_place(judge: _Judge, choice: Choice, chosen: Chosen, best: float) -> tuple[Chosen, float]:
    """The forms with the best one for this site, the others kept."""
    for candidate in _promising(choice):
        trial = {**chosen, choice.site: candidate}
        if trial != chosen and (time := judge.time_of(trial)) < GAIN * best:
            chosen, best = trial, time
    return chosen, best


def _promising(choice: Choice) -> list[Candidate]:
    """The best forms by their time alone, native among them."""
    timed = [option for option in choice.options if option.time is not None]
    timed.sort(key=lambda option: math.inf if option.time is None else option.time.median_ms)
    found = [option.candidate for option in timed[:TRIED]]
    native = any(option.candidate == NATIVE for option in choice.options)
    return [*found, NATIVE] if native and NATIVE not in found else found


def _with_form(choice: Choice, candidate: Candidate, time_ms: float) -> Choice:
    if candidate == choice.chosen:
        return choice
    reason = f"best in the whole model ({time_ms:.4g} ms); alone it is {choice.chosen}"
    return replace(choice, chosen=candidate, reason=reason)


class _Judge:
    """Times of whole models, each combination of forms compiled once."""

    def __init__(self, model: Model, plan: Plan, target: Target) -> None:
        self.model, self.plan, self.target = model, plan, target
        self.known: dict[tuple[tuple[str, Candidate], ...], float] = {}

    def time_of(self, chosen: Chosen) -> float:
        """Milliseconds, or infinity where the target does not take the model or cannot place all of it as before."""
        key = tuple(sorted(chosen.items()))
        if key not in self.known:
            self.known[key] = self._estimate(chosen)
        return self.known[key]

    def _estimate(self, chosen: Chosen) -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("model" + self.model.suffix)
            self.model.splice(programs_of(self.model, self.plan, chosen)).save(path)
            try:
                compiled = self.target.compile(path, whole=True)
            except CompileError:
                return math.inf
            times = self.target.measure({NATIVE: compiled}, {}, 0.0)
        return times[NATIVE].median_ms if NATIVE in times else math.inf
