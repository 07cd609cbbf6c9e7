"""Silence for exporters, which write progress and remarks to both outputs, some of them from C++."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

_OUTPUTS = (1, 2)  # file descriptors of the standard output and the standard error


@contextmanager
def quiet() -> Iterator[None]:
    """Without anything on the standard outputs, and without warnings; errors are raised as ever."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in _OUTPUTS]
    with Path(os.devnull).open("w", encoding="utf-8") as null, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for number in _OUTPUTS:
                os.dup2(null.fileno(), number)
            with redirect_stdout(null), redirect_stderr(null):
                yield
        finally:
            for number, copy in zip(_OUTPUTS, kept, strict=True):
                os.dup2(copy, number)
                os.close(copy)
