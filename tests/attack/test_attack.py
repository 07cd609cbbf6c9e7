"""A sample of each kind of attack (``make test-long MINUTES=30``), and of all kinds together a case or two at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")
if sys.platform == "win32":
    pytest.skip("signals, limits and pipes as on Unix", allow_module_level=True)

from tests.attack.__main__ import sample
from tests.attack.harness import SETTLED, Worker
from tests.attack.kinds import KINDS, attack

SLOW = ("exported", "full-disk", "interrupted", "mutated-pt2")
MINUTES = float(os.environ.get("MINUTES", "7"))


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_sample(kind: str) -> None:
    faults = sample(kind, 60 * MINUTES / len(KINDS))
    assert not faults, "\n".join(f"{kind} {number}: {outcome}" for number, outcome in faults)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """One for all kinds: starting it takes longest."""
    found = Worker()
    yield found
    found.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in SLOW])
def test_the_first_cases(kind: str, worker: Worker) -> None:
    outcomes = [attack(kind, number, worker) for number in range(1, 3)]
    assert {outcome.name for outcome in outcomes} <= SETTLED, outcomes
