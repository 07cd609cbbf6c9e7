"""Interleaving and its budget under an invented clock; the noise test on invented noise."""

from __future__ import annotations

import gc
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitdeconv.measuring import rounds
from splitdeconv.results import times
from splitdeconv.results.times import Measurement

MS = 1_000_000


class Machine:
    """A clock that only work moves, and the order in which the work was done."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.calls: list[str] = []

    def clock(self) -> int:
        return self.now_ns

    def work(self, name: str, time_ms: float | Callable[[], float]) -> Callable[[], None]:
        def run() -> None:
            self.calls.append(name)
            self.now_ns += int((time_ms() if callable(time_ms) else time_ms) * MS)

        return run

    def measure(self, times_ms: dict[str, float], seconds: float, **options: float) -> dict[str, Measurement]:
        runs = {name: self.work(name, time) for name, time in times_ms.items()}
        return rounds.interleaved(runs, seconds, clock=self.clock, **options)  # type: ignore[arg-type]


def test_medians_are_those_of_the_work() -> None:
    found = Machine().measure({"native": 4.0, "split": 2.5}, seconds=10)
    many = rounds.ENOUGH_ROUNDS
    assert found == {
        "native": Measurement(4.0, 4.0, 4.0, many, rounds_ms=(4.0,) * many),
        "split": Measurement(2.5, 2.5, 2.5, many, rounds_ms=(2.5,) * many),
    }


def test_runs_take_turns_and_another_begins_each_round() -> None:
    machine = Machine()
    machine.measure({"a": 50.0, "b": 60.0, "c": 70.0}, seconds=100)
    rounds = machine.calls[-9:]
    assert {tuple(rounds[n : n + 3]) for n in (0, 3, 6)} == {("a", "b", "c"), ("b", "c", "a"), ("c", "a", "b")}


def test_a_drift_of_the_machine_falls_on_all_alike() -> None:
    machine = Machine()

    def slower_and_slower() -> float:
        return 10.0 + machine.now_ns / 1e9

    runs = {name: machine.work(name, slower_and_slower) for name in ("a", "b", "c")}
    found = rounds.interleaved(runs, 1e9, clock=machine.clock)
    medians = [time.median_ms for time in found.values()]
    assert max(medians) / min(medians) < 1.01
    assert max(time.high_ms / time.low_ms for time in found.values()) > 1.05


def test_short_work_is_repeated_until_the_clock_can_see_it() -> None:
    machine = Machine()
    found = machine.measure({"native": 0.001, "long": 1.5}, seconds=10, drop=math.inf)
    assert found["native"].median_ms == pytest.approx(0.001)
    assert machine.calls.count("native") >= 1000 * rounds.ENOUGH_ROUNDS
    assert machine.calls.count("long") < 2 * rounds.ENOUGH_ROUNDS


def test_the_hopeless_end_after_three_rounds_but_never_the_first() -> None:
    found = Machine().measure({"native": 40.0, "split": 10.0, "zero_insert": 21.0}, seconds=100)
    assert {name: time.rounds for name, time in found.items()} == {"native": 50, "split": 50, "zero_insert": 3}


def test_all_are_kept_for_a_full_table() -> None:
    found = Machine().measure({"native": 4.0, "zero_insert": 40.0}, seconds=100, drop=math.inf)
    assert found["zero_insert"].rounds == rounds.ENOUGH_ROUNDS


def test_a_full_table_has_every_run_even_beyond_the_budget() -> None:
    found = Machine().measure({"before": 2000.0, "after": 1500.0}, seconds=1, drop=math.inf)
    assert {name: time.rounds for name, time in found.items()} == dict.fromkeys(
        ("before", "after"), times.FEWEST_ROUNDS
    )


@given(
    times_ms=st.lists(st.floats(0.001, 300), min_size=1, max_size=12),
    seconds=st.floats(0, 20),
)
def test_the_budget_holds_and_what_is_timed_has_enough_rounds(times_ms: list[float], seconds: float) -> None:
    machine = Machine()
    found = machine.measure({str(n): time for n, time in enumerate(times_ms)}, seconds)
    assert "0" in found
    assert found["0"].rounds >= times.FEWEST_ROUNDS
    assert all(time.rounds >= rounds.DROP_AFTER for time in found.values())
    first_s, longest_s = times_ms[0] / 1e3, max(times_ms) / 1e3
    least = (times.FEWEST_ROUNDS + 2) * max(first_s, 0.002) + 0.2 + 2 * sum(times_ms) / 1e3
    assert machine.now_ns / 1e9 <= max(seconds, least) + (len(times_ms) + 1) * max(longest_s, 0.002)


def test_a_short_budget_goes_to_the_first() -> None:
    found = Machine().measure({"native": 100.0, "best": 50.0, "next": 60.0, "last": 70.0}, seconds=1.3)
    assert set(found) == {"native", "best"}
    assert all(time.rounds >= times.FEWEST_ROUNDS for time in found.values())


def test_progress_grows_to_one() -> None:
    machine, seen = Machine(), []  # type: ignore[var-annotated]
    rounds.interleaved({"a": machine.work("a", 30.0)}, 0.5, progress=seen.append, clock=machine.clock)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert len(seen) > 5


def test_the_collector_rests_while_timing_and_works_again_after_an_error() -> None:
    seen: list[bool] = []

    def run() -> None:
        seen.append(gc.isenabled())
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError):
        rounds.interleaved({"a": run}, 1)
    assert seen == [False]
    assert gc.isenabled()


Noise = Callable[[random.Random], float]


def steady(rng: random.Random) -> float:
    """Normal, 3 %: a quiet machine."""
    return 1 + 0.03 * rng.gauss(0, 1)


def pauses(rng: random.Random) -> float:
    """Skewed, with long interruptions: a desktop."""
    return 1 + abs(0.05 * rng.gauss(0, 1)) + (5.0 if rng.random() < 0.05 else 0.0)


def two_speeds(rng: random.Random) -> float:
    """Now and then a slower clock rate, 20 %."""
    return (1.2 if rng.random() < 0.3 else 1.0) * (1 + 0.01 * rng.gauss(0, 1))


NOISES = [steady, pauses, two_speeds]


def sample(rng: random.Random, time_ms: float, noise: Noise, rounds: int) -> Measurement:
    return times.summary([1e6 * time_ms * noise(rng) for _ in range(rounds)])


def apart(time: Measurement) -> Measurement:
    """The same as if it came from another run: rounds that cannot be paired."""
    return replace(time, rounds_ms=())


def share_of_wins(challenger_ms: float, noise: Noise, rounds: int, paired: bool = True, **options: float) -> float:
    """Of 1,000 comparisons with 1 ms. Noise is drawn for each side alone: the worst case for pairs."""
    rng = random.Random(1)
    pairs = [(sample(rng, challenger_ms, noise, rounds), sample(rng, 1.0, noise, rounds)) for _ in range(1000)]
    if not paired:
        pairs = [(apart(challenger), apart(holder)) for challenger, holder in pairs]
    return statistics.mean(times.wins(challenger, holder, **options) for challenger, holder in pairs)


FALSE_WINS = {5: 0.02, 10: 0.01, 20: 0.01, 50: 0.002}  # share that is let pass, by the number of rounds


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("rounds", [5, 10, 20, 50])
@pytest.mark.parametrize("noise", NOISES)
def test_equals_do_not_win(noise: Noise, rounds: int, paired: bool) -> None:
    assert share_of_wins(1.0, noise, rounds, paired) <= FALSE_WINS[rounds]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("rounds", [5, 10, 20, 50])
@pytest.mark.parametrize("noise", NOISES)
def test_equals_do_not_win_without_a_smallest_gain(noise: Noise, rounds: int, paired: bool) -> None:
    """As in the guard of the whole model: the standard errors alone hold off the noise."""
    assert share_of_wins(1.0, noise, rounds, paired, smallest_gain=0.0) <= FALSE_WINS[rounds]


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("noise", [steady, pauses])
def test_a_gain_of_a_tenth_is_seen(noise: Noise, paired: bool) -> None:
    assert share_of_wins(0.9, noise, 50, paired) >= 0.95


def loaded_pair(rng: random.Random, challenger_ms: float, rounds: int = 50) -> tuple[Measurement, Measurement]:
    """Two runs on a machine on which other work slows every round down by up to three times, both alike."""
    loads = [1 + 2 * rng.random() for _ in range(rounds)]
    taken = [[1e6 * time_ms * load * steady(rng) for load in loads] for time_ms in (challenger_ms, 1.0)]
    return times.summary(taken[0]), times.summary(taken[1])


def test_pairs_see_a_gain_through_a_load_that_hides_it_from_the_medians() -> None:
    rng = random.Random(3)
    pairs = [loaded_pair(rng, 0.95) for _ in range(500)]
    assert statistics.mean(times.wins(*pair) for pair in pairs) >= 0.85
    assert statistics.mean(times.wins(apart(one), apart(other)) for one, other in pairs) <= 0.05


def test_pairs_of_equals_do_not_win_under_load() -> None:
    rng = random.Random(4)
    assert statistics.mean(times.wins(*loaded_pair(rng, 1.0)) for _ in range(1000)) <= 0.005


def test_a_gain_smaller_than_two_sessions_differ_by_is_no_gain() -> None:
    quiet = [Measurement(time, time, time, 50) for time in (1.0, 0.98, 0.96)]
    assert not times.wins(quiet[1], quiet[0])
    assert times.wins(quiet[2], quiet[0])


@pytest.mark.parametrize("rounds", [(4, 50), (50, 4)])
def test_too_few_rounds_prove_nothing(rounds: tuple[int, int]) -> None:
    assert not times.wins(Measurement(0.1, 0.1, 0.1, rounds[0]), Measurement(1.0, 1.0, 1.0, rounds[1]))


def test_estimates_carry_no_noise() -> None:
    low, high = (Measurement(time, time, time, 1, "estimated") for time in (1.0, 1.001))
    assert times.wins(low, high)
    assert not times.wins(high, low)
    assert not times.wins(low, low)


def test_an_estimate_is_compared_with_a_measurement_by_the_noise_of_the_latter() -> None:
    estimate = Measurement(0.9, 0.9, 0.9, 0, "estimated")
    assert times.wins(estimate, Measurement(1.0, 0.99, 1.01, 50))
    assert not times.wins(estimate, Measurement(1.0, 0.5, 1.5, 10))


def test_the_standard_error_is_that_of_a_normal_median() -> None:
    rng = random.Random(2)
    samples = [sample(rng, 1.0, steady, 50) for _ in range(1000)]
    true_error = statistics.stdev(each.median_ms for each in samples)
    errors = [times.standard_error(each.low_ms, each.high_ms, each.rounds) for each in samples]
    assert statistics.mean(errors) == pytest.approx(true_error, rel=0.1)


def test_unrest_is_the_usual_spread() -> None:
    taken = [Measurement(2.0, 1.9, 2.1, 50), Measurement(1.0, 0.7, 1.3, 50), Measurement(1.0, 0.5, 9.5, 3)]
    assert times.unrest(taken) == pytest.approx(0.6)
    assert times.unrest([]) == times.unrest([Measurement(0.0, 0.0, 0.0, 5)]) == 0.0
