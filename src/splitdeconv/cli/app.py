"""The typer application and what its commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from importlib import import_module
from json import dumps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from splitdeconv import __version__
from splitdeconv.cli import terminal
from splitdeconv.files import write_text
from splitdeconv.pipeline.open import quiet
from splitdeconv.report.listing import say
from splitdeconv.results.bench import BenchRecord
from splitdeconv.results.record import RunRecord
from splitdeconv.results.schema import SCHEMA_VERSION

HELP = ["-h", "--help"]

app = typer.Typer(
    name="splitdeconv",
    help="Rewrite transposed convolutions exactly as ordinary convolutions, and prove it.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": HELP},
)

Record = TypeVar("Record", bound=RunRecord | BenchRecord)

# In the order in which the help lists them. Each module registers its command.
COMMANDS = (
    "inspect",
    "convert",
    "restore",
    "bench",
    "report",
    "targets",
    "simulate",
    "sweep",
    "zoo",
    "reproduce",
    "demo",
)

Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the record as JSON to this file (- for the standard output)."),
]


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"splitdeconv {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", is_eager=True, callback=_show_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error, with any command.")] = False,
) -> None:
    """What stands before a command; ``main`` looks for ``--debug`` itself, so that it is in force everywhere."""


@cache
def command_line() -> Any:
    """All commands, whose modules register themselves on ``app``; made once, because typer reads all types anew."""
    for name in COMMANDS:
        import_module(f"splitdeconv.cli.{name}")
    command: Any = typer.main.get_command(app)
    command.commands = {name: command.commands[name] for name in COMMANDS}  # modules import each other
    _show_no_types(command)
    return command


def _show_no_types(command: Any) -> None:
    """Show no ``<bool>`` behind the flags of a command and of those in it, and no ``<path>`` behind ``MODEL``."""
    for each in command.get_params(typer.Context(command, help_option_names=HELP)):
        if getattr(each, "is_flag", False):
            each.metavar = ""
        elif each.param_type_name == "argument":
            each.display_type_rich = _no_type
    for inner in getattr(command, "commands", {}).values():
        _show_no_types(inner)


def _no_type(**_: object) -> str:
    return ""


def console() -> Console:
    """Where results go; without a terminal as wide plain text."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=200, highlight=False)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A progress line on a terminal; nothing elsewhere."""
    line = Console(stderr=True)
    if not line.is_terminal:  # where rich below 15 writes an empty line, even if it is disabled
        yield quiet
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=line, transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def show(stage: str, share: float) -> None:
            bar.update(task, description=stage, completed=share)

        yield show


def signed(record: Record, context: typer.Context) -> Record:
    """The record with the command line, which ``main`` puts into the context, in its provenance."""
    return replace(record, provenance=replace(record.provenance, arguments=context.obj or ()))


def emit_done(command: str, outputs: Sequence[Path], json: Path | None, **more: object) -> None:
    """What a command has written, as JSON if that is wanted."""
    record = {"schema": SCHEMA_VERSION, "command": command, "outputs": [str(path) for path in outputs], **more}
    if json is not None:
        emit_json(dumps(record, indent=2, ensure_ascii=False) + "\n", json)


def say_done(line: str, json: Path | None) -> None:
    """The same as a line, when the files have their places; nothing where JSON has the standard output."""
    if str(json) != "-":
        say(console(), line)


def emit_json(text: str, path: Path) -> None:
    """Write JSON to a file, or to the standard output for ``-``."""
    if str(path) == "-":
        terminal.write_json(text)
    else:
        write_text(path, text)
