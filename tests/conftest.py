"""Fixtures and the hypothesis profiles that all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

SHARED = Path(__file__).parents[2] / "shared"

settings.register_profile(
    "ordinary", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", deadline=None, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    """The ordinary run draws the same examples each time, the long one new ones: it is there to find faults."""
    settings.load_profile("long" if config.option.markexpr == "long" else "ordinary")


@pytest.fixture
def shared() -> Path:
    """The folder of third-party models and cases beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED.name} beside the checkout: real models and conformance cases are left out")
    return SHARED
