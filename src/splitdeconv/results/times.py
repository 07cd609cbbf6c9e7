"""Times with their spread, and the test whether a difference is noise.

``docs/decisions/noise.md`` says why each number below is what it is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Measurement:
    """A time, with its spread. ``kind`` tells measured from estimated.

    Attributes:
        median_ms, low_ms, high_ms: median and quartiles over the rounds.
        rounds: how many rounds were timed.
        rounds_ms: time of each round, in order; what was timed in the same run shares its rounds. May be empty.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int
    kind: Literal["measured", "estimated"] = "measured"
    rounds_ms: tuple[float, ...] = ()


FEWEST_ROUNDS = 5  # below this, quartiles say nothing about the spread


SIGMAS = 3.0  # one false win in 700 comparisons, where the rounds are independent


SMALLEST_GAIN = 0.03  # identical sessions differ by up to 3 % in one run: see docs/decisions/noise.md


RESTLESS = 0.25  # an idle machine shows 0.01 to 0.1; see ``unrest``


_MEDIAN_ERROR = math.sqrt(math.pi / 2) / 1.349  # standard error of the median over (interquartile range / √rounds)


def summary(times_ns: list[float]) -> Measurement:
    """Median and quartiles of at least one time in ns, and all of them, to the nanosecond."""
    low, median, high = _quartiles(times_ns)
    rounds_ms = tuple(round(time / 1e6, 6) for time in times_ns)
    return Measurement(median / 1e6, low / 1e6, high / 1e6, len(times_ns), rounds_ms=rounds_ms)


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile, linear between ranks."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def standard_error(low: float, high: float, rounds: int) -> float:
    """Standard error of a median, from the quartiles: ``√(π/2)·σ/√n`` with ``σ = (high − low)/1.349``.

    That is the error for normal noise; quartiles, unlike a standard deviation, are not moved by rare long pauses. Of
    few rounds they lie too close together, hence the factor ``n/(n − 3)``, found by simulation.
    Source: McGill, Tukey and Larsen, *Variations of Box Plots*, The American Statistician 32(1), 1978.
    """
    few = rounds / max(1, rounds - 3)
    return few * _MEDIAN_ERROR * (high - low) / math.sqrt(rounds)


def unrest(times: Iterable[Measurement]) -> float:
    """How restless the machine was: the median over ``times`` of the interquartile range as a share of the time.

    A few percent on an idle machine. Above ``RESTLESS`` other work weighs so much that gains are overlooked.
    """
    spreads = [(time.high_ms - time.low_ms) / time.median_ms for time in times if time.median_ms > 0]
    return statistics.median(spreads) if spreads else 0.0


def is_settled(time: Measurement) -> bool:
    """Whether a time can be compared: estimated, or measured in enough rounds (those that were dropped were not)."""
    return time.kind == "estimated" or time.rounds >= FEWEST_ROUNDS


def wins(challenger: Measurement, holder: Measurement, smallest_gain: float = SMALLEST_GAIN) -> bool:
    """Whether ``challenger`` is faster by more than the noise.

    Its gain, as a share of the holder's time, must exceed ``SIGMAS`` of its standard errors, and ``smallest_gain``: by
    so much may two compilations of the same model differ, which no number of rounds shows. Fewer than ``FEWEST_ROUNDS``
    on either side prove nothing. Estimated times carry no noise.
    """
    if not 0 < challenger.median_ms < holder.median_ms:
        return False
    if challenger.kind == "estimated" and holder.kind == "estimated":
        return True
    if not (is_settled(challenger) and is_settled(holder)):
        return False
    gain, error = _paired(challenger, holder) or _unpaired(challenger, holder)
    return gain > max(SIGMAS * error, smallest_gain)


def _paired(challenger: Measurement, holder: Measurement) -> tuple[float, float] | None:
    """Gain and its standard error, from the ratio in each round: the machine's load at that time weighs on both alike.

    None where they do not share their rounds.
    """
    mine, theirs = challenger.rounds_ms, holder.rounds_ms
    if len(mine) != len(theirs) or len(mine) < FEWEST_ROUNDS or not all(time > 0 for time in theirs):
        return None
    low, median, high = _quartiles([one / other for one, other in zip(mine, theirs, strict=True)])
    return 1 - median, standard_error(low, high, len(mine))


def ratio(one: Measurement, other: Measurement) -> float:
    """How many times longer ``one`` takes: the median over their common rounds, or that of their medians."""
    if paired := _paired(one, other):
        return 1 - paired[0]
    return one.median_ms / other.median_ms


def _unpaired(challenger: Measurement, holder: Measurement) -> tuple[float, float]:
    """Gain and its standard error from medians and quartiles alone."""
    errors = [
        0.0 if time.kind == "estimated" else standard_error(time.low_ms, time.high_ms, time.rounds)
        for time in (challenger, holder)
    ]
    gain = holder.median_ms - challenger.median_ms
    return gain / holder.median_ms, math.hypot(*errors) / holder.median_ms
