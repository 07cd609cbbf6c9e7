"""Timing the candidates of each site, and whole models, on a target, with the cache in between."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv import lowerings, planner
from splitdeconv.cache import TimingCache, Timings, default_path, model_key, site_key
from splitdeconv.frontends.base import Frontend
from splitdeconv.planner import Table, Wishes
from splitdeconv.results import Candidate, Measurement, Refusal
from splitdeconv.sites import Site
from splitdeconv.targets.base import Compiled, CompileError, Target
from splitdeconv.weights import Array

DEFAULT_SECONDS = 60.0
MODEL_SECONDS = 5.0  # for the whole model before and after ...
MODEL_RUNS = 40  # ... or the time of this many runs, where that is longer
# A candidate whose result is further from the first one's than this is broken, not noisy: sums of float16 products
# differ by a few thousandths of the largest value, those of float32 by a few millionths.
WRONG = 0.02
_HASHED = 2**28  # bytes; larger models are timed anew each time

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure.

    Attributes:
        threads: worker threads; 0 leaves it to the target.
        precision: arithmetic of the target, or empty for the model's own.
        seconds: budget for all sites together.
        cache: whether to use the file of earlier times.
    """

    threads: int = 0
    precision: str = ""
    seconds: float = DEFAULT_SECONDS
    cache: bool = True

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
    still_open = [table for table in tables if planner.scope(table, wishes).is_open]
    shares = planner.shares(still_open, options.seconds)
    known: dict[str, Timings] = {}
    timed = []
    for number, (site, table) in enumerate(zip(sites, tables, strict=True)):
        if table.site not in shares:
            timed.append(table)
            continue
        progress(f"measuring {site.id}", number / len(tables))
        order = planner.order(planner.scope(table, wishes).options, site.deconv)
        key = site_key(site.deconv, site.epilogue, order, target.environment())
        found = known.get(key) or cache.find(key, shares[table.site])
        if found is None:
            found = _time_site(frontend, model, site, order, target, shares[table.site])
            cache.keep(key, found)
        known[key] = found
        timed.append(_with_times(table, found))
    return timed, cache.notes


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
    frontend: Frontend, model: Any, site: Site, order: Sequence[Candidate], target: Target, seconds: float
) -> Timings:
    """Compile, check and time all candidates of one site as stand-alone models."""
    compiled: dict[Candidate, Compiled] = {}
    refusals: dict[str, str] = {}
    inputs = {"x": _site_input(frontend, site)}
    first: Array | None = None
    for candidate in order:
        program = lowerings.lower(site.deconv, frontend.layout, candidate)
        try:
            ready = target.compile(frontend.emit(model, site, program))
            (result,) = ready.run(inputs).values()
        except CompileError as error:
            refusals[str(candidate)] = str(error)
            continue
        first = result if first is None else first
        if reason := _wrong(result, first):
            refusals[str(candidate)] = reason
        else:
            compiled[candidate] = ready
    times = target.measure(compiled, inputs, seconds) if compiled else {}
    return Timings({str(candidate): time for candidate, time in times.items()}, refusals, seconds)


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
    """What is wrong with a candidate's result, compared with the first one's; empty if nothing."""
    if found.shape != wanted.shape:
        return f"gives shape {list(found.shape)} on this target, wanted {list(wanted.shape)}"
    difference = np.abs(found.astype(np.float64) - wanted.astype(np.float64))
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
    found = cache.find(key, MODEL_SECONDS) if small else None
    if found is None:
        # Candidate is the type of a target's keys; these two stand for the whole models.
        first, second = Candidate("before"), Candidate("after")
        compiled = {first: target.compile(before), second: target.compile(after)}
        started = time.perf_counter()
        compiled[first].run(feeds)
        seconds = max(MODEL_SECONDS, MODEL_RUNS * (time.perf_counter() - started))
        times = target.measure(compiled, feeds, seconds, drop=math.inf)
        if len(times) < len(compiled):
            raise CompileError(f"{seconds:.0f} seconds were not enough for both models")
        found = Timings({str(candidate): time for candidate, time in times.items()}, {}, MODEL_SECONDS)
        if small:
            cache.keep(key, found)
    return found.times["before"], found.times["after"]
