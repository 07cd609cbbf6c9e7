"""Records in Python: the text of one is what its command prints."""

from __future__ import annotations

from dataclasses import fields
from typing import TypeVar

from rich.console import Console

from splitdeconv.pipeline.bench import Benchmark
from splitdeconv.pipeline.printable import Reportable
from splitdeconv.report import printed
from splitdeconv.report.page import Page
from splitdeconv.report.records import page_of
from splitdeconv.results.bench import BenchRecord
from splitdeconv.results.record import RunRecord

Kind = TypeVar("Kind", bound=Reportable)


class PrintedRecord(Reportable, RunRecord):
    """The record of an inspection, a conversion or a restoration."""

    def show(self, out: Console) -> None:
        """Print it as the command does."""
        printed.run(out, self)

    def page(self) -> Page:
        """What :meth:`report` writes."""
        return page_of(self)


def printable(found: RunRecord | tuple[BenchRecord, ...]) -> RunRecord | tuple[BenchRecord, ...]:
    """What was read, as records that print."""
    if isinstance(found, RunRecord):
        return _as(PrintedRecord, found)
    return tuple(_as(Benchmark, each) for each in found)


def _as(kind: type[Kind], record: RunRecord | BenchRecord) -> Kind:
    """The same values in a class that prints."""
    return kind(**{each.name: getattr(record, each.name) for each in fields(record)})
