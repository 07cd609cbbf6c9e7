"""``splitdeconv bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from splitdeconv import codec
from splitdeconv.cli import app as shared
from splitdeconv.cli.inputs import named_files
from splitdeconv.cli.inspect import MODEL_HELP
from splitdeconv.cli.options import options_of, request_of
from splitdeconv.cli.report import REPORT_HELP, check
from splitdeconv.errors import UsageError
from splitdeconv.files import together
from splitdeconv.pipeline.request import BenchRequest
from splitdeconv.report import listing, page, plots, ratios
from splitdeconv.report.bench import captured_in_words
from splitdeconv.report.bench import page as bench_page
from splitdeconv.report.listing import Listing
from splitdeconv.report.numbers import NO_NUMBER, count, milliseconds, times_of
from splitdeconv.results.bench import EQUAL_WORK, NATIVE, ZERO_INSERT, BenchRecord, LayerTimes, ModelTimes

TIMES = ("native ms", "zero_insert ms", "equal-work ms", "best ms")
NUMBERS = (*TIMES, "over native", "over zero_insert", "of equal-work")


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
        list[str] | None, typer.Option(metavar="NAME", help="Where to time. Repeatable; default onnxruntime.")
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
        for name in target or ["onnxruntime"]:
            with shared.progress_bar() as progress:
                request = request_of(BenchRequest, given, target=name, progress=progress)
                record = (
                    pipeline.bench_model(model, request) if layers is None else pipeline.bench_layers(layers, request)
                )
            record = shared.signed(record, context)
            records.append(record)
            if json is None or str(json) != "-":
                show(shared.console(), record, every=every)
        if json is not None:
            shared.emit_json(codec.bench_to_json(records), json)
        if report is not None:
            page.write_page(bench_page(records), report)
        if plot is not None:
            plots.save(ratios.figure(records, titled=True), plot)


def show(out: Console, record: BenchRecord, *, every: bool = False) -> None:
    """The table of layers, the ratios, the whole model, and what the user should know."""
    where = record.environment
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    threads = f"{where.threads} threads" if where.threads else "its own number of threads"
    listing.say(out, f"{record.source} on {where.target} ({versions}; {where.processor}; {threads})")
    if record.layers:
        listing.show(out, _table(record))
    for line in summary_lines(record):
        listing.say(out, line)
    if every:
        for layer in record.layers:
            _show_every_form(out, layer)
    for skipped in record.skipped:
        listing.say(out, f"skipped '{skipped.site}' ({skipped.where}): {skipped.reason}")
    for note in record.notes:
        listing.say(out, f"note: {note}")


def _table(record: BenchRecord) -> Listing:
    headers = ("layer", "deconv", *NUMBERS, "best lowering", "converted")
    return Listing(headers, [_row(layer) for layer in record.layers], NUMBERS)


def _row(layer: LayerTimes) -> tuple[str, ...]:
    best = layer.best
    times = [milliseconds(layer.time(each)) for each in (NATIVE, ZERO_INSERT, EQUAL_WORK)]
    name, chosen = (layer.name, layer.deconv.describe()), str(layer.chosen)
    if best is None:
        return (*name, *times, *[NO_NUMBER] * 4, NO_NUMBER, chosen)
    ratios = (layer.ratio(NATIVE, best), layer.ratio(ZERO_INSERT, best), layer.ratio(best, EQUAL_WORK))
    same = "same" if layer.chosen == best else chosen
    return (*name, *times, milliseconds(layer.time(best)), *map(times_of, ratios), str(best), same)


def _show_every_form(out: Console, layer: LayerTimes) -> None:
    """All forms of one layer, fastest first, and those that do not apply."""
    timed = [(option, option.time) for option in layer.options if option.time is not None]
    rows = [
        (
            str(option.candidate),
            f"{time.median_ms:.4g}",
            f"{time.low_ms:.4g}–{time.high_ms:.4g}",
            str(time.rounds),
            times_of(layer.ratio(NATIVE, option.candidate)),
            count(option.cost.macs),
        )
        for option, time in sorted(timed, key=lambda pair: pair[1].median_ms)
    ]
    numbers = ("ms", "rounds", "over native", "MACs")
    out.print()
    listing.say(out, f"{layer.name}  {layer.deconv.describe()}")
    if rows:
        listing.show(out, Listing(("form", "ms", "quartiles", "rounds", "over native", "MACs"), rows, numbers))
    for refusal in layer.refusals:
        listing.say(out, f"{refusal.candidate} does not apply: {refusal.reason}")


def summary_lines(record: BenchRecord) -> list[str]:
    """Geometric means with the worst layer, and the whole model."""
    lines = [
        f"{each.title}: geometric mean {each.mean:.2f}× of {each.count}, worst {each.worst:.2f}× ({each.layer})"
        for each in record.summaries()
    ]
    return lines if record.model is None else [*lines, _model_line(record.model)]


def _model_line(model: ModelTimes) -> str:
    if not model.times:
        return f"the whole model was not timed: {model.reason}"
    times = ", ".join(f"{name} {milliseconds(time)} ms" for name, time in model.times.items())
    ratios = f"native / converted {times_of(model.ratio('native', 'converted'))}"
    if "zero_insert" in model.times:
        ratios += f", zero_insert / converted {times_of(model.ratio('zero_insert', 'converted'))}"
    return f"whole model: {times}; {ratios}; {captured_in_words(model)}"
