"""``splitdeconv inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import splitdeconv
from splitdeconv import codec
from splitdeconv.cli import app as shared
from splitdeconv.cli.inputs import shapes
from splitdeconv.files import together
from splitdeconv.pipeline.inspect import Inspection
from splitdeconv.pipeline.request import SHAPE_HELP
from splitdeconv.report import listing
from splitdeconv.report.listing import Listing
from splitdeconv.report.numbers import count

MODEL_HELP = "An .onnx, .tflite or .pt2 file."


@shared.app.command(epilog="Example: `splitdeconv inspect model.onnx --input-shape x=1,3,224,224`")
def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A target to ask about each deconv. Repeatable.")
    ] = None,
    input_shape: Annotated[list[str] | None, typer.Option(metavar="NAME=SIZES", help=SHAPE_HELP)] = None,
    json: shared.Json = None,
) -> None:
    """Show the deconvs of a model: geometry, multiply-accumulates, share of the model. Nothing is written."""
    with together([("the model", model)], [("--json", json)]):
        found = splitdeconv.inspect(model, in_shapes=shapes(input_shape), targets=target or [])
        if json is not None:
            shared.emit_json(codec.run_to_json(found.record), json)
    if json is None or str(json) != "-":
        show(shared.console(), found)


def show(out: Console, found: Inspection) -> None:
    """The table, the sums, and what is left alone."""
    sites = found.findings.sites
    if sites:
        listing.show(out, _table(found))
        listing.say(out, _sums(found))
    else:
        listing.say(out, "no deconv that can be rewritten")
    for skipped in found.findings.skipped:
        listing.say(out, f"skipped '{skipped.site}' ({skipped.where}): {skipped.reason}")


def _table(found: Inspection) -> Listing:
    numbers = ("MACs", "NZP", "SD", "fewest")
    rows = []
    for site, choice in zip(found.findings.sites, found.plan.choices, strict=True):
        deconv = site.deconv
        native = deconv.native_macs()
        fewest = min([native, *(option.cost.macs for option in choice.options)])
        macs = (native, deconv.zero_insert_macs(), deconv.split_macs(), fewest)
        answers = (answer[site.id] or "runs it" for answer in found.answers.values())
        names = (" ".join(site.epilogue), str(choice.chosen))
        rows.append((site.id, deconv.describe(), *map(count, macs), *names, *answers))
    headers = ("site", "deconv", *numbers, "then", "generic choice", *found.answers)
    return Listing(headers, rows, numbers, headers[-1] if found.answers else "")


def _sums(found: Inspection) -> str:
    deconvs = [site.deconv for site in found.findings.sites]
    native = sum(deconv.native_macs() for deconv in deconvs)
    inserted = sum(deconv.zero_insert_macs() for deconv in deconvs)
    split = sum(deconv.split_macs() for deconv in deconvs)
    found_deconvs = "1 deconv" if len(deconvs) == 1 else f"{len(deconvs)} deconvs"
    text = (
        f"{found_deconvs}: {count(native)} MACs; with zeros inserted (NZP) {count(inserted)}, "
        f"split (SD) {count(split)}."
    )
    sets = "--input-shape sets them" if found.is_open else "the model computes them at run time"
    if any(None in deconv.in_sizes for deconv in deconvs):
        return text + f" Sizes marked ? count as 1; {sets}."
    other = found.record.other_macs
    if other is None:
        return text + f" The rest of the model has sizes that are not known; {sets}."
    return text + f" The deconvs are {native / (native + other):.1%} of the model's {count(native + other)} MACs."
