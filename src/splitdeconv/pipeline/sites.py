"""What applies to each site, and the times of it on a target, with the cache in between."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from splitdeconv import lowerings
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.ops import Conv, NativeDeconv
from splitdeconv.deconv.program import Program
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Model, Site
from splitdeconv.lowerings.candidate import NATIVE, Candidate, Refusal
from splitdeconv.measuring import rounds
from splitdeconv.measuring.cache import TimingCache, Timings, notes_of_origin, site_key
from splitdeconv.pipeline.compiling import Trials, compile_equal_work, compile_site, site_inputs
from splitdeconv.pipeline.open import Options, Progress, runner_for
from splitdeconv.proof.sites import fingerprint
from splitdeconv.results import times
from splitdeconv.results.bench import EQUAL_WORK, ZERO_INSERT, fixed_split, short_list
from splitdeconv.results.plan import Cost, Option, SiteTable
from splitdeconv.results.times import UNTRIED, Measurement, Untimed
from splitdeconv.targets.target import KEEP_ALL, Target, measure_those_that_run

UNKNOWN_SIZES = "the sizes of its input are not known before the model runs, so nothing can be timed"
CHECK_SHARE = 0.4  # part of a site's seconds in which its candidates are compiled and checked; timing has the rest

Share = rounds.Progress


@dataclass(frozen=True, slots=True)
class Entrant:
    """One site to decide.

    Attributes:
        model: that holds it.
        site: with definite sizes, where they are known.
        table: what applies to it.
        set: of layers that belong together, or empty.
    """

    model: Model
    site: Site
    table: SiteTable
    set: str = ""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much of a site is timed.

    Attributes:
        keep: whether every form gets all its rounds, however slow it is, and those of the paper are timed whatever
            that takes; then nothing comes from the cache.
        forms: how many forms are timed, the most promising, beside those of the paper; 0 for as many as the seconds
            leave time for.
        equal_work: whether the plain convolution of the same work is timed in the same rounds.
    """

    keep: bool = False
    forms: int = 0
    equal_work: bool = False

    def needed(self, order: Sequence[Candidate]) -> Collection[Candidate]:
        """Those of ``order`` that are timed whatever that takes."""
        if not self.keep:
            return ()
        if self.forms:
            return order
        own = [each for each in order if each.lowering in (NATIVE.lowering, ZERO_INSERT.lowering)]
        return {fixed_split(order) or NATIVE, *(each for each in own if not each.window and not each.layout)}


def site_table(
    model: Model, site: Site, target: Target | None, *, baseline: bool = False, max_growth: float = math.inf
) -> SiteTable:
    """Everything that applies to a site with its cost, and what does not with its reason.

    Args:
        model, site: what is asked about.
        target: where it would run, or None.
        baseline: keep ``zero_insert``, the paper's baseline, also where the target would not try it.
        max_growth: how many times as many weights as the model has a form may have.
    """
    offered, refusals = lowerings.candidates(site.deconv, model.layout)
    for layout in model.layouts:
        offered.extend(lowerings.candidates_in(site.deconv, layout))
    if target is not None:
        offered = [variant for candidate in offered for variant in target.variants(candidate)]
    options = []
    for candidate in offered:
        program = lowerings.lower(site.deconv, model.layout, candidate)
        reason = _too_large(program, max_growth) or model.refuse(site, program)
        if reason is None and target is None:
            reason = model.unportable(program)
        if reason is None and target is not None and not (baseline and candidate.lowering == ZERO_INSERT.lowering):
            reason = target.refuse(program)
        if reason is None:
            options.append(Option(candidate, cost_of(program)))
        else:
            refusals.append(Refusal(candidate, reason))
    return SiteTable(site.id, site.deconv, tuple(options), tuple(refusals))


def _too_large(program: Program, max_growth: float) -> str | None:
    """Why a form would store too many weights, or None."""
    if math.isinf(max_growth) or "kernel" in program.deconv.run_time:  # filters that are computed are not stored
        return None
    times = _stored(program) / math.prod(program.deconv.weights_shape)
    return f"stores {times:.3g} times as many weights, more than {max_growth:g}" if times > max_growth else None


