"""Times worth believing: interleaved rounds, medians with quartiles, and the test whether a difference is noise.

Several forms of the same work are timed turn by turn, so that whatever slows the machine down slows all of them.
``docs/decisions/measuring.md`` and ``docs/decisions/noise.md`` say why each number below is what it is.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import le
from typing import Any, Protocol, TypeVar

from splitdeconv.results.times import FEWEST_ROUNDS, Measurement, summary

Key = TypeVar("Key")
Run = Callable[[], object]
_AnyRun = TypeVar("_AnyRun", bound=Callable[[], Any])
Clock = Callable[[], int]
Progress = Callable[[float], None]

ROUND_NS = 1_000_000  # a timed stretch lasts 1 ms, ten thousand times the error of a monotonic clock (about 100 ns)
ENOUGH_ROUNDS = 50  # the median's standard error is then 13 % of the interquartile range
DROP_AFTER = 3  # rounds after which the hopeless are dropped ...
DROP_RATIO = 2.0  # ... which are slower than this many times the fastest
LOST_AFTER = 5  # rounds after which those are dropped that lost every one to the first; equals do once in 32 runs


def interleaved(
    runs: Mapping[Key, Run],
    seconds: float,
    *,
    progress: Progress | None = None,
    drop: float = DROP_RATIO,
    clock: Clock = time.perf_counter_ns,
) -> dict[Key, Measurement]:
    """Time all ``runs`` round by round.

    Args:
        runs: each call does the work once, completely; most promising first, what others must beat (``native``) at the
            very first. The first is always measured, in at least ``FEWEST_ROUNDS`` rounds, and never dropped; of the
            others those for which ``seconds`` are too short are left out, the later ones first. Those that have won a
            round from the first within ``LOST_AFTER`` rounds get as many rounds as it does.
        seconds: time for everything, warm-up included. One call that is longer than this cannot be cut short.
        progress: called with the fraction done, 0 to 1.
        drop: after ``DROP_AFTER`` rounds, runs slower than ``drop`` times the fastest end, and after ``LOST_AFTER``
            rounds those that lost every one to the first. With infinity none is left out, and those that lost every
            round end only when time is up.
        clock: nanoseconds, for tests.

    Returns:
        A measurement for each run that was timed; those that were dropped have few rounds.
    """
    deadline = clock() + int(seconds * 1e9)
    with _no_garbage_collection():
        racers = _warm_up(runs, _ready, math.inf if math.isinf(drop) else deadline, clock)
        return _race(racers, deadline, progress or _silent, drop, clock)


def reported(
    runs: Mapping[Key, Callable[[], float]],
    seconds: float,
    *,
    progress: Progress | None = None,
    drop: float = DROP_RATIO,
    clock: Clock = time.perf_counter_ns,
) -> dict[Key, Measurement]:
    """As :func:`interleaved`, of runs that tell their own times.

    Args:
        runs: each call returns a time in ns, and may itself take much longer than that.
        seconds, progress, drop, clock: as there; ``seconds`` are those of the clock.
    """
    deadline = clock() + int(seconds * 1e9)
    racers = _warm_up(runs, _reporting, math.inf if math.isinf(drop) else deadline, clock)
    return _race(racers, deadline, progress or _silent, drop, clock)


class _Racer(Protocol):
    """What takes part in a race."""

    def stretch_ns(self, clock: Clock) -> float:
        """Time of one run."""
        ...


@dataclass(frozen=True, slots=True)
class _Timed:
    """A run that is warm, and how often a timed stretch repeats it."""

    run: Run
    repeats: int

    def stretch_ns(self, clock: Clock) -> float:
        """Time of one run, from one stretch."""
        run, start = self.run, clock()
        for _ in range(self.repeats):
            run()
        return (clock() - start) / self.repeats


@dataclass(frozen=True, slots=True)
class _Reported:
    """A run that tells its own time."""

    run: Callable[[], float]

    def stretch_ns(self, clock: Clock) -> float:  # noqa: ARG002  # another clock than ours
        """What the run tells."""
        return self.run()


def _ready(run: Run, clock: Clock) -> tuple[_Racer, float, float]:
    """A racer after its first runs, the time of one of them, and of one of its rounds."""
    call_ns = _call_ns(run, clock)
    repeats = max(1, math.ceil(ROUND_NS / call_ns))
    return _Timed(run, repeats), call_ns, repeats * call_ns


def _reporting(run: Callable[[], float], clock: Clock) -> tuple[_Racer, float, float]:
    """As :func:`_ready`; the run has warmed up what it times by itself."""
    start = clock()
    told_ns = run()
    return _Reported(run), told_ns, clock() - start


def _warm_up(
    runs: Mapping[Key, _AnyRun],
    ready: Callable[[_AnyRun, Clock], tuple[_Racer, float, float]],
    deadline: float,
    clock: Clock,
) -> dict[Key, _Racer]:
    """Run each until its caches and lazy parts are ready; those for which the time is too short are left out."""
    racers: dict[Key, _Racer] = {}
    race_ns = first_ns = 0.0
    for key, run in runs.items():
        if racers and clock() + race_ns >= deadline:
            break
        racer, call_ns, round_ns = ready(run, clock)
        first_ns = first_ns or call_ns
        # Slower than the first, it will lose every round, but for noise.
        longer = race_ns + (FEWEST_ROUNDS if call_ns <= first_ns else LOST_AFTER) * round_ns
        if racers and clock() + longer > deadline:
            continue
        race_ns, racers[key] = longer, racer
    return racers


def _call_ns(run: Run, clock: Clock) -> float:
    """Time of one warm call: the quickest of up to four, within a few stretches' time; at least 1 ns."""
    calls: list[int] = []
    while len(calls) < 4 and (len(calls) < 2 or sum(calls) < 100 * ROUND_NS):
        start = clock()
        run()
        calls.append(clock() - start)
        if calls[0] > 100 * ROUND_NS:  # a tenth of a second a call: one is enough to be warm
            break
    return max(1.0, min(calls))


