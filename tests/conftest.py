"""Fixtures that all tests share, and what the ordinary run and the long one are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import tests.examples  # noqa: F401  # the profiles

SLOWEST = ("test_site.py", "test_examples.py", "test_zoo.py", "test_plugins.py")  # each is run by one worker
SHARED = Path(__file__).parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """The ordinary run draws the same examples each time, the long one new ones: it is there to find faults."""
    settings.load_profile("long" if config.option.markexpr == "long" else "ordinary")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests with examples are in both runs."""
    drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    if drawn and settings.default is settings.get_profile("long"):
        item.add_marker("long")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that the other workers do not wait for one at the end."""
    items.sort(key=lambda item: item.path.name not in SLOWEST)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Times of this run, not the user's."""
    path = tmp_path_factory.mktemp("cache") / "timings.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("splitdeconv.pipeline.open.default_path", lambda: path)
        yield


@pytest.fixture
def shared() -> Path:
    """The folder of third-party models and cases beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED.name} beside the checkout: real models and conformance cases are left out")
    return SHARED