def _stored(program: Program) -> int:
    """Weights in the filters of a program's convolutions; the model's own nodes are as they are."""
    filters = [math.prod(step.op.filter_shape) for step in program.steps if isinstance(step.op, Conv)]
    composite = any(isinstance(step.op, NativeDeconv) and step.op.simplified for step in program.steps)
    return sum(filters) + composite * math.prod(program.deconv.kernel_shape)


@lru_cache(maxsize=4096)
def cost_of(program: Program) -> Cost:
    """The target-neutral cost of a program."""
    return Cost(program.macs(), program.moved(), sum(isinstance(step.op, Conv) for step in program.steps))


def time_sites(
    entrants: Sequence[Entrant],
    target: Target,
    overrides: Overrides,
    options: Options,
    seconds: float,
    progress: Progress,
    extent: Extent = Extent(),  # frozen
) -> tuple[list[SiteTable], tuple[str, ...]]:
    """The tables with the times of what the overrides leave open, and notes.

    Args:
        entrants: the sites, with their tables.
        target: where they are timed.
        overrides: of the user.
        options: how to measure.
        seconds: the budget for all of them.
        progress: called with the stage and the fraction done.
        extent: how much of each.
    """
    if not extent.keep:
        entrants = [_timeable(each, overrides) for each in entrants]
    timer = _Timer(target, Trials(_trial_runner(entrants, target, options)), extent, options.open_cache())
    left_open = [each for each in entrants if extent.keep or planner.scope(each.table, overrides).is_open]
    planned = planner.shares([each.table for each in left_open], seconds)
    budget = Budget(seconds, {each.table.site: each.table for each in left_open})
    tables: list[SiteTable] = []
    for number, entrant in enumerate(entrants):
        table = entrant.table
        if table.site in planned:
            order = planner.order(planner.scope(table, overrides).options, entrant.site.deconv)
            shown = stage(progress, f"measuring {table.site}", number, len(entrants))
            table = timer.timed(entrant, order, planned[table.site], budget, shown)
        tables.append(table)
    return tables, (*timer.cache.notes, *notes_of_origin(timer.used), *noise_notes(timer.measured()))


def _timeable(entrant: Entrant, overrides: Overrides) -> Entrant:
    """A site of unknown sizes keeps the runtime's own deconv: times over other sizes would say nothing about it."""
    table, sizes = entrant.table, entrant.site.deconv.in_sizes
    native = tuple(option for option in table.options if option.candidate == NATIVE)
    if None not in sizes or not native or overrides.forces(table.site):
        return entrant
    others = tuple(Refusal(each.candidate, UNKNOWN_SIZES) for each in table.options if each.candidate != NATIVE)
    return replace(entrant, table=replace(table, options=native, refusals=(*others, *table.refusals)))


def _trial_runner(entrants: Sequence[Entrant], target: Target, options: Options) -> Target:
    """What runs the trials; a target that only estimates runs them itself where the format's runtime is missing."""
    if not entrants:
        return target
    try:
        return runner_for(entrants[0].model, target, options)
    except UsageError:
        return target


