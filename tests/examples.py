"""How many examples a hypothesis test draws: a few in the ordinary run, always the same; many new ones in the long."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ordinary",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", deadline=None, max_examples=1_000, suppress_health_check=[HealthCheck.too_slow])


def examples(few: int, many: int, *suppressed: HealthCheck) -> settings:
    """Other numbers than the profiles', for a test that is slow or that finds much."""
    long = settings.default is settings.get_profile("long")
    return settings(max_examples=many if long else few, suppress_health_check=[HealthCheck.too_slow, *suppressed])


def crossed(*values: Sequence[Any]) -> list[Any]:
    """Parameters of every combination; the ordinary run has each value at least once, the long one the rest."""
    most = max(map(len, values))
    few = {tuple(number % len(each) for each in values) for number in range(most)}
    places = product(*(range(len(each)) for each in values))
    return [
        pytest.param(
            *(each[n] for each, n in zip(values, place, strict=True)), marks=() if place in few else pytest.mark.long
        )
        for place in places
    ]
