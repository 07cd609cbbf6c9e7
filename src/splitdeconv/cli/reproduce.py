"""``splitdeconv reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitdeconv.cli import app as shared
from splitdeconv.lab.paper.part import PaperSetting
from splitdeconv.lab.paper.reproduce import PARTS, ReproduceRequest, folder_of
from splitdeconv.lab.paper.reproduce import reproduce as run

ONLY_HELP = f"Do only this part: {', '.join(PARTS)}. Repeatable."


@shared.app.command()
def reproduce(
    out_dir: Annotated[Path, typer.Argument(help="Folder for the report; an earlier run's results are taken up.")],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds and forms: a third of the time.")] = False,
    only: Annotated[list[str] | None, typer.Option(help=ONLY_HELP)] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do everything again.")] = False,
    fst: Annotated[Path | None, typer.Option(help="A trained style-transfer model (.onnx) for the pictures.")] = None,
) -> None:
    """Make the paper's tables and figures again, ours beside theirs, as one page."""
    from splitdeconv.lab.paper import document  # noqa: PLC0415  # its packages are extras

    document.check()
    folder_of(out_dir)
    out = shared.console()
    with shared.progress_bar() as progress:

        def say(line: str) -> None:
            out.print(line, soft_wrap=True, markup=False)

        setting = PaperSetting(out_dir, quick=quick, fst=fst)
        finished = run(ReproduceRequest(setting, tuple(only or ()), fresh=fresh, progress=progress, say=say))
    report = document.write(out_dir, finished, quick=quick)
    out.print(f"report: {report}", soft_wrap=True, markup=False)
