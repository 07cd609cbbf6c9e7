"""Times that were measured before, kept in one SQLite file for all models of a user.

What is kept under one key is the whole table of a site, all its candidates together: times are comparable only with
times of the same interleaved run. A key holds everything that a time depends on, so another version, processor or
thread count simply finds nothing. The file is a convenience: what goes wrong with it becomes a note, never an error.
"""

from __future__ import annotations

import hashlib
import json
import math
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from splitdeconv import codec
from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import InputError
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.measuring.rounds import ENOUGH_ROUNDS
from splitdeconv.results.record import Environment, versions
from splitdeconv.results.schema import Json
from splitdeconv.results.times import NOISY, Measurement, Untimed, spread, timed

FORMAT = 6  # of keys and contents; another number finds nothing of the old ones
BUSY_SECONDS = 10.0  # how long to wait for another process that writes

_TABLE = """
    CREATE TABLE IF NOT EXISTS timings (
        key TEXT PRIMARY KEY,
        stored_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
        seconds REAL NOT NULL,
        content TEXT NOT NULL
    ) WITHOUT ROWID
"""
_FIND = "SELECT content, stored_at FROM timings WHERE key = ?"
_KEEP = "INSERT OR REPLACE INTO timings (key, seconds, content) VALUES (?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Timings:
    """What is kept under one key.

    Attributes:
        outcomes: of everything that was to be timed, by the name of the candidate, or whatever else it was; what did
            not compile, or gave wrong numbers, does not run and need not be tried again.
        seconds: the time that measuring was given; a run that gives much more measures again, unless ``is_final``.
        measured_on: day (UTC, ``2026-11-27``) on which the cache kept them; empty unless they come from the cache.
    """

    outcomes: Mapping[str, Measurement | Untimed]
    seconds: float
    measured_on: str = ""

    @property
    def times(self) -> dict[str, Measurement]:
        """What has a time."""
        return timed(self.outcomes)

    @property
    def untimed(self) -> dict[str, Untimed]:
        """What has none, and why."""
        return {name: each for name, each in self.outcomes.items() if isinstance(each, Untimed)}

    @property
    def is_final(self) -> bool:
        """Whether more time would have brought nothing: all rounds were done."""
        return any(time.rounds >= ENOUGH_ROUNDS for time in self.times.values())

    @property
    def is_measured(self) -> bool:
        """Whether some of the times are no estimates, which are the same every time."""
        return any(time.kind == "measured" for time in self.times.values())

    @property
    def is_noisy(self) -> bool:
        """Whether the machine had so much other work that the times are not worth keeping."""
        return spread(self.times.values()) > NOISY


def site_key(
    deconv: Deconv, epilogue: tuple[str, ...], candidates: Iterable[Candidate], environment: Environment
) -> str:
    """The key of a site's table. Sites of any model with equal geometry and epilogue share it."""
    names = sorted(str(candidate) for candidate in candidates)
    return _key("site", {"deconv": codec.to_object(deconv), "epilogue": epilogue, "candidates": names}, environment)


def model_key(
    contents: Mapping[str, bytes], sizes: Sequence[Mapping[str, tuple[int, ...]]], environment: Environment
) -> str:
    """The key of the times of whole models, by the models' bytes, over inputs of the given shapes, in turn."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    return _key("model", {"models": digests, "sizes": [*map(dict, sizes)]}, environment)


def _key(kind: str, parts: Json, environment: Environment) -> str:
    """A digest of everything that a time depends on, this package's version included."""
    whole = {
        "format": FORMAT,
        "version": versions()["splitdeconv"],
        "kind": kind,
        "environment": codec.to_object(environment),
        **parts,
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def default_path() -> Path | None:
    """The file in the user's cache folder, or None where the package that knows the folder is not installed."""
    try:
        from platformdirs import user_cache_path  # noqa: PLC0415  # belongs to the extras of the measuring targets
    except ModuleNotFoundError:
        return None
    return user_cache_path("splitdeconv", appauthor=False) / "timings.sqlite3"


class TimingCache:
    """The file, safe under several processes at once; nothing is kept open between calls.

    The first thing that goes wrong turns the cache off, and is told in ``notes``.
    """

    def __init__(self, path: Path | None) -> None:
        """``path``: the file, made when needed; None for no cache at all (``--no-cache``)."""
        self._path = path
        self._notes: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """What went wrong, one sentence each."""
        return tuple(self._notes)

    def find(self, key: str, seconds: float = 0.0) -> Timings | None:
        """What is kept under ``key``, unless it was cut short, with less than half of ``seconds``."""
        row = self._execute(_FIND, (key,))
        found = None if row is None else _read(*row)
        if found is None or not (found.is_final or found.seconds >= seconds / 2):
            return None
        return found

    def keep(self, key: str, timings: Timings) -> None:
        """Keep ``timings`` under ``key``, in place of what was there, unless they are noisy."""
        if timings.is_noisy:
            return
        self._execute(_KEEP, (key, timings.seconds, json.dumps(codec.to_object(timings))))

    def _execute(self, statement: str, columns: tuple[str | float, ...]) -> tuple[object, ...] | None:
        """The first row of one statement in a transaction of its own; None without one, or when the cache is off."""
        if self._path is None:
            return None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS)) as database:
                _write_ahead(database)
                with database:
                    database.execute(_TABLE)
                    row: tuple[object, ...] | None = database.execute(statement, columns).fetchone()
                    return row
        except (sqlite3.Error, OSError) as error:
            self._notes.append(f"times are not cached: {self._path}: {error}; delete the file, or use --no-cache")
            self._path = None
            return None


def _write_ahead(database: sqlite3.Connection) -> None:
    """Readers and one writer do not wait for each other; a crash may lose the last times, never the file."""
    try:
        database.execute("PRAGMA journal_mode = WAL")
    except sqlite3.OperationalError as error:
        if "locked" not in str(error):
            raise
        # Another process is just making the file, and that change of mode does not wait; it holds for both.
    database.execute("PRAGMA synchronous = NORMAL")


def notes_of_origin(found: Iterable[Timings], what: str = "") -> tuple[str, ...]:
    """A note that times come from the cache, and from when; none where all were measured now, or are estimates.

    Args:
        found: of all sites.
        what: what they are the times of, where it is not sites.
    """
    days = [each.measured_on for each in found if each.measured_on and each.is_measured]
    if not days:
        return ()
    when = " to ".join(sorted({min(days), max(days)}))
    counted = what or f"{len(days)} site{'s' if len(days) > 1 else ''}"
    return (f"times of {counted} are from the cache, measured {when}; --no-cache measures them again",)


def _read(content: object, stored_at: object) -> Timings | None:
    """A row's timings; None where it is not what the codec writes, or one of its numbers is not possible."""
    try:
        timings = codec.from_object(Timings, json.loads(str(content)), "the cache")
    except (ValueError, OverflowError, RecursionError, InputError):
        return None
    times = timings.times.values()
    numbers = [number for time in times for number in (time.median_ms, time.low_ms, time.high_ms, *time.rounds_ms)]
    possible = all(0 < number < math.inf for number in numbers) and all(time.rounds >= 0 for time in times)
    return replace(timings, measured_on=str(stored_at).partition(" ")[0]) if possible else None
