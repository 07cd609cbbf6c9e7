"""The typer application and what its commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from splitdeconv.cli import terminal
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError, UsageError
from splitdeconv.files import Name, write_text
from splitdeconv.results.bench import BenchRecord
from splitdeconv.results.record import RunRecord
from splitdeconv.version import __version__

app = typer.Typer(
    name="splitdeconv",
    help="Rewrite transposed convolutions exactly as ordinary convolutions, and prove it.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Record = TypeVar("Record", RunRecord, BenchRecord)

# In the order in which the help lists them. Each module registers its command.
COMMANDS = ("inspect", "convert", "bench", "report", "targets", "simulate", "sweep", "zoo", "reproduce")


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


def load_commands() -> None:
    """Import the modules of all commands, which register themselves on ``app``."""
    for name in COMMANDS:
        import_module(f"splitdeconv.cli.{name}")


def console() -> Console:
    """Where results go; without a terminal as wide plain text."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(width=200, highlight=False)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A progress line on a terminal; nothing elsewhere."""
    line = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=line, transient=True, disable=not line.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def show(stage: str, share: float) -> None:
            bar.update(task, description=stage, completed=share)

        yield show


def signed(record: Record, context: typer.Context) -> Record:
    """The record with the command line, which ``main`` puts into the context, in its provenance."""
    return replace(record, provenance=replace(record.provenance, arguments=context.obj or ()))


def emit_json(text: str, path: Path) -> None:
    """Write JSON to a file, or to the standard output for ``-``."""
    if str(path) == "-":
        terminal.write_json(text)
    else:
        write_text(path, text)


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """``NAME=VALUE`` arguments.

    Raises:
        UsageError: one of them has no ``=``.
    """
    found = {}
    for each in given:
        name, equals, value = each.rpartition("=")
        if not equals or not name or not value:
            raise UsageError(f"{option} {each}: wanted NAME=VALUE")
        found[name] = value
    return found


def named_files(option: str, given: Sequence[str] | None) -> list[Name]:
    """The files of ``NAME=FILE`` arguments."""
    return [(option, Path(file)) for file in pairs(option, given or []).values()]


def shapes(given: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,224,224`` arguments.

    Raises:
        UsageError: not a list of positive whole numbers.
    """
    found = {}
    for name, value in pairs("--input-shape", given).items():
        sizes = value.replace("x", ",").split(",")
        if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
            raise UsageError(f"--input-shape {name}={value}: wanted whole numbers such as 1,3,224,224")
        found[name] = tuple(int(size) for size in sizes)
    return found


def arrays(given: Sequence[str]) -> dict[str, Array]:
    """``NAME=file.npy`` arguments.

    Raises:
        InputError: a file that cannot be read as one array.
    """
    found = {}
    for name, value in pairs("--input", given).items():
        try:
            loaded = np.load(value, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{value}: cannot be read ({error}); wanted an array as numpy.save writes it") from None
        if not isinstance(loaded, np.ndarray):
            raise InputError(f"{value}: holds several arrays; wanted one, as numpy.save writes it")
        found[name] = loaded
    return found
