"""What a result is in Python: its text is what the command prints."""

from __future__ import annotations

import html
import io
from abc import ABC, abstractmethod
from pathlib import Path

from rich.console import Console

from splitdeconv.report.page import Page, write_page

WIDTH = 200  # of plain text; long reasons go on


class Printable(ABC):
    """A result with ``print(result)``, and a view in notebooks."""

    __slots__ = ()

    @abstractmethod
    def show(self, out: Console) -> None:
        """Print it as the command does."""

    def summary(self) -> str:
        """What the command prints."""
        text = io.StringIO()
        self.show(Console(file=text, width=WIDTH, highlight=False))
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre style='overflow-x: auto; white-space: pre'>{html.escape(self.summary())}</pre>"


class Reportable(Printable):
    """A result with a page for people, too."""

    __slots__ = ()

    @abstractmethod
    def page(self) -> Page:
        """The page of :meth:`report`.

        Raises:
            MissingExtraError: a package of the extra ``report`` is not installed.
        """

    def report(self, path: str | Path) -> None:
        """Write the report for people, one self-contained HTML page.

        Raises:
            OutputError: it cannot be written there.
            MissingExtraError: a package of the extra ``report`` is not installed.
        """
        write_page(self.page(), Path(path))
