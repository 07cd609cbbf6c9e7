"""How the seconds are dealt out, and when the machine is called noisy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import pytest

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.measuring import rounds
from splitdeconv.pipeline import in_model, sites
from splitdeconv.pipeline.open import Options
from splitdeconv.results.plan import Cost, Option, SiteTable
from splitdeconv.results.times import FEWEST_ROUNDS, NO_SECONDS, Measurement, Untimed, timed
from splitdeconv.targets.target import Target

DECONV = Deconv((Axis(4, 2, in_size=8),), 4, 4)


def table(site: str) -> SiteTable:
    return SiteTable(site, DECONV, (Option(NATIVE, Cost(100, 0, 1)),))


def test_what_a_site_leaves_over_is_dealt_out_again() -> None:
    budget = sites.Budget(30.0, {name: table(name) for name in ("a", "b", "c")})
    assert budget.share("a") == pytest.approx(10.0)
    budget.spend(2.0)
    assert budget.share("b") == pytest.approx(14.0)
    assert budget.share("c") == pytest.approx(28.0)  # b was found in the cache and took nothing


def test_an_empty_budget_gives_nothing_and_owes_nothing() -> None:
    budget = sites.Budget(1.0, {name: table(name) for name in ("a", "b")})
    budget.share("a")
    budget.spend(5.0)
    assert budget.share("b") == 0.0


def test_a_noisy_machine_is_told() -> None:
    calm, wild = Measurement(1.0, 0.99, 1.01, 50), Measurement(1.0, 0.8, 1.3, 50)
    assert sites.noise_notes([calm, calm, wild]) == ()
    (note,) = sites.noise_notes([calm, wild, wild])
    assert "spread by 50%" in note


def test_estimates_and_dropped_forms_say_nothing_about_the_machine() -> None:
    assert sites.noise_notes([Measurement(1.0, 0.5, 2.0, 3), Measurement(1.0, 0.5, 2.0, 50, "estimated")]) == ()
    assert sites.noise_notes([]) == ()


class SlowTarget:
    """Runs of one second each, on a clock that only they move."""

    now_ns = 0

    def compile(self, model: Compilable, *, whole: bool) -> Compilable:
        return model

    def measure(
        self,
        candidates: Mapping[str, Path],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        drop: float,
        progress: object,
    ) -> dict[str, Measurement | Untimed]:
        runs = dict.fromkeys(candidates, self._run)
        found = rounds.interleaved(runs, seconds, drop=drop, clock=lambda: SlowTarget.now_ns)
        return dict.fromkeys(candidates, NO_SECONDS) | found

    def _run(self) -> None:
        SlowTarget.now_ns += 1_000_000_000


@pytest.mark.parametrize(("budget", "fewest"), [(4.0, 10), (200.0, 39)])
def test_a_slow_whole_model_keeps_to_its_part_of_the_budget(budget: float, fewest: int) -> None:
    options = Options(seconds=budget)
    assert options.site_seconds + options.model_seconds == budget
    before = SlowTarget.now_ns
    names = {"before": Compilable(b"before"), "after": Compilable(b"after")}
    target = cast("Target", SlowTarget())
    taken = in_model.race(target, names, {}, options.model_seconds)
    assert {name: time.rounds for name, time in timed(taken).items()} == {"before": fewest, "after": fewest}
    spent = (SlowTarget.now_ns - before) / 1e9
    assert spent <= max(options.model_seconds, 2 * FEWEST_ROUNDS + 4)  # and two calls each to warm up
