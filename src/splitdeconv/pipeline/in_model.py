"""The whole model has the last word: a race of plans, and whether the best of them gains anything at all."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from splitdeconv import lowerings
from splitdeconv.choosing import entrants, planner
from splitdeconv.choosing.entrants import Chosen
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Model
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.measuring.cache import Timings, model_key, notes_of_origin
from splitdeconv.measuring.rounds import DROP_RATIO
from splitdeconv.pipeline.open import Options, Progress, saved
from splitdeconv.report.numbers import number_of
from splitdeconv.results.plan import Choice, Plan, sizes_in_words
from splitdeconv.results.record import WholeTimes
from splitdeconv.results.times import (
    Measurement,
    Untimed,
    comparison,
    is_settled,
    loses_a_size,
    over_sizes,
    ratio,
    timed,
    wins,
)
from splitdeconv.targets.target import KEEP_ALL, Compiled, CompileError, Target, measure_those_that_run

PASSES = 2  # over all moves of an estimated model; the second rarely changes anything
FIRST_SHARE = 0.4  # part of the seconds after which the first race is over
COMPILING_SHARE = 0.5  # of the seconds of the first race
LAST_ROUNDS = 20  # for the comparison that decides: of 20 rounds three may be lost, of ten none ...
LAST_SHARES = 0.25, 0.5  # ... and the least and the most of the seconds that are kept for it
ESTIMATED_GAIN = 0.001  # of the time so far by which an estimate must be lower
_HELD = 2**30  # bytes of compiled models at a time, about
_HASHED = 2**28  # bytes; times of larger models are not kept
_ORIGINAL = "{}"  # the name of the plan in which nothing is rewritten


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
    target: Target, models: Mapping[str, Compilable], feeds: Mapping[str, Array], seconds: float
) -> dict[str, Measurement | Untimed]:
    """Times of whole models on the same inputs, interleaved; in the fewest rounds that tell, where seconds are short.

    What the target does not take, or does not run, has the reason instead.
    """
    compiled: dict[str, Compiled] = {}
    refused: dict[str, Measurement | Untimed] = {}
    for name, model in models.items():
        try:
            compiled[name] = target.compile(model, whole=True)
        except CompileError as error:
            refused[name] = Untimed(str(error), runs=False)
    return refused | (measure_those_that_run(target, compiled, feeds, seconds, drop=KEEP_ALL) if compiled else {})


@dataclass(frozen=True, slots=True)
class Settled:
    """What the whole model says of a plan.

    Attributes:
        plan: that holds.
        whole: times of the original and of the best rewritten model, or None where they are unknown.
        notes: what the user should know.
    """

    plan: Plan
    whole: WholeTimes | None = None
    notes: tuple[str, ...] = ()


def settle(
    model: Model,
    original: Compilable,
    plan: Plan,
    feeds: Sequence[Mapping[str, Array]],
    target: Target,
    overrides: Overrides,
    options: Options,
    seconds: float,
    progress: Progress,
) -> Settled:
    """The plan that makes the whole model fastest, or the original where none does.

    Args:
        model, original: as it came, and for the target.
        plan: what is best for each site alone; only what was timed or tried first there races, because only that was
            checked.
        feeds: inputs of the model, one set or several of different sizes.
        target: where it is timed, or estimated.
        overrides: of the user, which stay.
        options: how to measure.
        seconds: the budget.
        progress: called with the stage and the fraction done.
    """
    plans = _first_plans(plan, overrides)
    if not plans:
        return Settled(plan)
    cache, key = options.open_cache(), _key(original, plan, plans, feeds, target)
    timings = cache.find(key, options.model_seconds) if key else None
    if timings is None:
        with tempfile.TemporaryDirectory() as folder:
            field = _Field(model, original, plan, feeds, target, Path(folder))
            times = _search(field, plan, plans, overrides, seconds, progress)
            timings = Timings({**field.untimed, **times}, seconds)
        if key and all(each.runs for each in timings.untimed.values()) and _ORIGINAL in times:
            cache.keep(key, timings)
    return _verdict(plan, timings, target, overrides)


def _first_plans(plan: Plan, overrides: Overrides) -> list[Chosen]:
    """The winners of each site, also by rule, and plans of one kind; what rewrites nothing is the original."""

    def is_free(site: str) -> bool:
        return not overrides.forces(site)

    plans = [entrants.alone(plan), entrants.by_rule(plan, is_free), *entrants.uniform(plan, is_free)]
    return list({_name(each): each for each in plans if entrants.rewritten(each)}.values())


def _name(chosen: Chosen) -> str:
    """One name for equal plans."""
    return json.dumps({site: str(each) for site, each in sorted(chosen.items()) if each != NATIVE})


def _key(
    original: Compilable, plan: Plan, plans: Sequence[Chosen], feeds: Sequence[Mapping[str, Array]], target: Target
) -> str | None:
    """The key of a race in the cache, or None for a model without a file, or too large to be told by its bytes."""
    if not isinstance(original.content, bytes | Path) or original.size >= _HASHED:
        return None
    tried = [[str(option.candidate) for option in choice.options] for choice in plan.choices]
    contents = {"original": original.read(), "plans": json.dumps([*map(_name, plans), tried]).encode()}
    sizes = [{name: array.shape for name, array in each.items()} for each in feeds]
    return model_key(contents, sizes, target.environment())


class _Field:
    """Whole models under different plans, and their times side by side."""

    def __init__(
        self,
        model: Model,
        original: Compilable,
        plan: Plan,
        feeds: Sequence[Mapping[str, Array]],
        target: Target,
        folder: Path,
    ) -> None:
        self.model, self.original, self.plan = model, original, plan
        self.feeds, self.target, self.folder = feeds, target, folder
        self.most = max(2, _HELD // (1 + original.size))
        self.untimed: dict[str, Untimed] = {}
        self.slowest_s = 0.0  # of the plans that were timed
        self._ready: dict[str, Compiled] = {}
        self._estimates: dict[str, Measurement] = {}
        self._uncounted: dict[str, int] = {}

    def enter(self, chosen: Chosen) -> None:
        """Compile the model under one plan, or note why the target does not take it."""
        name = _name(chosen)
        refused = name in self.untimed and not self.untimed[name].runs
        if name in self._ready or refused or name in self._uncounted:
            return
        try:
            self._ready[name] = self.target.compile(self._compilable(name, chosen), whole=True)
        except CompileError as error:
            self.untimed[name] = Untimed(str(error), runs=False)

    def _compilable(self, name: str, chosen: Chosen) -> Compilable:
        if name == _ORIGINAL:
            return self.original
        path = Path(tempfile.mkdtemp(dir=self.folder)) / ("model" + self.model.suffix)
        return saved(self.model.splice(programs_of(self.model, self.plan, chosen)), path)

    def times(self, plans: Sequence[Chosen], seconds: float, drop: float = DROP_RATIO) -> dict[str, Measurement]:
        """Times by the plans' names; what the target does not take, or has no comparable figure for, is missing."""
        for each in plans:
            self.enter(each)
        ready = {name: self._ready[name] for each in plans if (name := _name(each)) in self._ready}
        if self.target.kind == "measured":
            return self._measured(ready, seconds, drop)
        for name, compiled in ready.items():
            self._estimates.update(self._measured({name: compiled}, seconds, drop))
            self._uncounted[name] = self.target.uncounted(compiled)
        self._ready.clear()
        return self._comparable([_name(each) for each in plans])

    def _comparable(self, names: Sequence[str]) -> dict[str, Measurement]:
        """The estimates of those that leave the fewest operators out; why the original has none is noted."""
        known = {name: self._uncounted[name] for name in names if name in self._uncounted}
        fewest = min(known.values(), default=0)
        if (more := known.get(_ORIGINAL, 0) - fewest) > 0:
            self.untimed[_ORIGINAL] = Untimed(f"it leaves {number_of(more, 'more operator')} to another processor")
        return {name: self._estimates[name] for name in known if known[name] == fewest and name in self._estimates}

    def _measured(self, ready: Mapping[str, Compiled], seconds: float, drop: float) -> dict[str, Measurement]:
        if not ready:
            return {}
        found = []
        for feeds in self.feeds:
            outcomes = measure_those_that_run(self.target, ready, feeds, seconds / len(self.feeds), drop=drop)
            self.untimed |= {name: each for name, each in outcomes.items() if isinstance(each, Untimed)}
            found.append(timed(outcomes))
            self.slowest_s = max([self.slowest_s, *(each.median_ms / 1e3 for each in found[-1].values())])
        return {
            name: over_sizes([times[name] for times in found])
            for name in ready
            if all(name in times for times in found)
        }

    def hold_only(self, *plans: Chosen) -> None:
        """Let go of all other compiled models."""
        names = {_name(each) for each in plans}
        self._ready = {name: each for name, each in self._ready.items() if name in names}


