"""Models of the zoo, for the parts that run whole networks."""

from __future__ import annotations

from pathlib import Path

SEED = 0


def zoo_model(name: str, path: Path, dtype: str = "float32", plain: Path | None = None) -> None:
    """Write one of the six networks with seed weights; the format goes by the ending of ``path``.

    Args:
        plain: its float32 file, if there is one; only an int8 model is made of it.

    Raises:
        MissingExtraError: what exports it is not installed.
    """
    from splitdeconv import zoo  # noqa: PLC0415  # needs torch, an extra

    zoo.export(name, path, dtype=dtype, seed=SEED, plain=plain)


def trained_model() -> Path:
    """The trained generator that comes with the package, as ONNX."""
    from splitdeconv import zoo  # noqa: PLC0415  # as above

    return zoo.trained()
