"""From the JSON of ``--json`` to its page (extra ``report``)."""

from __future__ import annotations

from splitdeconv import codec
from splitdeconv.errors import InputError
from splitdeconv.report import bench, conversion
from splitdeconv.report.page import Page
from splitdeconv.results.record import RunRecord


def page_of(text: str, source: str) -> Page:
    """The page of a record that was kept as JSON.

    Args:
        source: its name, for messages.

    Raises:
        InputError: not the record of a conversion or a benchmark.
        MissingExtraError: a package of the extra is not installed.
    """
    record = codec.from_json(text, source)
    if not isinstance(record, RunRecord):
        return bench.page(record)
    if record.command != "convert":
        raise InputError(f"{source}: is no record of a conversion or a benchmark; {codec.WANTED}")
    return conversion.page(record)