class _Timer:
    """Times sites one after the other; equal ones once."""

    def __init__(self, target: Target, trials: Trials, extent: Extent, cache: TimingCache) -> None:
        self.target, self.trials, self.extent, self.cache = target, trials, extent, cache
        self.known: dict[str, Timings] = {}
        self.used: list[Timings] = []

    def measured(self) -> Iterable[Measurement]:
        """All times so far."""
        return (time for timings in self.known.values() for time in timings.times.values())

    def timed(
        self, entrant: Entrant, order: tuple[Candidate, ...], planned: float, budget: Budget, progress: Share
    ) -> SiteTable:
        """The table of one site with its times.

        Args:
            entrant: the site.
            order: what to time, the most promising first.
            planned: its seconds by the first dealing; earlier times that were given as much are good enough.
            budget: the seconds for all sites.
            progress: called with the fraction done.
        """
        table, site = entrant.table, entrant.site
        if self.extent.forms:
            order = short_list(order, self.extent.forms)
            table = replace(table, options=tuple(option for option in table.options if option.candidate in order))
        key = self._key(entrant, order)
        timings = None if self.extent.keep else self.known.get(key) or self.cache.find(key, planned)
        seconds = max(planned, budget.share(table.site))
        if timings is None:
            started = time.perf_counter()
            timings = self._time(entrant, order, seconds, progress)
            budget.spend(time.perf_counter() - started)
            self.cache.keep(key, timings)
        self.known[f"{site.id} {key}" if self.extent.keep else key] = timings
        self.used.append(timings)
        return with_times(table, timings)

    def _key(self, entrant: Entrant, order: Sequence[Candidate]) -> str:
        site = entrant.site
        context = (type(entrant.model).__name__, *site.epilogue, *fingerprint(site))
        return site_key(site.deconv, context, order, self.target.environment())

    def _time(self, entrant: Entrant, order: Sequence[Candidate], seconds: float, progress: Share) -> Timings:
        """Compile, check and time the candidates of one site as stand-alone models."""
        started, model, site = time.perf_counter(), entrant.model, entrant.site
        share, needed = CHECK_SHARE * seconds, self.extent.needed(order)
        compiled, others = compile_site(model, site, order, self.target, self.trials, share, needed)
        racers = dict(compiled)
        if self.extent.equal_work:
            racers |= compile_equal_work(model, site, self.target)
        left = max(0.0, started + seconds - time.perf_counter())
        drop = KEEP_ALL if self.extent.keep else rounds.DROP_RATIO
        inputs = site_inputs(model, site)
        outcomes: dict[Candidate, Measurement | Untimed] = {**others}
        if compiled:
            outcomes |= measure_those_that_run(self.target, racers, inputs, left, progress=progress, drop=drop)
        return Timings({str(candidate): each for candidate, each in outcomes.items()}, seconds)


class Budget:
    """The seconds for all sites; what one of them leaves over is dealt out again among those that follow."""

    def __init__(self, seconds: float, tables: Mapping[str, SiteTable]) -> None:
        self._seconds = seconds
        self._waiting = dict(tables)

    def share(self, site: str) -> float:
        """The seconds for ``site``, which is no longer waiting."""
        share = planner.shares(list(self._waiting.values()), self._seconds)[site]
        del self._waiting[site]
        return share

    def spend(self, spent: float) -> None:
        """Take out what compiling, checking and measuring one site took."""
        self._seconds = max(0.0, self._seconds - spent)


def stage(progress: Progress, name: str, number: int, total: int) -> Share:
    """The progress inside one of ``total`` stages."""

    def show(share: float) -> None:
        progress(name, (number + share) / total)

    show(0.0)
    return show


def noise_notes(measured: Iterable[Measurement]) -> tuple[str, ...]:
    """A note where the machine had so much other work that gains may have been overlooked."""
    spread = times.spread(measured)
    if spread <= times.NOISY:
        return ()
    return (
        f"the machine was noisy while measuring: times of the same form spread by {spread:.0%} (quartiles), "
        "so small gains may have been overlooked; measure again when it is idle",
    )


def with_times(table: SiteTable, timings: Timings) -> SiteTable:
    """The table with times; what does not run on the target moves to the refusals.

    So does what was not tried, unless two forms have times: then it is not chosen (:func:`entrants.by_rule`).
    """
    times = timings.times
    named = [(option, str(option.candidate)) for option in table.options]
    few = sum(name in times for _, name in named) < 2
    reasons = {
        name: each.reason for name, each in timings.untimed.items() if not each.runs or (few and each == UNTRIED)
    }
    refused = [Refusal(option.candidate, reasons[name]) for option, name in named if name in reasons]
    options = tuple(replace(option, time=times.get(name)) for option, name in named if name not in reasons)
    limits = [time for name, time in times.items() if Candidate.parse(name).lowering == EQUAL_WORK.lowering]
    limit = min(limits, key=lambda time: time.median_ms, default=None)
    return replace(table, options=options, refusals=(*table.refusals, *refused), equal_work=limit)
