"""Results on disk, one JSON file for each step, so that a run that was cut off goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from splitdeconv import codec
from splitdeconv.files import make_folder, parse_json, read_text, write_text
from splitdeconv.lab.paper.part import PaperStep

SCHEMA = 3
WANTED = "wanted a result of this command: remove it, or measure with --fresh"


@dataclass(frozen=True, slots=True)
class StoredStep:
    """A step's result with everything that its numbers can be traced by.

    Attributes:
        part, step: which.
        kind: counted, estimated or measured.
        command: what gives the same numbers by hand.
        environment: versions, processor and inputs.
        quick: whether it was made with less time than a full run takes.
        started, seconds: when (UTC), and for how long.
        found: the step's own values, as its ``holds`` says.
        schema: of this file.
    """

    part: str
    step: str
    kind: str
    command: str
    environment: Mapping[str, str]
    quick: bool
    started: str
    seconds: float
    found: Any
    schema: int = SCHEMA


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def path_of(folder: Path, part: str, step: str) -> Path:
    """Where a step's result lies."""
    return folder / "results" / part / f"{step}.json"


def keep(folder: Path, stored: StoredStep, holds: Any) -> None:
    """Write a result, whose values are of type ``holds``, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    path = path_of(folder, stored.part, stored.step)
    make_folder(path.parent)
    values = codec.to_object(replace(stored, found=codec.to_object(stored.found, holds)))
    write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")


def find(folder: Path, part: str, step: PaperStep, *, quick: bool, asked: bool = True) -> tuple[StoredStep | None, str]:
    """An earlier result of a step that still holds, or None with the reason why it does not (empty: there is none).

    A result holds if everything that its numbers depend on is as it was; a full run does not take up a quick one.

    Args:
        folder: of the report.
        part, step: which.
        quick: what the run asks for.
        asked: False where the result only comes along beside parts that were asked for: then effort and models that an
            earlier run was given may be others, which the result itself tells.

    Raises:
        InputError: the file is not what this version writes.
    """
    path = path_of(folder, part, step.name)
    if not path.exists():
        return None, ""
    stored = codec.from_object(StoredStep, parse_json(read_text(path, WANTED), str(path), WANTED), str(path), WANTED)
    if stored.schema != SCHEMA:
        return None, f"it was written in another form ({stored.schema} instead of {SCHEMA})"
    if asked and stored.quick and step.effort and not quick:
        return None, "it was made with --quick"
    now = step.environment()
    if not asked:
        now = {name: text for name, text in now.items() if name in stored.environment and name not in step.inputs}
    changed = _changes({name: text for name, text in stored.environment.items() if asked or name in now}, now)
    if changed:
        return None, changed
    return replace(stored, found=codec.from_object(step.holds, stored.found, f"{path}: found", WANTED)), ""


def _changes(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """What differs between two environments, in one line; empty where nothing does."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return "; ".join(f"{name} was {before.get(name, 'absent')}, is {after.get(name, 'absent')}" for name in names)
