"""Timing the candidates of each site, and whole models, on a target, with the cache in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv import lowerings
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Wishes
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.frontend import Frontend
from splitdeconv.formats.model import Site
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.measuring import rounds
from splitdeconv.measuring.cache import TimingCache, Timings, default_path, model_key, site_key
from splitdeconv.proof.quantised_proof import fingerprint, wrong_numbers
from splitdeconv.results import times
from splitdeconv.results.plan import Table
from splitdeconv.results.times import Measurement
from splitdeconv.targets.target import KEEP_ALL, Compiled, CompileError, Target

DEFAULT_SECONDS = 60.0
MODEL_SHARE = 0.25  # part of the budget that the whole model, before and after, may take; the sites have the rest
CHECK_SHARE = 0.4  # part of a site's seconds in which its candidates are compiled and checked; timing has the rest
# A candidate whose result is further from the first one's than this is broken, not noisy: sums of float16 products
# differ by a few thousandths of the largest value, those of float32 by a few millionths.
WRONG = 0.02
_HASHED = 2**28  # bytes; larger models are timed anew each time

Progress = Callable[[str, float], None]
Share = rounds.Progress


@dataclass(frozen=True, slots=True)
class Options:
    """How to rounds.

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


def time_sites(
    frontend: Frontend,
    model: Any,
    sites: Sequence[Site],
    tables: Sequence[Table],
    target: Target,
    wishes: Wishes,
    options: Options,
    progress: Progress,
) -> tuple[list[Table], tuple[str, ...]]:
    """The tables with the times of what the wishes leave open, and notes.

    Args:
        sites: with definite sizes, in the order of ``tables``.
    """
    cache = options.open_cache()
    planned = planner.shares([table for table in tables if planner.scope(table, wishes).is_open], options.site_seconds)
    purse = Purse(options.site_seconds, {table.site: table for table in tables if table.site in planned})
    known: dict[str, Timings] = {}
    timed = []
    for number, (site, table) in enumerate(zip(sites, tables, strict=True)):
        if table.site not in planned:
            timed.append(table)
            continue
        order = planner.order(planner.scope(table, wishes).options, site.deconv)
        key = site_key(site.deconv, (*site.epilogue, *fingerprint(site)), order, target.environment())
        # What earlier runs found is good enough by the first dealing: what is left over differs from run to run.
        found = known.get(key) or cache.find(key, planned[table.site])
        seconds = max(planned[table.site], purse.share(table.site))
        if found is None:
            shown = stage(progress, f"measuring {site.id}", number, len(tables))
            found, spent = _time_site(frontend, model, site, order, target, seconds, shown)
            purse.pay(spent)
            cache.keep(key, found)
        known[key] = found
        timed.append(_with_times(table, found))
    return timed, (*cache.notes, *restless(each for found in known.values() for each in found.times.values()))


class Purse:
    """The seconds for all sites; what one of them leaves over is dealt out again among those that follow."""

    def __init__(self, seconds: float, tables: Mapping[str, Table]) -> None:
        self._seconds = seconds
        self._waiting = dict(tables)

    def share(self, site: str) -> float:
        """The seconds for ``site``, which is no longer waiting."""
        share = planner.shares(list(self._waiting.values()), self._seconds)[site]
        del self._waiting[site]
        return share

    def pay(self, spent: float) -> None:
        """Take out what compiling, checking and measuring one site took."""
        self._seconds = max(0.0, self._seconds - spent)


def stage(progress: Progress, name: str, number: int, total: int) -> Share:
    """The progress inside of one of ``total`` stages."""

    def show(share: float) -> None:
        progress(name, (number + share) / total)

    show(0.0)
    return show


def restless(measured: Iterable[Measurement]) -> tuple[str, ...]:
    """A note where the machine had so much other work that gains may have been overlooked."""
    unrest = times.unrest(time for time in measured if time.kind == "measured" and times.is_settled(time))
    if unrest <= times.RESTLESS:
        return ()
    return (
        f"the machine was restless while measuring: times of the same form spread by {unrest:.0%} (quartiles), "
        "so small gains may have been overlooked; measure again when it is idle",
    )


def _with_times(table: Table, found: Timings) -> Table:
    """The table with times; what does not run on the target moves to the refusals."""
    refused = [
        Refusal(option.candidate, found.refusals[str(option.candidate)])
        for option in table.options
        if str(option.candidate) in found.refusals
    ]
    options = tuple(
        replace(option, time=found.times.get(str(option.candidate)))
        for option in table.options
        if str(option.candidate) not in found.refusals
    )
    return replace(table, options=options, refusals=(*table.refusals, *refused))


