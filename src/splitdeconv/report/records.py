"""The page of a record of any command (extra ``report``)."""

from __future__ import annotations

from collections.abc import Sequence

from splitdeconv.errors import InputError
from splitdeconv.report import bench, conversion
from splitdeconv.report.page import Page
from splitdeconv.results.bench import BenchRecord
from splitdeconv.results.record import RunRecord


def page_of(record: RunRecord | Sequence[BenchRecord], source: str) -> Page:
    """The page of a record.

    Args:
        source: the name of its file, for messages.

    Raises:
        InputError: not the record of a conversion or a benchmark.
        MissingExtraError: a package of the extra is not installed.
    """
    if not isinstance(record, RunRecord):
        return bench.page(record)
    if record.command != "convert":
        raise InputError(f"{source}: is no record of a conversion or a benchmark: those have a page")
    return conversion.page(record)