def _search(
    field: _Field, plan: Plan, plans: Sequence[Chosen], overrides: Overrides, seconds: float, progress: Progress
) -> dict[str, Measurement]:
    """Times of the original and of the best plan, in rounds of their own, by the plans' names."""
    started = time.monotonic()
    best = _first_race(field, plans, seconds, progress)
    passes = PASSES if field.target.kind == "estimated" else 1
    for number in range(passes):
        before = best
        for move in entrants.moves(plan, lambda site: not overrides.forces(site)):
            left = started + seconds - _kept_for_last(field, seconds) - time.monotonic()
            if left <= 0 and field.target.kind == "measured":
                break
            progress(f"trying forms of {move.sites[0]} in the whole model", number / passes)
            best = _moved(field, best, move, left / 2)
            field.hold_only({}, best)
        if best == before:
            break
    progress("timing the whole model", 0.95)
    left = max(0.0, started + seconds - time.monotonic())
    return field.times([{}, best], left, KEEP_ALL)


def _kept_for_last(field: _Field, seconds: float) -> float:
    """Seconds for the comparison that decides, of the original and the best plan at each size."""
    wanted = LAST_ROUNDS * 2 * len(field.feeds) * field.slowest_s
    least, most = LAST_SHARES
    return min(most * seconds, max(least * seconds, wanted))


