"""The noise test, on times that were measured and on invented noise; the sentences that go with it."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Literal

import pytest
from benchmarks.noise import NOISES, simulated

from splitdeconv.results import times
from splitdeconv.results.times import FEWEST_ROUNDS, Measurement

# Rounds of real runs on machines with other work, most with two humps: form, times of native and of the form.
TABLES = [
    (table["form"], *(times.summary([1e6 * each for each in table[key]]) for key in ("best_ms", "native_ms")))
    for table in json.loads((Path(__file__).parent / "rounds.json").read_text("utf-8"))
]
# Rounds that the form won, of how many, and whether it wins with and without the smallest gain.
WANTED = [
    (41, 50, True, True),
    (35, 50, False, False),
    (41, 50, False, True),
    (37, 50, True, True),
    (28, 50, False, False),
    (5, 5, False, False),
    (43, 50, False, True),
    (50, 50, True, True),
]


@pytest.mark.parametrize(
    ("table", "wanted"), list(zip(TABLES, WANTED, strict=True)), ids=[f"{won} of {of}" for won, of, *_ in WANTED]
)
def test_measured_tables(table: tuple[str, Measurement, Measurement], wanted: tuple[int, int, bool, bool]) -> None:
    _, best, native = table
    won, rounds, with_gain, without = wanted
    assert times.rounds_won(best, native).startswith(f"faster in {won} of {rounds} rounds (")
    assert times.wins(best, native) == with_gain
    assert times.wins(best, native, smallest_gain=0.0) == without
    assert not times.wins(native, best, smallest_gain=0.0)


@pytest.mark.parametrize("rounds", [10, 20, 50])
@pytest.mark.parametrize("noise", NOISES)
def test_equals_do_not_win_and_a_gain_of_a_tenth_is_seen(noise: str, rounds: int) -> None:
    """As in ``benchmarks/noise.py``, with fewer tables; without a smallest gain, which is the harder case."""
    rng = random.Random(7)
    equals = [simulated(rng, noise, 0.0, rounds) for _ in range(1000)]
    assert sum(times.wins(*pair, smallest_gain=0.0) for pair in equals) <= 6  # 2 are expected, more than 6 in 1 of 200
    faster = [simulated(rng, noise, 0.1, rounds) for _ in range(200)]
    assert rounds < 50 or sum(times.wins(*pair) for pair in faster) >= 100


def constant(time_ms: float, rounds: int = 50) -> Measurement:
    return times.summary([1e6 * time_ms] * rounds)


def test_a_gain_smaller_than_two_sessions_differ_by_is_no_gain() -> None:
    assert not times.wins(constant(0.98), constant(1.0))
    assert times.wins(constant(0.96), constant(1.0))
    assert times.wins(constant(0.98), constant(1.0), smallest_gain=0.0)


@pytest.mark.parametrize("rounds", [(9, 50), (50, 9), (9, 9)])
def test_too_few_pairs_prove_nothing(rounds: tuple[int, int]) -> None:
    assert not times.wins(constant(0.1, rounds[0]), constant(1.0, rounds[1]))


def test_ten_pairs_must_all_be_won() -> None:
    holder = constant(1.0, FEWEST_ROUNDS)
    ahead = [0.5e6] * (FEWEST_ROUNDS - 1)
    assert times.wins(times.summary([*ahead, 0.9e6]), holder)
    assert not times.wins(times.summary([*ahead, 1.1e6]), holder)


def test_a_form_that_ended_early_is_compared_over_the_rounds_that_it_had() -> None:
    early = times.summary([2e6] * 12)
    long = times.summary([3e6] * 12 + [9e6] * 38)
    assert times.ratio(long, early) == pytest.approx(1.5)
    assert times.comparison(early, long) == "1.50×, faster in 12 of 12 rounds (1.50–1.50×)"
    assert times.wins(early, long)


def test_times_without_common_rounds_prove_nothing() -> None:
    low, high = Measurement(0.1, 0.1, 0.1, 50), Measurement(1.0, 1.0, 1.0, 50)
    assert not times.wins(low, high)
    assert times.ratio(high, low) == pytest.approx(10)
    assert times.comparison(low, high) == "10.00×"


@pytest.mark.parametrize("broken", [0.0, float("nan"), float("inf"), -1.0])
def test_a_time_that_cannot_be_proves_nothing(broken: float) -> None:
    impossible = Measurement(0.1, 0.1, 0.1, 50, rounds_ms=(broken,) * 50)
    assert not times.wins(impossible, constant(1.0))
    assert not times.wins(constant(0.01), impossible)


def test_estimates_carry_no_noise_and_are_not_compared_with_measurements() -> None:
    low, high = (Measurement(time, time, time, 1, "estimated") for time in (1.0, 1.001))
    assert times.wins(low, high)
    assert not times.wins(high, low)
    assert not times.wins(low, low)
    assert not times.wins(low, constant(2.0))
    assert not times.wins(constant(0.5), low)


def test_the_figures_are_those_that_decide() -> None:
    """The ratio of the medians is 1.1 here, the median of the ratios 2."""
    holder = times.summary([2e6, 2e6, 4e6, 11e6, 12e6] * 10)
    challenger = times.summary([1e6, 1e6, 10e6, 5.5e6, 6e6] * 10)
    assert times.comparison(challenger, holder) == "2.00×, faster in 40 of 50 rounds (0.40–2.00×)"
    assert times.wins(challenger, holder)


def test_the_spread_is_the_usual_one_of_settled_measurements() -> None:
    taken = [Measurement(2.0, 1.9, 2.1, 50), Measurement(1.0, 0.7, 1.3, 50), Measurement(1.0, 0.5, 2.5, 50)]
    ignored = [Measurement(1.0, 0.1, 9.5, 3), Measurement(1.0, 0.1, 9.5, 50, "estimated")]
    assert times.spread([*taken, *ignored]) == pytest.approx(0.6)
    assert times.spread([]) == times.spread([Measurement(0.0, 0.0, 0.0, 50)]) == times.spread(ignored) == 0.0


def over(*sizes_ms: float, kind: Literal["measured", "estimated"] = "measured") -> Measurement:
    if kind == "estimated":
        return times.over_sizes([Measurement(time, time, time, 0, kind) for time in sizes_ms])
    return times.over_sizes([constant(time) for time in sizes_ms])


@pytest.mark.parametrize("kind", ["measured", "estimated"])
def test_ratios_of_times_over_sizes_are_geometric_means_of_ratios(kind: Literal["measured", "estimated"]) -> None:
    before, after = over(10.0, 1000.0, kind=kind), over(5.0, 125.0, kind=kind)
    assert times.ratio(before, after) == pytest.approx(4.0)
    assert [each.median_ms for each in after.at_each_size()] == [5.0, 125.0]
    assert {each.kind for each in (after, *after.at_each_size())} == {kind}
    assert times.wins(after, before)
    assert not times.loses_a_size(after, before)
    assert times.loses_a_size(before, after)


def test_one_size_is_the_time_itself() -> None:
    assert times.over_sizes([constant(3.0)]) == constant(3.0)
    assert not times.loses_a_size(constant(3.0), constant(2.0))


def test_a_size_is_lost_beyond_the_noise_or_by_more_than_sessions_differ() -> None:
    assert not times.loses_a_size(over(10.0, 1.0), over(10.0, 10.0))
    assert times.loses_a_size(over(10.1, 1.0), over(10.0, 10.0))
    few = [times.over_sizes([constant(each, 3), constant(1.0, 3)]) for each in (10.0, 10.2, 10.5)]
    assert [times.loses_a_size(each, few[0]) for each in few] == [False, False, True]


def test_times_over_sizes_have_the_rounds_of_the_size_that_has_fewest() -> None:
    found = times.over_sizes([constant(4.0, 50), constant(9.0, 3)])
    assert found.rounds == len(found.rounds_ms) == 3
    assert found.median_ms == pytest.approx(6.0)
    assert not times.is_settled(found)
