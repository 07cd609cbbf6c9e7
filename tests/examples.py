"""How many examples a hypothesis test draws: a few in the ordinary run, always the same; many new ones in the long."""

from __future__ import annotations

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
