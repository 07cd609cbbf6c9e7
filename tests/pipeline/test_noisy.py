"""Times of a noisy machine are measured again; those of a quiet one come from the cache, and the notes say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from splitdeconv.deconv.weights import Array
from splitdeconv.measuring import rounds
from splitdeconv.pipeline import in_model
from splitdeconv.pipeline import open as opening
from splitdeconv.results.record import Environment
from splitdeconv.results.times import Measurement
from splitdeconv.targets.target import Target


class Machine:
    """Runs whose length ``work_ms`` tells, on a clock that only they move."""

    def __init__(self, work_ms: Callable[[int], float]) -> None:
        self.work_ms = work_ms
        self.now_ns = self.runs = self.races = 0

    def environment(self) -> Environment:
        return Environment("made", {"made": "1"}, "a processor", 1, {})

    def compile(self, model: Path, *, whole: bool) -> Path:
        return model

    def measure(
        self,
        candidates: Mapping[str, Path],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        drop: float,
        progress: object,
    ) -> dict[str, Measurement]:
        self.races += 1
        return rounds.interleaved(dict.fromkeys(candidates, self._run), seconds, drop=drop, clock=lambda: self.now_ns)

    def _run(self) -> None:
        self.runs += 1
        self.now_ns += int(1e6 * self.work_ms(self.runs))


def steady(_run: int) -> float:
    return 20.0


def disturbed(run: int) -> float:
    return 20.0 if run % 3 else 60.0


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "default_path", lambda: tmp_path / "timings.sqlite3")
    for name in ("before", "after"):
        (tmp_path / name).write_text(name)


def time(machine: Machine, folder: Path) -> tuple[str, ...]:
    """The notes of timing the whole model."""
    feeds = {"x": np.zeros(1, np.float32)}
    target = cast("Target", machine)
    models = {name: folder / name for name in ("before", "after")}
    return in_model.race_cached(target, models, feeds, opening.Options(seconds=100.0))[1]


@pytest.mark.usefixtures("cache")
def test_a_noisy_run_is_measured_again_and_a_quiet_one_is_not(tmp_path: Path) -> None:
    noisy, quiet = Machine(disturbed), Machine(steady)
    assert time(noisy, tmp_path) == time(noisy, tmp_path) == ()
    assert noisy.races == 2
    assert time(quiet, tmp_path) == ()
    (note,) = time(quiet, tmp_path)
    assert note.startswith("times of the whole model are from the cache, measured 20")
    assert quiet.races == 1
