"""From records to files for people. Nothing here measures; matplotlib is imported when something is drawn."""

from __future__ import annotations

from typing import Any

from splitdeconv.errors import MissingExtraError

KINDS = (".svg", ".png", ".pdf")


def load_pyplot() -> Any:
    """Matplotlib's ``pyplot``, drawing to files only.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415  # an extra, and slow to import

        mpl.use("Agg")
        import matplotlib.pyplot as plt  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("a plot", error.name or "matplotlib", "report") from error
    return plt
