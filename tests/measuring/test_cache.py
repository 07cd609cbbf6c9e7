"""The file of times: found again, forgotten when anything changes, safe under two processes, never in the way."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.measuring.cache import TimingCache, Timings, default_path, model_key, notes_of_origin, site_key
from splitdeconv.results import record
from splitdeconv.results.record import Environment
from splitdeconv.results.times import NO_SECONDS, Measurement, Untimed

DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 8),), 4, 4)
CANDIDATES = (Candidate("native"), Candidate("split", "union", "transpose"))
ENVIRONMENT = Environment("onnxruntime", {"onnxruntime": "1.32.0"}, "a processor", 2, {"provider": "CPU"})
KEY = site_key(DECONV, ("Relu",), CANDIDATES, ENVIRONMENT)
TIMINGS = Timings(
    {
        "native": Measurement(1.5, 1.25, 1.75, 2, rounds_ms=(1.25, 1.75)),
        "split:union:transpose": Measurement(0.5, 0.5, 0.5, 20),
        "col2im:transpose": Untimed("runs out of memory", runs=False),
        "split_rows": NO_SECONDS,
    },
    seconds=4.0,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "timings.sqlite3"


def found_again(cache: TimingCache, key: str, seconds: float = 0.0) -> Timings | None:
    """What is kept, without the day."""
    found = cache.find(key, seconds)
    return None if found is None else replace(found, measured_on="")


def test_what_is_kept_is_found_by_another_object_with_its_day(path: Path) -> None:
    first = datetime.now(timezone.utc).date()
    TimingCache(path).keep(KEY, TIMINGS)
    other = TimingCache(path)
    found = other.find(KEY)
    assert found is not None
    assert str(first) <= found.measured_on <= str(datetime.now(timezone.utc).date())
    assert replace(found, measured_on="") == TIMINGS
    assert other.notes == ()


def test_noisy_times_are_not_kept_and_replace_nothing(path: Path) -> None:
    noisy = replace(
        TIMINGS, outcomes={"native": Measurement(1.0, 0.5, 3.0, 50), "split": Measurement(1.0, 0.6, 1.6, 50)}
    )
    kept = TimingCache(path)
    kept.keep(KEY, noisy)
    assert kept.find(KEY) is None
    kept.keep(KEY, TIMINGS)
    kept.keep(KEY, noisy)
    assert found_again(kept, KEY) == TIMINGS


def test_times_from_the_cache_are_said_to_be_with_their_days() -> None:
    now, old, older = TIMINGS, replace(TIMINGS, measured_on="2026-02-01"), replace(TIMINGS, measured_on="2026-01-31")
    estimate = replace(old, outcomes={"native": Measurement(1.0, 1.0, 1.0, 1, "estimated")})
    assert notes_of_origin([now, estimate]) == ()
    (one,) = notes_of_origin([now, old, estimate])
    assert one == "times of 1 site are from the cache, measured 2026-02-01; --no-cache measures them again"
    (two,) = notes_of_origin([old, now, older, old])
    assert two.startswith("times of 3 sites are from the cache, measured 2026-01-31 to 2026-02-01;")
    (whole,) = notes_of_origin([old], "the whole model")
    assert whole.startswith("times of the whole model are from the cache, measured 2026-02-01;")


def test_the_last_that_is_kept_holds(path: Path) -> None:
    found = TimingCache(path)
    found.keep(KEY, TIMINGS)
    found.keep(KEY, replace(TIMINGS, outcomes={}))
    assert found_again(found, KEY) == replace(TIMINGS, outcomes={})


OTHER_ENVIRONMENTS = {
    "target": replace(ENVIRONMENT, target="openvino"),
    "version": replace(ENVIRONMENT, versions={"onnxruntime": "1.33.0"}),
    "processor": replace(ENVIRONMENT, processor="another"),
    "threads": replace(ENVIRONMENT, threads=1),
    "options": replace(ENVIRONMENT, options={"provider": "CUDA"}),
}


@pytest.mark.parametrize("environment", OTHER_ENVIRONMENTS.values(), ids=OTHER_ENVIRONMENTS)
def test_another_environment_finds_nothing(path: Path, environment: Environment) -> None:
    found = TimingCache(path)
    found.keep(KEY, TIMINGS)
    assert found.find(site_key(DECONV, ("Relu",), CANDIDATES, environment)) is None


def test_another_deconv_epilogue_menu_or_version_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    others = {
        site_key(replace(DECONV, has_bias=True), ("Relu",), CANDIDATES, ENVIRONMENT),
        site_key(replace(DECONV, dtype="float16"), ("Relu",), CANDIDATES, ENVIRONMENT),
        site_key(DECONV, (), CANDIDATES, ENVIRONMENT),
        site_key(DECONV, ("Relu",), CANDIDATES[:1], ENVIRONMENT),
        model_key({"native": b"model"}, [{"x": (1, 4, 8)}], ENVIRONMENT),
        model_key({"native": b"other"}, [{"x": (1, 4, 8)}], ENVIRONMENT),
        model_key({"native": b"model"}, [{"x": (1, 4, 9)}], ENVIRONMENT),
    }
    monkeypatch.setattr(record, "__version__", "999")
    others.add(site_key(DECONV, ("Relu",), CANDIDATES, ENVIRONMENT))
    assert len(others) == 8
    assert KEY not in others


def test_the_order_of_candidates_and_options_does_not_matter() -> None:
    options = {"b": "2", "a": "1"}
    keys = {
        site_key(DECONV, (), order, replace(ENVIRONMENT, options=each))
        for order in (CANDIDATES, CANDIDATES[::-1])
        for each in (options, dict(reversed(options.items())))
    }
    assert len(keys) == 1


def test_times_of_a_much_smaller_budget_are_not_taken(path: Path) -> None:
    found = TimingCache(path)
    found.keep(KEY, TIMINGS)
    assert found_again(found, KEY, seconds=8.0) == TIMINGS
    assert found.find(KEY, seconds=8.1) is None


def test_times_with_all_rounds_are_taken_whatever_the_budget(path: Path) -> None:
    found, final = TimingCache(path), replace(TIMINGS, outcomes={"native": Measurement(1.0, 1.0, 1.0, 50)})
    found.keep(KEY, final)
    assert found_again(found, KEY, seconds=1e9) == final


def test_without_a_path_nothing_is_written(tmp_path: Path) -> None:
    off = TimingCache(None)
    off.keep(KEY, TIMINGS)
    assert off.find(KEY) is None
    assert off.notes == ()


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough for a header" * 10, b"SQLite format 3\0" + b"\xff" * 500]
)
def test_a_corrupt_file_is_a_note(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    corrupt = TimingCache(path)
    assert corrupt.find(KEY) is None
    corrupt.keep(KEY, TIMINGS)
    (note,) = corrupt.notes
    assert note.startswith(f"times are not cached: {path}: ")
    assert "--no-cache" in note


def test_a_row_that_makes_no_sense_is_measured_again(path: Path) -> None:
    found = TimingCache(path)
    found.keep(KEY, TIMINGS)
    for content in ("{", "[]", '{"outcomes": {"native": {"median": 1}}}'):
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("UPDATE timings SET content = ?", (content,))
        assert found.find(KEY) is None
    found.keep(KEY, TIMINGS)
    assert found_again(found, KEY) == TIMINGS


def test_a_folder_that_cannot_be_made_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    unwritable = TimingCache(tmp_path / "file" / "timings.sqlite3")
    unwritable.keep(KEY, TIMINGS)
    assert unwritable.find(KEY) is None
    assert len(unwritable.notes) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_note(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    unwritable = TimingCache(tmp_path / "timings.sqlite3")
    unwritable.keep(KEY, TIMINGS)
    assert len(unwritable.notes) == 1


WRITER = """
import sys
from pathlib import Path
from splitdeconv.measuring.cache import TimingCache, Timings
from splitdeconv.results.times import NO_SECONDS, Measurement, Untimed

path, name = Path(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
for number in range(1, 101):
    found = TimingCache(path)
    found.keep(f"{name} {number}", Timings({name: Measurement(number, number, number, 5)}, 1.0))
    found.keep("shared", Timings({name: Measurement(number, number, number, 5)}, 1.0))
    assert found.find("shared") is not None
    assert found.find(f"{name} {number}").times[name].median_ms == number
    assert not found.notes, found.notes
"""


def test_two_processes_at_once_lose_nothing(path: Path) -> None:
    names = ("first", "second")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in names
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    for writer in writers:
        _, complaint = writer.communicate(timeout=60)
        assert writer.returncode == 0, complaint.decode()
    found = TimingCache(path)
    for name in names:
        assert all(found.find(f"{name} {number}") is not None for number in range(1, 101))


def test_the_file_lies_in_the_users_cache_folder() -> None:
    pytest.importorskip("platformdirs")
    path = default_path()
    assert path is not None
    assert path.parts[-2:] == ("splitdeconv", "timings.sqlite3")
