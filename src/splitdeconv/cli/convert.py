"""``splitdeconv convert``."""

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
from splitdeconv.errors import VerificationError
from splitdeconv.files import together, write_text
from splitdeconv.pipeline.open import GENERIC
from splitdeconv.pipeline.request import ConvertRequest
from splitdeconv.report import listing, page
from splitdeconv.report.conversion import NOT_TIMED, rewritten
from splitdeconv.report.conversion import page as conversion_page
from splitdeconv.report.listing import Listing
from splitdeconv.report.numbers import count
from splitdeconv.results.plan import Choice
from splitdeconv.results.record import RunRecord
from splitdeconv.results.verdict import Verdict


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
            record = conversion.record
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
        show(shared.console(), record)


def _keep(record: RunRecord, json: Path | None, report: Path | None) -> None:
    """The record as files, for machines and for people; also that of a conversion that was not equal."""
    if json is not None:
        shared.emit_json(codec.run_to_json(record), json)
    if report is not None:
        page.write_page(conversion_page(record), report)


def show(out: Console, record: RunRecord) -> None:
    """The target where the user named none, the table of layers, the proof, and what the user should know."""
    if record.target_reason:
        listing.say(out, f"target: {record.plan.target} ({record.target_reason})")
    if record.plan.choices:
        rows = [
            (choice.site, choice.deconv.describe(), str(choice.chosen), *_cost(choice), choice.reason)
            for choice in record.plan.choices
        ]
        headers = ("site", "deconv", "lowering", "MACs", "convs", "why")
        listing.show(out, Listing(headers, rows, ("MACs", "convs"), "why"))
    for skipped in record.skipped:
        listing.say(out, f"skipped '{skipped.site}' ({skipped.where}): {skipped.reason}")
    for note in record.notes:
        listing.say(out, f"note: {note}")
    for line in proof_lines(record.verdict) if record.verdict is not None else ():
        listing.say(out, line)
    if record.output:
        listing.say(out, f"written: {record.output}")
    if record.plan.target == GENERIC and rewritten(record):
        listing.say(out, NOT_TIMED)


def _cost(choice: Choice) -> tuple[str, str]:
    for option in choice.options:
        if option.candidate == choice.chosen:
            return count(option.cost.macs), str(option.cost.convs)
    return "", ""


def proof_lines(verdict: Verdict) -> list[str]:
    """What was proved, and loudly what was not."""
    if verdict.skipped:
        return [
            f"NOT VERIFIED: {verdict.skipped}" if "user" in verdict.skipped else f"nothing to verify: {verdict.skipped}"
        ]
    exact = sum(proof.exact for proof in verdict.proofs)
    runner = verdict.proofs[0].where if verdict.proofs else ""
    lines = [f"verified: {exact} of {len(verdict.proofs)} sites bit-equal to the definition on {runner}"]
    if verdict.outputs:
        outputs = f"{len(verdict.outputs)} output{'s' if len(verdict.outputs) > 1 else ''}"
        lines.append(f"verified: {outputs} within the original's noise; worst: {verdict.worst()}")
        lines.extend(f"note: {note}" for note in verdict.notes)
    else:
        lines.extend(f"OUTPUTS NOT COMPARED: {note}" for note in verdict.notes)
    return lines