def _race(
    racers: Mapping[Key, _Racer], deadline: int, progress: Progress, drop: float, clock: Clock
) -> dict[Key, Measurement]:
    """Rounds until there are enough or time is up. Each round starts with another racer."""
    times: dict[Key, list[float]] = {key: [] for key in racers}
    running = list(racers)
    start = clock()
    for number in range(ENOUGH_ROUNDS):
        is_late = clock() >= deadline
        if is_late and number >= FEWEST_ROUNDS:
            break
        if number >= LOST_AFTER and (is_late or not math.isinf(drop)):
            running = _contenders(running, times)
        turn = number % len(running)
        for key in running[turn:] + running[:turn]:
            times[key].append(racers[key].stretch_ns(clock))
        if number + 1 == DROP_AFTER:
            running = _hopeful(running, times, drop)
        spent = (clock() - start) / max(1, deadline - start)
        progress(min(1.0, max((number + 1) / ENOUGH_ROUNDS, spent)))
    progress(1.0)
    return {key: summary(taken) for key, taken in times.items()}


def _hopeful(running: list[Key], times: Mapping[Key, list[float]], drop: float) -> list[Key]:
    """The first, and those that at their quickest are within ``drop`` times the fastest's median."""
    fastest = min(statistics.median(times[key]) for key in running)
    return [key for number, key in enumerate(running) if number == 0 or min(times[key]) <= drop * fastest]


def _contenders(running: list[Key], times: Mapping[Key, list[float]]) -> list[Key]:
    """The first, and those that were as fast in one of the rounds."""
    first, *others = running
    won = [key for key in others if any(map(le, times[key], times[first]))]
    return [first, *won]


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """No collector pauses while timing."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _silent(share: float) -> None:
    """No progress shown."""
