"""``splitdeconv bench``."""

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
from splitdeconv.errors import UsageError
from splitdeconv.files import together
from splitdeconv.pipeline.open import AUTO
from splitdeconv.pipeline.request import BenchRequest
from splitdeconv.report import page, plots, printed, ratios
from splitdeconv.report.bench import page as bench_page


@shared.app.command(epilog="Example: `splitdeconv bench model.onnx --target onnxruntime --plot times.svg`")
@options_of(BenchRequest)
def bench(
    context: typer.Context,
    model: Annotated[Path | None, typer.Argument(metavar="MODEL", help=MODEL_HELP)] = None,
    *,
    layers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON list of layers, instead of a model.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Where to time. Repeatable; default: the runtime of the format."),
    ] = None,
    every: Annotated[bool, typer.Option("--every", help="Show every form of every layer.")] = False,
    json: shared.Json = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help=REPORT_HELP)] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the ratios to this file (.svg, .png or .pdf).")
    ] = None,
    **given: Any,
) -> None:
    """Time native, zero insertion and every lowering side by side, against the convolution of equal work."""
    from splitdeconv.pipeline import bench as pipeline  # noqa: PLC0415  # only this command needs it

    if (model is None) == (layers is None):
        raise UsageError("bench times a model or a list of layers: give one of them")
    if plot is not None:
        plots.check(plot)
    check(report)
    read = [("the model", model), ("--layers", layers), *named_files(given["input"])]
    with together(read, [("--json", json), ("--report", report), ("--plot", plot)]):
        records = []
        for name in target or [AUTO]:
            with shared.progress_bar() as progress:
                request = request_of(BenchRequest, given, target=name, progress=progress)
                record = (
                    pipeline.bench_model(model, request) if layers is None else pipeline.bench_layers(layers, request)
                )
            record = shared.signed(record, context)
            records.append(record)
            if json is None or str(json) != "-":
                printed.benchmark(shared.console(), record, every=every)
        if json is not None:
            shared.emit_json(codec.bench_to_json(records), json)
        if report is not None:
            page.write_page(bench_page(records), report)
        if plot is not None:
            plots.save(ratios.figure(records, titled=True), plot)
