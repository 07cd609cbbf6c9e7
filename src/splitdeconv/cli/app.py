"""The typer application and what its commands share."""

from __future__ import annotations

from importlib import import_module

import typer
from rich.console import Console

app = typer.Typer(
    name="splitdeconv",
    help="Rewrite transposed convolutions exactly as ordinary convolutions, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

out = Console()
err = Console(stderr=True)

COMMANDS: tuple[str, ...] = ("simulate", "sweep")


def load_commands() -> None:
    """Import the modules of all commands, which register themselves on ``app``."""
    for name in COMMANDS:
        import_module(f"splitdeconv.cli.{name}")
