"""Reading text, JSON and TOML, and writing files whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from splitdeconv.errors import InputError, OutputError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Name = tuple[str, Path | None]  # an argument of a command, and the file that it names

_FOLDER = ".splitdeconv-"  # how a folder begins in which a result is made
_DEVICE = "device or a pipe"
_JSON = "--json"  # the one argument whose ``-`` is the standard output


class _Command:
    """What one command writes: its names, and what was made and moves to its places when all is done."""

    def __init__(self, written: Sequence[Name] = ()) -> None:
        self._arguments = {_identity(path): argument for argument, path in written if path is not None}
        self._folders: list[Path] = []
        self._moves: list[tuple[Path, Path]] = []

    def __enter__(self) -> _Command:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                _move(self._moves)
        finally:
            for folder in self._folders:
                shutil.rmtree(folder, ignore_errors=True)

    def protect(self, files: Iterable[Path]) -> None:
        for file in files:
            if (argument := self._arguments.get(_identity(file))) is not None:
                raise UsageError(f"{argument} {file}: belongs to the model, which is never changed; choose another one")

    def new_folder(self, path: Path) -> Path:
        self._folders.append(folder := _new_folder(path))
        return folder

    def take(self, folder: Path, path: Path, kept: Collection[object]) -> None:
        """Move what was made in ``folder`` to ``path`` and beside it at the end, ``path`` itself last."""
        place = Path(os.path.realpath(path))
        moves = [
            (made, place if made == folder / path.name else place.parent / made.relative_to(folder))
            for made in sorted(folder.rglob("*"), key=lambda made: made == folder / path.name)
            if made.is_file()
        ]
        for _, to in moves:
            if _identity(to) in kept:
                raise OutputError(f"{to}: belongs to the input; choose another output name")
        self._moves += moves


_current: ContextVar[_Command | None] = ContextVar("_current", default=None)


@contextmanager
def together(read: Sequence[Name], written: Sequence[Name]) -> Iterator[None]:
    """Check all names of a command before its work; what is written inside the ``with`` appears at its end, or nothing.

    Args:
        read, written: the files; None names none, and ``--json -`` is the standard output.

    Raises:
        UsageError: two arguments name the same file, however they spell it.
        InputError: what is read is a device or a pipe.
        OutputError: what is written has no place there.
    """
    files = [(argument, path) for argument, path in written if (argument, str(path)) != (_JSON, "-")]
    _check_names(read, files)
    with _Command(files) as command:
        token = _current.set(command)
        try:
            yield
        finally:
            _current.reset(token)


def protect(files: Iterable[Path]) -> None:
    """Check that the command under way, if any, writes none of the ``files``, which belong to a model that it reads.

    Raises:
        UsageError: it does.
    """
    if (command := _current.get()) is not None:
        command.protect(files)


def _check_names(read: Sequence[Name], written: Sequence[Name]) -> None:
    taken: dict[object, str] = {}
    for argument, path in read:
        if path is not None:
            _check_text(argument, path)
            with suppress(OSError):  # whoever reads it says what is wrong with it
                if _obstacle(path) == _DEVICE:
                    raise InputError(f"{argument} {path}: is a {_DEVICE}; wanted a file")
            taken[_identity(path)] = argument
    for argument, path in written:
        if path is None:
            continue
        _check_text(argument, path)
        if str(path) == "-":
            raise UsageError(f"{argument} -: only {_JSON} can go to the standard output; wanted the name of a file")
        if (other := taken.get(_identity(path))) is not None:
            raise UsageError(f"{argument} {path}: is also the name of {other}; choose another one")
        taken[_identity(path)] = argument
        shutil.rmtree(_new_folder(path))


def _check_text(argument: str, path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UsageError(f"{argument} {path}: the name is not UTF-8, as runtimes want it; rename it") from None


def _identity(path: Path) -> object:
    """What all spellings of a file's name share, links followed."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def _new_folder(path: Path) -> Path:
    """An empty folder in the place where ``path`` is to be written.

    Raises:
        OutputError: no file can be written there.
    """
    place = Path(os.path.realpath(path))
    try:
        if found := _obstacle(place):
            raise OutputError(f"{path}: is a {found}; wanted the name of a file")
        return Path(tempfile.mkdtemp(prefix=_FOLDER, dir=place.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); wanted a folder to write in") from None


def _obstacle(place: Path) -> str:
    """What stands at ``place`` that is no file, or nothing."""
    try:
        mode = place.stat().st_mode
    except FileNotFoundError:
        return ""
    if stat.S_ISDIR(mode):
        return "directory"
    return "" if stat.S_ISREG(mode) else _DEVICE


@contextmanager
def staged(path: Path, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """A folder beside ``path`` to write into; what is in it moves beside ``path`` at the end, or goes away on an error.

    Inside :func:`together` it moves when all of the command is done.

    Args:
        path: the file that is being made, links followed; other files of the result move with it.
        inputs: files that must not be overwritten.

    Raises:
        OutputError: the folder is missing, not writable or full, or an input would be overwritten.
    """
    kept = {_identity(file) for file in inputs}
    if _identity(path) in kept:
        raise OutputError(f"{path}: is the input itself, which is never changed; choose another output name")
    with nullcontext(current) if (current := _current.get()) else _Command() as command:
        folder = command.new_folder(path)
        try:
            yield folder
            command.take(folder, path, kept)
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None


def _move(moves: Iterable[tuple[Path, Path]]) -> None:
    """Move files to their places; if one cannot be moved, all are as they were.

    Raises:
        OutputError: one of them cannot be moved.
    """
    done: list[tuple[Path, Path]] = []
    for made, place in moves:
        before = made.with_name(made.name + ".before")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _keep(place, before)
            made.replace(place)
        except OSError as error:
            for kept, moved in reversed(done):
                _restore(kept, moved)
            raise OutputError(f"{place}: cannot be written ({error.strerror})") from None
        done.append((before, place))


def _keep(place: Path, before: Path) -> None:
    """Keep what stands at ``place``, if anything does, as ``before``."""
    if not place.exists():
        return
    try:
        os.link(place, before)
    except OSError:  # some file systems have no links
        shutil.copyfile(place, before)


def _restore(before: Path, place: Path) -> None:
    with suppress(OSError):  # as much as can be
        if before.exists():
            before.replace(place)
        else:
            place.unlink()


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless they are there.

    Raises:
        OutputError: it cannot be made there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made ({error.strerror}); wanted a folder to write in") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file; what is no character (a name that is not UTF-8) becomes an escape.

    Raises:
        OutputError: it cannot be written there.
    """
    with staged(path) as folder:
        (folder / path.name).write_text(text, encoding="utf-8", errors="backslashreplace")


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        InputError: it cannot be read, or is not TOML.
    """
    wanted = "wanted a TOML file"
    try:
        tables: dict[str, Any] = tomllib.loads(read_text(path, wanted))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: is not TOML ({error}); {wanted}") from None
    return tables


def read_text(path: Path, wanted: str) -> str:
    """The text of a file.

    Args:
        wanted: ends the message.

    Raises:
        InputError: it cannot be read, or is not text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot be read ({reason}); {wanted}") from None


def parse_json(text: str, source: str, wanted: str) -> Any:
    """The values in a JSON text.

    Args:
        source: where it comes from.
        wanted: ends the message.

    Raises:
        InputError: it is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: is not JSON ({error}); {wanted}") from None
