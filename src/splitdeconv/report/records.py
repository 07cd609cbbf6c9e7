"""The page of a record of any command (extra ``report``)."""

from __future__ import annotations

from collections.abc import Sequence

from splitdeconv.report import bench, conversion, inspection, restoration
from splitdeconv.report.page import Page
from splitdeconv.results.bench import BenchRecord
from splitdeconv.results.record import RunRecord

_PAGES = {"inspect": inspection.page, "convert": conversion.page, "restore": restoration.page}


def page_of(record: RunRecord | Sequence[BenchRecord]) -> Page:
    """The page of a record.

    Raises:
        MissingExtraError: a package of the extra is not installed.
    """
    return _PAGES[record.command](record) if isinstance(record, RunRecord) else bench.page(record)