def _first_race(field: _Field, plans: Sequence[Chosen], seconds: float, progress: Progress) -> Chosen:
    """The best of the first plans; without times, the winners of each site."""
    progress("timing whole plans", 0.9)
    started = time.monotonic()
    entered: list[Chosen] = [{}]
    field.enter({})
    for each in plans[: field.most]:
        late = time.monotonic() - started > COMPILING_SHARE * FIRST_SHARE * seconds
        if len(entered) > 1 and late and field.target.kind == "measured":
            break
        entered.append(each)
        field.enter(each)
    if len(entered) == 2:
        return plans[0]
    times = field.times(entered, max(0.0, started + FIRST_SHARE * seconds - time.monotonic()))
    return _best(plans, times) or plans[0]


def _best(plans: Sequence[Chosen], times: Mapping[str, Measurement]) -> Chosen | None:
    """The fastest of ``plans``; those that were dropped early have lost."""
    settled = {name: each for name, each in times.items() if is_settled(each)}
    holder, original = settled.get(_ORIGINAL) or next(iter(settled.values()), None), times.get(_ORIGINAL)
    timed = [each for each in plans if (name := _name(each)) in settled and not _loses(settled[name], original)]
    if holder is None:
        return None
    return min(timed, key=lambda each: ratio(settled[_name(each)], holder), default=None)


def _loses(time: Measurement, original: Measurement | None) -> bool:
    """Whether a plan is no choice because the original is faster at one of several sizes."""
    return original is not None and loses_a_size(time, original)


