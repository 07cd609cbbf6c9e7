"""Commands run in this process, and what they leave on the terminal and on disk as text that another run repeats."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tests.guards.meaning import meaning

# Before the command line is imported: some libraries read these once.
os.environ.update(COLUMNS="200", TERMINAL_WIDTH="200", NO_COLOR="1", TERM="dumb")
os.environ.pop("FORCE_COLOR", None)

# What depends on the machine or on the day, in records and on the terminal.
_DROPPED = ("versions", "processor", "system", "finished", "rounds_ms")
_ERRORS = ("before", "after", "bound")
_REPLACED = (
    (r"^INFO: .*\n", ""),
    (r"worst: .*", "worst: <error>"),
    (r"\d+(\.\d+)?e[-+]\d+", "<error>"),
    (r"moves by \d+%", "moves by <error>"),
    (r"installed: .*", "installed"),
    (r"splitdeconv \d+\.\d+\S*", "splitdeconv <version>"),
    (r"[ \t]+$", ""),
)


@contextmanager
def workplace() -> Iterator[Path]:
    """An empty folder, current while it lasts, with a cache of its own."""
    before, cache = Path.cwd(), os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as own:
        os.environ["XDG_CACHE_HOME"] = own
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)
            os.environ.pop("XDG_CACHE_HOME")
            if cache is not None:
                os.environ["XDG_CACHE_HOME"] = cache


def run(arguments: Sequence[str]) -> tuple[int | str, str, str]:
    """Exit code (or the exception that came out), standard output and standard error of one command."""
    from splitdeconv.cli import main  # noqa: PLC0415  # after the environment above

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _redirected(1, out), _redirected(2, err):
            try:
                code: int | str = main(list(arguments))
            except Exception as error:  # a crash is an outcome too
                code = "".join(traceback.format_exception_only(error)).strip()
        return code, _text(out), _text(err)


@contextmanager
def _redirected(number: int, to: BinaryIO) -> Iterator[None]:
    """A file descriptor sent elsewhere, so that native libraries are heard too."""
    stream = {1: sys.stdout, 2: sys.stderr}[number]
    stream.flush()
    saved = os.dup(number)
    os.dup2(to.fileno(), number)
    try:
        yield
    finally:
        stream.flush()
        os.dup2(saved, number)
        os.close(saved)


def _text(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode()


def transcript(arguments: Sequence[str]) -> str:
    """One command in the current folder: exit code, output, and the files that it wrote, which are then removed."""
    known = set(_files())
    code, out, err = run(arguments)
    parts = [f"$ splitdeconv {' '.join(arguments)}", f"exit code {code}", "[stdout]", repeatable(out.rstrip())]
    parts += ["[stderr]", repeatable(err.rstrip())]
    for path in sorted(set(_files()) - known):
        parts += [f"[{path}]", _described(path)]
        path.unlink()
    return normal("\n".join(parts)) + "\n"


def _files() -> Iterator[Path]:
    return (path for path in Path().rglob("*") if path.is_file())


def _described(path: Path) -> str:
    """JSON as it is but for what changes from run to run; of other files the digest, and the operators of models."""
    if path.suffix == ".json":
        return repeatable(path.read_text("utf-8"))
    return digest(path)


def digest(path: Path) -> str:
    """Size, SHA-256, and of models a digest of what they compute, and their operators."""
    content = path.read_bytes()
    found = f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"
    return f"{found} {meaning(path)} {_operators(path)}".rstrip()


def _operators(path: Path) -> str:
    """How often each operator occurs, bodies and functions not counted; only a hint at what a digest hides."""
    names: Counter[str] = Counter()
    if path.suffix == ".onnx":
        import onnx  # noqa: PLC0415  # slow to import

        names.update(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    elif path.suffix == ".tflite":
        from tests.guards.tflite_corpus import operators  # noqa: PLC0415  # slow to import

        names.update(operators(path.read_bytes()))
    return ", ".join(f"{name} {number}" for name, number in sorted(names.items()))


def repeatable(text: str) -> str:
    """JSON without what changes from run to run; other text as it is."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    with suppress(ValueError):
        return json.dumps(_steady(json.loads(text)), indent=1, ensure_ascii=False)
    return text


def _steady(found: Any) -> Any:
    if isinstance(found, dict):
        kept = {key: value for key, value in found.items() if key not in _DROPPED and not _of_machine(key, value)}
        return {key: _value(key, value) for key, value in kept.items()}
    return [_steady(each) for each in found] if isinstance(found, list) else found


def _of_machine(key: str, value: Any) -> bool:
    """Whether these are the options of an environment, which describe the processor; those of a choice are a list."""
    return key == "options" and isinstance(value, dict)


def _value(key: str, value: Any) -> Any:
    return "<error>" if key in _ERRORS and isinstance(value, float) else _steady(value)


def normal(text: str) -> str:
    """The text without what the machine, the day or the folder decides."""
    text = text.replace(str(Path.cwd()), "<folder>")
    for pattern, replacement in _REPLACED:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    return text
