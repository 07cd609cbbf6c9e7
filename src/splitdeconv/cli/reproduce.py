"""``splitdeconv reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from splitdeconv.cli import app as shared
from splitdeconv.files import together
from splitdeconv.lab.paper.part import PaperSetting
from splitdeconv.lab.paper.reproduce import PARTS, ReproduceRequest, folder_of
from splitdeconv.lab.paper.reproduce import reproduce as run
from splitdeconv.report import listing

ONLY_HELP = f"Do only this part: {', '.join(PARTS)}. Repeatable."


@shared.app.command(epilog="Example: `splitdeconv reproduce paper --quick`")
def reproduce(
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="Folder for the report; an earlier run's results are taken up.")
    ],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and forms: a third of the time.")] = False,
    only: Annotated[list[str] | None, typer.Option(metavar="PART", help=ONLY_HELP)] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do everything again.")] = False,
    fst: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A trained style-transfer model (.onnx) for the pictures.")
    ] = None,
    json: shared.Json = None,
) -> None:
    """Make the paper's tables and figures again, ours beside theirs, as one page."""
    from splitdeconv.lab.paper import document  # noqa: PLC0415  # its packages are extras

    document.check()
    with together([("--fst", fst)], [("--json", json)]):
        pass  # the parts of the report appear one by one, so that a run that was cut off goes on where it was
    folder_of(out_dir)
    out = Console(stderr=True, highlight=False) if str(json) == "-" else shared.console()
    with shared.progress_bar() as progress:

        def say(line: str) -> None:
            listing.say(out, line)

        setting = PaperSetting(out_dir, quick=quick, fst=fst)
        finished = run(ReproduceRequest(setting, tuple(only or ()), fresh=fresh, progress=progress, say=say))
    report = document.write(out_dir, finished, quick=quick)
    parts = [each.part.name for each in finished]
    shared.emit_done("reproduce", [report], json, parts=parts, quick=quick)
    shared.say_done(f"report: {report}", json)
