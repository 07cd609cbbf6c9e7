"""What the parts of the reproduction have in common: steps that are kept, and how a part is made of them."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from splitdeconv.errors import MissingExtraError
from splitdeconv.lab.paper.result import Result
from splitdeconv.report.page import Kind
from splitdeconv.results.record import versions
from splitdeconv.targets import processor

Value = TypeVar("Value")
Progress = Callable[[str, float], None]
NOT_INSTALLED = "not installed"  # in place of a package's version


@dataclass(frozen=True, slots=True)
class PaperSetting:
    """What the whole run was asked for.

    Attributes:
        out: folder of the report.
        quick: less time for each measurement; the parts are the same.
        fst: the user's own style-transfer model, or None.
    """

    out: Path
    quick: bool = False
    fst: Path | None = None

    @property
    def models(self) -> Path:
        """Folder of the models that are made on the way."""
        return self.out / "models"


@dataclass(frozen=True, slots=True)
class PaperStep:
    """One thing that is counted, estimated or measured, and kept on disk.

    Attributes:
        name: of its file.
        kind: of its numbers.
        command: what gives the same numbers by hand.
        packages: distributions whose versions the numbers depend on, besides this one and NumPy.
        run: does it; told where progress is shown.
        holds: type of what it returns, as :mod:`splitdeconv.codec` writes and reads it.
        inputs: what else the numbers depend on: name → digest or setting.
        effort: whether ``--quick`` makes it shorter, so that a full run does it again.
        prepare: makes the files that ``run`` reads, while other steps' files are made; equal ones are made once. None
            where there is no such file.
    """

    name: str
    kind: Kind
    command: str
    packages: tuple[str, ...]
    run: Callable[[Progress], Any]
    holds: Any
    inputs: Mapping[str, str] = field(default_factory=dict)
    effort: bool = False
    prepare: Callable[[Progress], object] | None = None

    def environment(self) -> dict[str, str]:
        """Everything that must be the same for an earlier result to be taken up."""
        return environment(self.packages) | dict(self.inputs)

    def is_equipped(self) -> bool:
        """Whether all its packages are installed."""
        found = environment(self.packages)
        return all(found[package] != NOT_INSTALLED for package in self.packages)


@dataclass(frozen=True, slots=True)
class PaperPart:
    """One part of the report.

    Attributes:
        name: as ``--only`` takes it.
        title: its heading.
        text: what it shows, in a paragraph.
        steps: what it is made of.
        result: from what the steps have found, by name, to tables and charts.
    """

    name: str
    title: str
    text: str
    steps: Callable[[PaperSetting], Sequence[PaperStep]]
    result: Callable[[Mapping[str, Any]], Result]


def environment(packages: Sequence[str]) -> dict[str, str]:
    """Versions and processor, as they are recorded and compared."""
    found = {
        **versions(),
        "system": platform.system(),
        "processor": processor.name(),
        **{f"processor {key}": text for key, text in processor.description().items()},
    }
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = NOT_INSTALLED
    return found


@contextmanager
def needing(what: str, extra: str) -> Iterator[None]:
    """What is imported inside belongs to an extra, whose absence is one line.

    Raises:
        MissingExtraError: a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, error.name or extra, extra) from error


def single(
    name: str,
    title: str,
    text: str,
    kind: Kind,
    run: Callable[[Progress], Value],
    holds: Any,
    shown: Callable[[Value], Result],
) -> PaperPart:
    """A part of one step that needs no packages and no effort."""

    def steps(setting: PaperSetting) -> Sequence[PaperStep]:
        return (PaperStep(name, kind, f"splitdeconv reproduce {setting.out} --only {name}", (), run, holds),)

    return PaperPart(name, title, text, steps, lambda found: shown(found[name]))
