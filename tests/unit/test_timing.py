"""How the seconds are dealt out, and when the machine is called restless."""

from __future__ import annotations

import pytest

from splitdeconv import timing
from splitdeconv.planner import NATIVE, Table
from splitdeconv.results import Cost, Measurement, Option
from splitdeconv.spec import Axis, Deconv

DECONV = Deconv((Axis(4, 2, in_size=8),), 4, 4)


def table(site: str) -> Table:
    return Table(site, DECONV, (Option(NATIVE, Cost(100, 0, 1)),))


def test_what_a_site_leaves_over_is_dealt_out_again() -> None:
    purse = timing.Purse(30.0, {name: table(name) for name in ("a", "b", "c")})
    assert purse.share("a") == pytest.approx(10.0)
    purse.pay(2.0)
    assert purse.share("b") == pytest.approx(14.0)
    assert purse.share("c") == pytest.approx(28.0)  # b was found in the cache and took nothing


def test_an_empty_purse_gives_nothing_and_owes_nothing() -> None:
    purse = timing.Purse(1.0, {name: table(name) for name in ("a", "b")})
    purse.share("a")
    purse.pay(5.0)
    assert purse.share("b") == 0.0


def test_a_restless_machine_is_told() -> None:
    calm, wild = Measurement(1.0, 0.99, 1.01, 50), Measurement(1.0, 0.8, 1.3, 50)
    assert timing.restless([calm, calm, wild]) == ()
    (note,) = timing.restless([calm, wild, wild])
    assert "spread by 50%" in note


def test_estimates_and_dropped_forms_say_nothing_about_the_machine() -> None:
    assert timing.restless([Measurement(1.0, 0.5, 2.0, 3), Measurement(1.0, 0.5, 2.0, 50, "estimated")]) == ()
    assert timing.restless([]) == ()
