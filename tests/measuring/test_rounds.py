"""Interleaving and its budget under an invented clock."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable

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
    machine.measure({"a": 50.0, "b": 60.0, "c": 70.0}, seconds=100, drop=math.inf)
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


def test_those_that_lose_every_round_do_not_hold_up_those_that_may_win() -> None:
    racers = {"native": 40.0, "split": 39.0, "zero_insert": 41.0}
    for drop, seconds in ((rounds.DROP_RATIO, 100), (math.inf, 0.1)):
        found = Machine().measure(racers, seconds, drop=drop)
        assert found["zero_insert"].rounds == rounds.LOST_AFTER
        assert found["split"].rounds == found["native"].rounds >= times.FEWEST_ROUNDS
    assert Machine().measure(racers, 100, drop=math.inf)["zero_insert"].rounds == rounds.ENOUGH_ROUNDS


def test_one_round_won_early_is_enough_to_stay() -> None:
    machine, turns = Machine(), iter(range(10**6))
    runs = {"native": machine.work("native", 200.0), "split": machine.work("split", lambda: 190 + next(turns))}
    found = rounds.interleaved(runs, 100, clock=machine.clock)
    assert found["split"].rounds == found["native"].rounds == rounds.ENOUGH_ROUNDS


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
    found = Machine().measure({"native": 100.0, "best": 50.0, "next": 60.0, "last": 70.0}, seconds=2.2)
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
