"""The paper's published figures, each with its source and how sure it is: ``published.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from splitdeconv import codec
from splitdeconv.errors import InputError, UsageError
from splitdeconv.files import read_toml

Status = Literal["confirmed", "recollected", "unknown"]


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """Published numbers that belong together.

    Attributes:
        name: key of :func:`published`.
        title: what is counted or measured, on what.
        unit: of every value; empty for ratios without a sign.
        status: ``confirmed`` was read in the source, ``recollected`` was not, ``unknown`` has no values.
        source: where the numbers stand.
        values: by network, size or bound.
    """

    name: str
    title: str
    unit: str
    status: Status
    source: str
    values: Mapping[str, float]

    def value(self, key: str) -> float | None:
        """One number, or None where the source does not give it."""
        return self.values.get(key)


_KEYS = {each.name for each in fields(PublishedFigure)}
WANTED = (
    f"wanted exactly the keys {', '.join(sorted(_KEYS))}: a name and a source that are not empty, a status of "
    f"{', '.join(get_args(Status))}, a table of numbers"
)


@cache
def all_published() -> Mapping[str, PublishedFigure]:
    """Every figure of ``published.toml`` by name."""
    return read_figures(Path(str(resources.files("splitdeconv.lab.paper") / "published.toml")))


def published(name: str) -> PublishedFigure:
    """One figure.

    Raises:
        UsageError: there is none of that name.
    """
    found = all_published()
    if name not in found:
        raise UsageError(f"no published figure is called '{name}'; there are {', '.join(found)}")
    return found[name]


def read_figures(path: Path) -> dict[str, PublishedFigure]:
    """The figures of a file.

    Raises:
        InputError: a key is missing or wrong; the message names the file, the figure and what was wanted.
    """
    entries = read_toml(path).get("figure")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path.name}: found no [[figure]], wanted at least one")
    found = [_figure(entry, f"{path.name}: figure {number}") for number, entry in enumerate(entries, 1)]
    by_name = {figure.name: figure for figure in found}
    if len(by_name) < len(found):
        raise InputError(f"{path.name}: two figures have the same name")
    return by_name


def _figure(entry: Any, where: str) -> PublishedFigure:
    figure = codec.from_object(PublishedFigure, entry, where, WANTED)
    if set(entry) != _KEYS or not figure.name or not figure.source:
        raise InputError(f"{where}: {WANTED}")
    if (figure.status == "unknown") != (not figure.values):
        raise InputError(f"{where}: an unknown figure has no values, every other one has some")
    return figure
