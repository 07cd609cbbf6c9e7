"""Models that are made on the way: those of the zoo, and where they are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from splitdeconv.lab.paper.part import environment

SEED = 0


def digest(packages: Sequence[str]) -> str:
    """A short text that is another one for other versions of ``packages``, for names of files made by them."""
    versions = sorted(environment(packages).items())
    return hashlib.sha256(repr((versions, SEED)).encode()).hexdigest()[:8]


def zoo_model(name: str, path: Path, dtype: str = "float32", plain: Path | None = None) -> None:
    """Write one of the six networks with seed weights; the format goes by the ending of ``path``.

    Args:
        plain: its float32 file, if there is one; only an int8 model is made of it.

    Raises:
        MissingExtraError: what exports it is not installed.
    """
    from splitdeconv.lab import zoo  # noqa: PLC0415  # needs torch, an extra

    zoo.export(name, path, dtype=dtype, seed=SEED, plain=plain)


def trained_model() -> Path:
    """The trained generator that comes with the package, as ONNX."""
    from splitdeconv.lab import zoo  # noqa: PLC0415  # as above

    return zoo.trained()
