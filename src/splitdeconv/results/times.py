"""Times with their spread, and the test whether a difference is noise.

``docs/decisions/noise.md`` says why each number below is what it is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal, TypeVar

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Measurement:
    """A time, with its spread. ``kind`` tells measured from estimated.

    Attributes:
        median_ms, low_ms, high_ms: median and quartiles over the rounds.
        rounds: how many rounds were timed.
        rounds_ms: time of each round, in order; what was timed in the same run shares its rounds. May be empty.
        sizes_ms: where inputs of several sizes were timed, the rounds at each size, or its estimate. All other times
            are then geometric means over the sizes, so that the ratio of two is the mean of their ratios.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int
    kind: Literal["measured", "estimated"] = "measured"
    rounds_ms: tuple[float, ...] = ()
    sizes_ms: tuple[tuple[float, ...], ...] = ()

    def at_each_size(self) -> tuple[Measurement, ...]:
        """The time at each of several sizes; nothing where there is one."""
        return tuple(_of_rounds(rounds_ms, self.kind) for rounds_ms in self.sizes_ms)


@dataclass(frozen=True, slots=True)
class Untimed:
    """Why something that was to be timed has no time: the ``reason``, and whether it ``runs`` all the same."""

    reason: str
    runs: bool = True


NO_SECONDS = Untimed("the seconds were used up")
UNTRIED = Untimed("the seconds were used up before it was tried")


def timed(outcomes: Mapping[_Key, Measurement | Untimed]) -> dict[_Key, Measurement]:
    """The times among ``outcomes``."""
    return {key: each for key, each in outcomes.items() if isinstance(each, Measurement)}


RISK = 0.002  # chance that a form of equal speed passes the test of the median: 1 in 500
FEWEST_ROUNDS = 10  # pairs; of so few every one must be won, which a form of equal speed does once in 1,024 runs
SMALLEST_GAIN = 0.03  # identical sessions differ by up to 3 % in one run: see docs/decisions/noise.md
NOISY = 0.25  # an idle machine shows 0.01 to 0.1; see ``spread``


def summary(times_ns: list[float]) -> Measurement:
    """Median and quartiles of at least one time in ns, and all of them, to the nanosecond."""
    low, median, high = _quartiles(times_ns)
    rounds_ms = tuple(round(time / 1e6, 6) for time in times_ns)
    return Measurement(median / 1e6, low / 1e6, high / 1e6, len(times_ns), rounds_ms=rounds_ms)


def _of_rounds(rounds_ms: Sequence[float], kind: Literal["measured", "estimated"]) -> Measurement:
    """Median and quartiles of rounds; an estimate has one time and no rounds."""
    low, median, high = _quartiles(rounds_ms)
    if kind == "estimated":
        return Measurement(median, low, high, 1, kind)
    return Measurement(median, low, high, len(rounds_ms), kind, tuple(rounds_ms))


def over_sizes(times: Sequence[Measurement]) -> Measurement:
    """One time of the same thing at several sizes, at least one: in each round the geometric mean."""
    if len(times) == 1:
        return times[0]
    sizes_ms = tuple(time.rounds_ms or (time.median_ms,) for time in times)
    rounds_ms = [math.prod(together) ** (1 / len(times)) for together in zip(*sizes_ms, strict=False)]
    return replace(_of_rounds(rounds_ms, times[0].kind), sizes_ms=sizes_ms)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, linear between ranks."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def spread(times: Iterable[Measurement]) -> float:
    """How noisy the machine was: the median over ``times`` of the interquartile range as a share of the time.

    A few percent on an idle machine. Above ``NOISY`` other work weighs so much that gains are overlooked. Estimates,
    and forms that were dropped early, say nothing about the machine.
    """
    known = [time for time in times if time.kind == "measured" and is_settled(time) and time.median_ms > 0]
    return statistics.median((time.high_ms - time.low_ms) / time.median_ms for time in known) if known else 0.0