def _time_site(
    frontend: Frontend,
    model: Any,
    site: Site,
    order: Sequence[Candidate],
    target: Target,
    seconds: float,
    progress: Share,
) -> tuple[Timings, float]:
    """Compile, check and time the candidates of one site as stand-alone models; and the seconds that this took."""
    started = time.perf_counter()
    compiled, refusals = compile_site(frontend, model, site, order, target, CHECK_SHARE * seconds)
    left = max(0.0, started + seconds - time.perf_counter())
    inputs = site_inputs(frontend, site)
    times = target.measure(compiled, inputs, left, progress=progress) if compiled else {}
    spent = time.perf_counter() - started
    return Timings({str(candidate): taken for candidate, taken in times.items()}, refusals, seconds), spent


def compile_site(
    frontend: Frontend,
    model: Any,
    site: Site,
    order: Sequence[Candidate],
    target: Target,
    seconds: float = math.inf,
) -> tuple[dict[Candidate, Compiled], dict[str, str]]:
    """The candidates of one site as stand-alone models on the target, and why the others do not run there.

    Those for which ``seconds`` leave no time are in neither. With fewer than two there is nothing to compare, so two
    are always tried.
    """
    compiled: dict[Candidate, Compiled] = {}
    refusals: dict[str, str] = {}
    inputs = site_inputs(frontend, site)
    first: Array | None = None
    deadline = time.monotonic() + seconds
    for candidate in order:
        if len(compiled) > 1 and time.monotonic() > deadline:
            break
        program = lowerings.lower(site.deconv, frontend.layout, candidate)
        timed = program.without_last_reshape() if target.reshape_is_free else program
        try:
            ready = target.compile(frontend.emit(model, site, timed))
            (result,) = ready.run(inputs).values()
        except CompileError as error:
            refusals[str(candidate)] = str(error)
            continue
        reason = _wrong(result, result if first is None else first)
        if not reason and site.weights.quant is not None:
            reason = wrong_numbers(frontend, model, site, program, target) or ""
        if reason:
            refusals[str(candidate)] = reason
        else:
            compiled[candidate] = ready
            first = result if first is None else first  # only what is right itself may judge the others
    return compiled, refusals


def site_inputs(frontend: Frontend, site: Site) -> dict[str, Array]:
    """A random input for the stand-alone models of a site."""
    return {"x": _site_input(frontend, site)}


def _site_input(frontend: Frontend, site: Site) -> Array:
    """A random map for a site, in the layout of the format."""
    deconv = site.deconv
    sizes = [size or 1 for size in deconv.in_sizes]
    batch = deconv.batch or 1
    shape = (batch, deconv.in_channels, *sizes) if frontend.layout == "NCHW" else (batch, *sizes, deconv.in_channels)
    rng = np.random.default_rng(0)
    dtype = np.dtype(site.deconv.dtype if deconv.quant is None else deconv.quant.activation)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return rng.standard_normal(shape, np.float32).astype(dtype)


def _wrong(found: Array, wanted: Array) -> str:
    """What is wrong with a candidate's result, compared with the first one's; empty if nothing.

    A last reshape may be missing on either side; it would not change the order of the elements.
    """
    if found.size != wanted.size:
        return f"gives shape {list(found.shape)} on this target, wanted {list(wanted.shape)}"
    difference = np.abs(found.reshape(wanted.shape).astype(np.float64) - wanted.astype(np.float64))
    largest = float(np.max(np.abs(wanted.astype(np.float64)), initial=0.0)) or 1.0
    error = float(np.max(difference, initial=0.0)) / largest
    return f"gives wrong numbers on this target (error {error:.1e})" if not error <= WRONG else ""


def time_models(
    target: Target, before: Path, after: Path, feeds: Mapping[str, Array], options: Options
) -> tuple[Measurement, Measurement]:
    """Times of the whole original and the whole rewritten model, interleaved.

    Raises:
        CompileError: the target does not take one of them.
    """
    cache = options.open_cache()
    names = {"before": before, "after": after}
    small = all(path.stat().st_size < _HASHED for path in names.values())
    shapes = {name: array.shape for name, array in feeds.items()}
    contents = {name: path.read_bytes() for name, path in names.items()} if small else {}
    key = model_key(contents, shapes, target.environment())
    seconds = options.model_seconds
    found = cache.find(key, seconds) if small else None
    if found is None:
        found = Timings(race_models(target, names, feeds, seconds), {}, seconds)
        if small:
            cache.keep(key, found)
    return found.times["before"], found.times["after"]


def race_models(
    target: Target, models: Mapping[str, Path], feeds: Mapping[str, Array], seconds: float
) -> dict[str, Measurement]:
    """Times of whole models on the same inputs, interleaved; in the fewest rounds that tell, where seconds are short.

    Raises:
        CompileError: the target does not take one of them.
    """
    compiled = {name: target.compile(path, whole=True) for name, path in models.items()}
    return target.measure(compiled, feeds, seconds, drop=KEEP_ALL)
