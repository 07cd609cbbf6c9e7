"""``splitdeconv convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import splitdeconv
from splitdeconv import codec
from splitdeconv.cli import app as shared
from splitdeconv.cli.inputs import INPUT_HELP, SHAPE_HELP, arrays, named_files, pairs, shapes
from splitdeconv.cli.inspect import MODEL_HELP
from splitdeconv.cli.report import REPORT_HELP, check
from splitdeconv.errors import VerificationError
from splitdeconv.files import together, write_text
from splitdeconv.pipeline.open import AUTO, DEFAULT_SECONDS, GENERIC
from splitdeconv.report import listing, page
from splitdeconv.report.conversion import NOT_TIMED, rewritten
from splitdeconv.report.conversion import page as conversion_page
from splitdeconv.report.listing import Listing
from splitdeconv.report.numbers import count
from splitdeconv.results.plan import Choice
from splitdeconv.results.record import RunRecord
from splitdeconv.results.verdict import Verdict

TARGET_HELP = "What the model is for; auto: the installed runtime of its format; generic: by rule, nothing is measured."
NUMERICS_HELP = "exact, or fused (TFLite): drop rounding steps of the epilogue, and report the difference."


@shared.app.command(epilog="Example: `splitdeconv convert model.onnx out.onnx --report out.html`")
def convert(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Where to write the result.")],
    target: Annotated[str, typer.Option(metavar="NAME", help=TARGET_HELP)] = AUTO,
    lowering: Annotated[
        str, typer.Option(metavar="FORM", help="This lowering wherever it applies, instead of a choice.")
    ] = "",
    layer: Annotated[
        list[str] | None, typer.Option(metavar="SITE=FORM", help="SITE=LOWERING for one site. Repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Rewrite only sites that fit this pattern.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave sites that fit this pattern.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Take the choices from this plan file.")] = None,
    save_plan: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the choices to this plan file.")] = None,
    numerics: Annotated[str, typer.Option(metavar="NAME", help=NUMERICS_HELP)] = "exact",
    verify: Annotated[bool, typer.Option(help="Prove the result equal before it is written.")] = True,
    input: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help=INPUT_HELP)] = None,  # noqa: A002  # the option's name
    input_shape: Annotated[list[str] | None, typer.Option(metavar="NAME=SIZES", help=SHAPE_HELP)] = None,
    threads: Annotated[int, typer.Option(metavar="N", help="Worker threads of the target; 0 for its own choice.")] = 0,
    precision: Annotated[
        str, typer.Option(metavar="NAME", help="Arithmetic of the target, where it has a choice.")
    ] = "",
    budget: Annotated[float, typer.Option(metavar="SECONDS", help="Seconds for measuring.", min=0.1)] = DEFAULT_SECONDS,
    cache: Annotated[bool, typer.Option(help="Use and keep times of earlier runs.")] = True,
    json: shared.Json = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help=REPORT_HELP)] = None,
) -> None:
    """Rewrite every deconv of a model exactly as ordinary convolutions, prove it, and write the result."""
    read = [("the model", model), ("--plan", plan), *named_files(input)]
    written = [("OUT", out), ("--json", json), ("--save-plan", save_plan), ("--report", report)]
    check(report)
    failure = None
    with together(read, written):
        try:
            with shared.progress_bar() as progress:
                conversion = splitdeconv.convert(
                    model,
                    out,
                    target=target,
                    lowering=lowering,
                    layers=pairs("--layer", layer),
                    only=only or [],
                    skip=skip or [],
                    plan=plan,
                    inputs=arrays(input),
                    in_shapes=shapes(input_shape),
                    numerics=numerics,
                    verify=verify,
                    threads=threads,
                    precision=precision,
                    budget=budget,
                    cache=cache,
                    progress=progress,
                )
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
