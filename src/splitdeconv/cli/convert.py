"""``splitdeconv convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from splitdeconv import codec
from splitdeconv.cli import app as shared
from splitdeconv.cli.inputs import named_files
from splitdeconv.cli.inspect import MODEL_HELP
from splitdeconv.cli.options import options_of, request_of
from splitdeconv.cli.report import REPORT_HELP, check
from splitdeconv.errors import VerificationError
from splitdeconv.files import together, write_text
from splitdeconv.pipeline.request import ConvertRequest
from splitdeconv.report import page, printed
from splitdeconv.report.conversion import page as conversion_page
from splitdeconv.results.record import RunRecord


@shared.app.command(epilog="Example: `splitdeconv convert model.onnx out.onnx --report out.html`")
@options_of(ConvertRequest)
def convert(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write the result.")],
    *,
    save_plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the choices to this plan file.")] = None,
    json: shared.Json = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help=REPORT_HELP)] = None,
    **given: Any,
) -> None:
    """Rewrite every deconv of a model exactly as ordinary convolutions, prove it, and write the result."""
    from splitdeconv.pipeline import convert as pipeline  # noqa: PLC0415  # only this command needs it

    read = [("the model", model), ("--plan", given["plan"]), *named_files(given["input"])]
    written = [("OUT", out), ("--json", json), ("--save-plan", save_plan), ("--report", report)]
    check(report)
    failure = None
    with together(read, written):
        try:
            with shared.progress_bar() as progress:
                conversion = pipeline.convert(model, out, request_of(ConvertRequest, given, progress=progress))
            record: RunRecord = conversion.record
            if save_plan is not None:
                write_text(save_plan, conversion.plan.to_json())
        except VerificationError as error:
            if not isinstance(error.record, RunRecord):
                raise
            failure, record = error, error.record
        _keep(shared.signed(record, context), json, report)
    if failure is not None:
        raise failure
    if json is None or str(json) != "-":
        printed.run(shared.console(), record)


def _keep(record: RunRecord, json: Path | None, report: Path | None) -> None:
    """The record as files, for machines and for people; also that of a conversion that was not equal."""
    if json is not None:
        shared.emit_json(codec.run_to_json(record), json)
    if report is not None:
        page.write_page(conversion_page(record), report)
