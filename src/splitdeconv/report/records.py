"""From the JSON of ``--json`` back to a record, and from a record to its page (extra ``report``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from splitdeconv.errors import InputError, MissingExtraError
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.report import bench, conversion
from splitdeconv.report.page import Page
from splitdeconv.results.bench import BenchRecord
from splitdeconv.results.record import RunRecord
from splitdeconv.results.schema import SCHEMA_VERSION, Json

WANTED = "wanted the file that convert --json or bench --json writes"


@dataclass(frozen=True, slots=True)
class _Runs:
    """What ``bench --json`` writes."""

    runs: tuple[BenchRecord, ...]

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("there is no run in it")


def page_of(text: str, source: str) -> Page:
    """The page of a record that was kept as JSON.

    Args:
        source: its name, for messages.

    Raises:
        InputError: not such a record.
        MissingExtraError: a package of the extra is not installed.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(f"{source}: is not JSON ({error}); {WANTED}") from None
    if not isinstance(found, dict) or found.get("command") not in ("convert", "bench"):
        raise InputError(f"{source}: is no record of a conversion or a benchmark; {WANTED}")
    if found.get("schema") != SCHEMA_VERSION:
        raise InputError(f"{source}: record of schema {found.get('schema')}, this version reads {SCHEMA_VERSION}")
    if found["command"] == "bench":
        return bench.page(_read(found, _Runs, source).runs)
    return conversion.page(_read(found, RunRecord, source))


def _read(found: Json, kind: type[Any], source: str) -> Any:
    """Plain values as a record of ``kind``."""
    try:
        import cattrs  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading a record", error.name or "cattrs", "report") from error
    converter = cattrs.Converter()
    converter.register_structure_hook(Candidate, lambda text, _: Candidate.parse(text))
    try:
        return converter.structure(found, kind)
    except cattrs.BaseValidationError as error:
        reasons = "; ".join(cattrs.transform_error(error)[:3])
        raise InputError(f"{source}: {reasons}; {WANTED}") from None
