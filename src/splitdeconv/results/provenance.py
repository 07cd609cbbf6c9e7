"""How a record came about: versions, system and time of this run."""

from __future__ import annotations

import platform
from datetime import datetime, timezone

import numpy as np

from splitdeconv.results.record import Provenance
from splitdeconv.version import __version__


def versions() -> dict[str, str]:
    """Of what computes in every run."""
    return {"splitdeconv": __version__, "python": platform.python_version(), "numpy": np.__version__}


def of_this_run() -> Provenance:
    """Of a record that is finished now; the command line adds its arguments."""
    finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Provenance((), versions(), platform.platform(), finished)
