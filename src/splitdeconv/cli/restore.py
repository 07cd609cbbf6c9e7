"""``splitdeconv restore``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from splitdeconv import codec
from splitdeconv.cli import app as shared
from splitdeconv.cli.inputs import named_files
from splitdeconv.cli.options import options_of, request_of
from splitdeconv.errors import VerificationError
from splitdeconv.files import together
from splitdeconv.pipeline.request import RestoreRequest
from splitdeconv.report import printed
from splitdeconv.results.record import RunRecord


@shared.app.command(epilog="Example: `splitdeconv restore out.onnx model.onnx`")
@options_of(RestoreRequest)
def restore(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="What convert has written, .onnx or .tflite.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write the result.")],
    *,
    json: shared.Json = None,
    **given: Any,
) -> None:
    """Put the original deconvs back into a converted model, with their weights bit for bit."""
    from splitdeconv.pipeline import restore as pipeline  # noqa: PLC0415  # only this command needs it

    failure = None
    with together([("the model", model), *named_files(given["input"])], [("OUT", out), ("--json", json)]):
        try:
            with shared.progress_bar() as progress:
                restored = pipeline.restore(model, out, request_of(RestoreRequest, given, progress=progress))
            record: RunRecord = restored.record
        except VerificationError as error:
            if not isinstance(error.record, RunRecord):
                raise
            failure, record = error, error.record
        if json is not None:
            shared.emit_json(codec.run_to_json(shared.signed(record, context)), json)
    if failure is not None:
        raise failure
    if json is None or str(json) != "-":
        printed.run(shared.console(), record)