def beyond_noise(time: Measurement) -> str:
    """What is said behind "no gain": estimates have no noise."""
    return "" if time.kind == "estimated" else " beyond the noise"


def is_settled(time: Measurement) -> bool:
    """Whether a time can be compared: estimated, or measured in enough rounds (those that were dropped were not)."""
    return time.kind == "estimated" or time.rounds >= FEWEST_ROUNDS


def wins(challenger: Measurement, holder: Measurement, smallest_gain: float = SMALLEST_GAIN) -> bool:
    """Whether ``challenger`` is faster by more than the noise.

    Measured times are compared round by round. The upper confidence bound of the median of the ratios, an order
    statistic, must lie below ``1 - smallest_gain``: by so much may two compilations of the same model differ, which no
    number of rounds shows. Fewer than ``FEWEST_ROUNDS`` common rounds prove nothing. Of two estimates the lower wins;
    an estimate and a measurement are not compared.
    """
    if challenger.kind == holder.kind == "estimated":
        return 0 < challenger.median_ms < holder.median_ms
    ratios = _ratios(challenger, holder)
    return len(ratios) >= FEWEST_ROUNDS and ratios[-1 - _left_out(len(ratios))] < 1 - smallest_gain


def _ratios(one: Measurement, other: Measurement) -> list[float]:
    """Time of ``one`` over that of ``other`` in their common rounds, in ascending order.

    Those that one of them left early have the first rounds in common. Empty where none are, or where a time is not a
    positive number.
    """
    pairs = list(zip(one.rounds_ms, other.rounds_ms, strict=False))
    if not all(0 < time < math.inf for pair in pairs for time in pair):
        return []
    return sorted(mine / theirs for mine, theirs in pairs)


def loses_a_size(challenger: Measurement, holder: Measurement) -> bool:
    """Whether ``challenger`` is slower than ``holder`` at one of several sizes: beyond the noise, or by more than two
    compilations of the same model may differ.
    """
    return any(
        wins(theirs, mine, smallest_gain=0.0) or ratio(mine, theirs) > 1 + SMALLEST_GAIN
        for mine, theirs in zip(challenger.at_each_size(), holder.at_each_size(), strict=True)
    )


@cache
def _left_out(pairs: int) -> int:
    """How many of the largest ratios may lie above the upper confidence bound of their median.

    Ratios lie below their true median as often as coins show heads, whatever the noise looks like. So at most
    ``RISK`` of all tables have a bound below it. Source: the order-statistic interval of a quantile; Conover,
    *Practical Nonparametric Statistics*, 1999, section 3.2.
    """
    tail, count = 1.0, 0
    while tail <= RISK * 2**pairs:
        count += 1
        tail += math.comb(pairs, count)
    return count - 1


def ratio(one: Measurement, other: Measurement) -> float:
    """How many times longer ``one`` takes: the median over their common rounds, or that of their medians."""
    ratios = _ratios(one, other)
    if ratios:
        return statistics.median(ratios)
    return one.median_ms / other.median_ms if other.median_ms else math.inf


def comparison(challenger: Measurement, holder: Measurement) -> str:
    """How many times as fast ``challenger`` is, with the figures by which :func:`wins` decides.

    ``1.17×, faster in 41 of 50 rounds (0.20–2.76×)``; of times without common rounds only ``1.17×``.
    """
    speed, won = f"{ratio(holder, challenger):.2f}×", rounds_won(challenger, holder)
    return f"{speed}, {won}" if won else speed


def rounds_won(challenger: Measurement, holder: Measurement) -> str:
    """``faster in 41 of 50 rounds (0.20–2.76×)``, lowest and highest ratio; empty where they have no common rounds."""
    ratios = _ratios(holder, challenger)
    if not ratios:
        return ""
    won = sum(each > 1 for each in ratios)
    return f"faster in {won} of {len(ratios)} rounds ({ratios[0]:.2f}–{ratios[-1]:.2f}×)"
