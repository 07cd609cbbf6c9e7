"""The paper's published figures, each with its source and how sure it is: ``published.toml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

from splitdeconv.errors import InputError, UsageError
from splitdeconv.files import read_toml

Status = Literal["confirmed", "recollected", "unknown"]
STATUSES: tuple[Status, ...] = ("confirmed", "recollected", "unknown")
_KEYS = {"name", "title", "unit", "status", "source", "values"}


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
    figures = [_figure(entry, f"{path.name}: figure {number}") for number, entry in enumerate(_entries(path), 1)]
    found = {figure.name: figure for figure in figures}
    if len(found) < len(figures):
        raise InputError(f"{path.name}: two figures have the same name")
    return found


def _entries(path: Path) -> list[Any]:
    entries = read_toml(path).get("figure")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path.name}: found no [[figure]], wanted at least one")
    return entries


def _figure(entry: Any, where: str) -> PublishedFigure:
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        raise InputError(f"{where}: wanted exactly the keys {', '.join(sorted(_KEYS))}")
    texts = {key: entry[key] for key in _KEYS - {"values"}}
    values = entry["values"]
    if not all(isinstance(text, str) for text in texts.values()) or not texts["name"] or not texts["source"]:
        raise InputError(f"{where}: wanted texts, and a name and a source that are not empty")
    if texts["status"] not in STATUSES:
        raise InputError(f"{where}: status is '{texts['status']}', wanted one of {', '.join(STATUSES)}")
    if not isinstance(values, dict) or not all(type(number) in (int, float) for number in values.values()):
        raise InputError(f"{where}: values: wanted a table of numbers")
    if (texts["status"] == "unknown") != (not values):
        raise InputError(f"{where}: an unknown figure has no values, every other one has some")
    numbers = {str(key): float(number) for key, number in values.items()}
    status = cast("Status", texts["status"])
    return PublishedFigure(texts["name"], texts["title"], texts["unit"], status, texts["source"], numbers)
