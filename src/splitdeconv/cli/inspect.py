"""``splitdeconv inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitdeconv import codec
from splitdeconv.cli import app as shared
from splitdeconv.cli.inputs import shapes
from splitdeconv.files import together
from splitdeconv.pipeline.request import SHAPE_HELP

MODEL_HELP = "An .onnx, .tflite or .pt2 file."


@shared.app.command(epilog="Example: `splitdeconv inspect model.onnx --input-shape x=1,3,224,224`")
def inspect(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A target to ask about each deconv. Repeatable.")
    ] = None,
    input_shape: Annotated[list[str] | None, typer.Option(metavar="NAME=SIZES", help=SHAPE_HELP)] = None,
    json: shared.Json = None,
) -> None:
    """Show the deconvs of a model: geometry, multiply-accumulates, share of the model. Nothing is written."""
    from splitdeconv.pipeline import inspect as pipeline  # noqa: PLC0415  # only this command needs it

    with together([("the model", model)], [("--json", json)]):
        found = pipeline.inspect(model, shapes(input_shape), target or [])
        if json is not None:
            shared.emit_json(codec.run_to_json(shared.signed(found.record, context)), json)
    if json is None or str(json) != "-":
        found.show(shared.console())