def _moved(field: _Field, best: Chosen, move: entrants.Move, seconds: float) -> Chosen:
    """The best plan after some sites were tried in other forms."""
    trials = [{**best, **dict.fromkeys(move.sites, candidate)} for candidate in move.candidates]
    trials = [trial for trial in trials if entrants.rewritten(trial) and _name(trial) != _name(best)]
    # At several sizes a plan may lose one of them to the best so far, but none to the original: that comes first.
    first: list[Chosen] = [{}] if len(field.feeds) > 1 else []
    times = field.times([*first, best, *trials], seconds)
    found, holder = _best(trials, times), times.get(_name(best))
    if found is None:
        return best
    if holder is None:  # it stopped, or leaves out what the others do not
        return found
    smallest = ESTIMATED_GAIN if holder.kind == "estimated" else 0.0
    better = wins(times[_name(found)], holder, smallest) and ratio(times[_name(found)], holder) < 1 - smallest
    return found if better else best


def _verdict(plan: Plan, timings: Timings, target: Target, overrides: Overrides) -> Settled:
    """The plan that the times of the whole model leave, with a note of the figures."""
    times, untimed = timings.times, timings.untimed
    before = times.pop(_ORIGINAL, None)
    name, after = next(iter(times.items()), (_name(entrants.alone(plan)), None))
    changed = _changed(plan, json.loads(name))
    moved = sum(old.chosen != new.chosen for old, new in zip(plan.choices, changed.choices, strict=True))
    notes = (f"{number_of(moved, 'site')} got another form than alone, for the whole model",) if moved else ()
    if before is None and after is not None and _ORIGINAL in untimed:
        figure = f"whole model: {after.median_ms:.4g} ms now ({after.kind} on {target.name})"
        note = f"{figure}; the original has no time to compare: {untimed[_ORIGINAL].reason}"
        return Settled(changed, notes=(*notes, note))
    if before is None or after is None:
        why = untimed.get(_ORIGINAL) or untimed.get(name)
        reason = why.reason if why else "no figures can be compared"
        return Settled(changed, notes=(*notes, f"the whole model was not timed: {reason}"))
    left, note = planner.guard(changed, before, after, overrides)
    figures = f"{before.median_ms:.4g} ms before, now {comparison(after, before)}"
    note = note or f"whole model: {figures} ({before.kind} on {target.name})"
    notes = (*notes, *_at_each_size(plan, before, after))
    note = "; ".join((note, *notes_of_origin([timings], "the whole model")))
    if left == changed:
        return Settled(left, WholeTimes(before, after), (*notes, note))
    left, _ = planner.guard(plan, before, after, overrides)  # with the reasons of the sites alone
    return Settled(left, WholeTimes(before, after, kept=False), (*_at_each_size(plan, before, after), note))


def _at_each_size(plan: Plan, before: Measurement, after: Measurement) -> tuple[str, ...]:
    """What the whole model takes at each of several sizes."""
    return tuple(
        f"at {sizes_in_words(sizes)}: {was.median_ms:.4g} ms before, now {comparison(now, was)}"
        for sizes, was, now in zip(plan.measured_at, before.at_each_size(), after.at_each_size(), strict=False)
    )


def _changed(plan: Plan, names: Mapping[str, str]) -> Plan:
    """The plan with the candidates of those names."""
    return replace(
        plan, choices=tuple(_with_form(choice, names.get(choice.site, str(NATIVE))) for choice in plan.choices)
    )


def _with_form(choice: Choice, name: str) -> Choice:
    candidate = next((option.candidate for option in choice.options if str(option.candidate) == name), choice.chosen)
    if candidate == choice.chosen:
        return choice
    alone = "" if choice.reason.startswith(f"{choice.chosen} ") else f"{choice.chosen}: "
    return replace(choice, chosen=candidate, reason=f"best in the whole model; alone {alone}{choice.reason}")
