"""Reading TOML, and writing files whole or not at all."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splitdeconv.errors import InputError, OutputError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Name = tuple[str, Path | None]  # an argument of a command, and the file that it names


def check_names(read: Sequence[Name], written: Sequence[Name]) -> None:
    """Check, before any work, that no file is written twice and none that is read is written.

    Args:
        read, written: what a command reads and writes; None and ``-`` name no file.

    Raises:
        UsageError: two arguments name the same file.
    """
    taken = {path.resolve(): argument for argument, path in read if path is not None}
    for argument, path in written:
        if path is None or str(path) == "-":
            continue
        if (other := taken.get(path.resolve())) is not None:
            raise UsageError(f"{argument} {path}: is also the name of {other}; choose another one")
        taken[path.resolve()] = argument


@contextmanager
def staged(path: Path, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """A folder beside ``path`` to write into; what is in it moves beside ``path`` at the end, or goes away on an error.

    Args:
        path: the file that is being made; other files of the result move with it.
        inputs: files that must not be overwritten.

    Raises:
        OutputError: the folder is missing, not writable or full, or an input would be overwritten.
    """
    kept = {file.resolve() for file in inputs}
    if path.resolve() in kept:
        raise OutputError(f"{path}: is the input itself, which is never changed; choose another output name")
    if path.is_dir():
        raise OutputError(f"{path}: is a directory; wanted the name of a file")
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); wanted a folder to write in") from None
    try:
        yield folder
        made = sorted(folder.iterdir(), key=lambda file: file.name == path.name)
        for file in made:
            if (path.parent / file.name).resolve() in kept:
                raise OutputError(f"{path.parent / file.name}: belongs to the input; choose another output name")
        for file in made:
            file.replace(path.parent / file.name)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file.

    Raises:
        OutputError: it cannot be written there.
    """
    with staged(path) as folder:
        (folder / path.name).write_text(text, encoding="utf-8")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        InputError: it cannot be read, or is not TOML.
    """
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), wanted a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from None
    return tables
