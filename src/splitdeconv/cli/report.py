"""``splitdeconv report``, and what ``--report`` of other commands shares with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitdeconv import codec
from splitdeconv.cli import app as shared
from splitdeconv.files import read_text, together
from splitdeconv.report import page, plots

REPORT_HELP = "Write a report for people to this file: one self-contained HTML page."


@shared.app.command(epilog="Example: `splitdeconv report run.json report.html`")
def report(
    record: Annotated[
        Path, typer.Argument(metavar="RECORD", help="What --json of inspect, convert, restore or bench has written.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The HTML file to write.")],
    json: shared.Json = None,
) -> None:
    """Make the HTML report of an earlier run from its JSON record."""
    check(out)
    with together([("the record", record)], [("OUT", out), ("--json", json)]):
        _write(record, out)
        shared.emit_done("report", [out], json, record=str(record))
    shared.say_done(f"written: {out}", json)


def _write(record: Path, out: Path) -> None:
    from splitdeconv.report.records import page_of  # noqa: PLC0415  # only with the extra

    text = read_text(record, "wanted what --json has written")
    page.write_page(page_of(codec.from_json(text, str(record))), out)


def check(out: Path | None) -> None:
    """Before minutes of measuring, that a report can be made; nothing without ``out``.

    Raises:
        MissingExtraError: a package of the extra is not installed.
    """
    if out is not None:
        page.check()
        plots.check()
