"""A command of the user's that runs one model on whatever it drives, and tells the times."""

from __future__ import annotations

import hashlib
import math
import os
import re
import shlex
import signal
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import count, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import CompileError, UsageError
from splitdeconv.files import read_toml
from splitdeconv.measuring.rounds import DROP_RATIO, Progress, reported
from splitdeconv.results.record import Environment
from splitdeconv.results.times import NO_SECONDS, Measurement, Untimed
from splitdeconv.targets import processor
from splitdeconv.targets.target import Compiled, Key, Target
from splitdeconv.workers.serve import one_line

PATIENCE_S = 600.0  # for one model: copying it to a device, compiling it there, and all its rounds
MODEL, INPUTS, OUTPUTS = "{model}", "{inputs}", "{outputs}"
_PLACE = re.compile("|".join((MODEL, INPUTS, OUTPUTS)))
WANTED = "wanted the milliseconds of its rounds, one a line"
_FIELDS = "run = 'program {model}' and, if need be, formats = ['onnx'] and timeout_s = 60"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user says of a command; the fields are those of the TOML file.

    Attributes:
        run: program and arguments, with ``{model}``, and ``{inputs}`` and ``{outputs}`` where it takes them.
        formats: of the models that it takes.
        timeout_s: longest wait for one run, in seconds.
    """

    run: str
    formats: tuple[str, ...] = ("onnx", "tflite", "torch")
    timeout_s: float = PATIENCE_S


class Command(Target):
    """``command:./run.sh {model} {inputs} {outputs}``, or ``command:FILE.toml`` with the keys of :class:`Settings`.

    The command prints the milliseconds of its rounds, one a line. Where it has ``{outputs}``, that is a name for an
    ``.npz`` file of the outputs if they are asked for, and empty if not; without it the numbers of the proof come from
    the format's own runtime. What stands before the first place, called with ``--describe``, may
    print what it drives.
    """

    def __init__(self, option: str = "", *, threads: int = 0) -> None:
        settings = _settings(option)
        self._arguments = _arguments(settings.run)
        self._program = list(takewhile(lambda each: not _PLACE.search(each), self._arguments))
        self._timeout_s = settings.timeout_s
        self._folder = TemporaryDirectory(prefix="splitdeconv-")
        self._numbers = count()
        self._threads = threads
        self.name = f"command:{option}"
        self.formats = tuple(settings.formats)
        self.gives_outputs = any(OUTPUTS in each for each in self._arguments)

    def environment(self) -> Environment:
        return Environment(
            target=self.name,
            versions={},
            processor=self._described or processor.name(),
            threads=self._threads,
            options={"program": _digest(self._program), **processor.description()},
        )

    @cached_property
    def _described(self) -> str:
        """What the command says of itself, or nothing."""
        try:
            return " ".join(_run([*self._program, "--describe"], self._environment(), self._timeout_s).split())
        except CompileError:
            return ""

    def _environment(self) -> dict[str, str]:
        """Variables of the command."""
        return {**os.environ, "SPLITDECONV_THREADS": str(self._threads)}

    def compile(self, model: Compilable, *, whole: bool = False) -> Compiled:
        content = model.content
        path = self._file(_suffix(content)) if isinstance(content, bytes) else content
        if isinstance(content, bytes):
            path.write_bytes(content)
        return CommandModel(path, self)

    def _file(self, suffix: str) -> Path:
        return Path(self._folder.name, f"{next(self._numbers)}{suffix}")

    def call(self, model: Path, inputs: Path, outputs: Path | None) -> str:
        """What the command prints about one model.

        Raises:
            CompileError: it fails, dies, or takes too long.
        """
        given = {MODEL: str(model), INPUTS: str(inputs), OUTPUTS: str(outputs or "")}
        arguments = [_filled(each, given) for each in self._arguments]
        return _run(arguments, self._environment(), self._timeout_s)

    def measure(
        self,
        models: Mapping[Key, Compiled],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        progress: Progress | None = None,
        drop: float = DROP_RATIO,
    ) -> dict[Key, Measurement | Untimed]:
        """Each round of a model is one run of the command, by the median of what it prints."""
        stored = _stored(inputs, self._file(".npz"))
        runs: dict[Key, Callable[[], float]] = {}
        for key, compiled in models.items():
            assert isinstance(compiled, CommandModel), "only what this target compiled"
            runs[key] = partial(compiled.nanoseconds, stored)
        return dict.fromkeys(models, NO_SECONDS) | reported(runs, seconds, progress=progress, drop=drop)


class CommandModel:
    """A model as a file for the command."""

    def __init__(self, path: Path, command: Command) -> None:
        self._path, self._command = path, command

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs that the command leaves."""
        with TemporaryDirectory(prefix="splitdeconv-") as folder:
            outputs = Path(folder, "outputs.npz")
            self._command.call(self._path, _stored(inputs, Path(folder, "inputs.npz")), outputs)
            return _outputs(outputs)

    def nanoseconds(self, inputs: Path) -> float:
        """Time of one run, the median of what the command prints.

        Raises:
            CompileError: it fails, or prints no times.
        """
        return 1e6 * statistics.median(_milliseconds(self._command.call(self._path, inputs, None)))


def _settings(option: str) -> Settings:
    """What ``option`` says, or the file that it names.

    Raises:
        InputError: the file cannot be read.
        UsageError: it has other keys or values.
    """
    if not option.endswith(".toml"):
        return Settings(option)
    try:
        settings = Settings(**read_toml(Path(option)))
    except TypeError as error:
        raise UsageError(f"{option}: {one_line(error)}; wanted {_FIELDS}") from None
    types = ((settings.run, str), (settings.formats, list | tuple), (settings.timeout_s, int | float))
    if not all(isinstance(value, wanted) for value, wanted in types) or settings.timeout_s <= 0:
        raise UsageError(f"{option}: wanted {_FIELDS}")
    return settings


def _arguments(run: str) -> list[str]:
    """Program and arguments.

    Raises:
        UsageError: they do not say where the model goes.
    """
    try:
        arguments = shlex.split(run)
    except ValueError as error:
        raise UsageError(f"target 'command': {run}: {error}") from None
    if not any(MODEL in each for each in arguments):
        example = f"command:./run.sh {MODEL} {INPUTS} {OUTPUTS}"
        found = f"'{run}' does not say where the model goes" if run else "needs your program"
        raise UsageError(f"target 'command': {found}; wanted '{example}'")
    return arguments


def _filled(argument: str, given: Mapping[str, str]) -> str:
    for name, value in given.items():
        argument = argument.replace(name, value)
    return argument


def _suffix(model: bytes) -> str:
    """The suffix of a model by what it begins with."""
    if model[4:8] == b"TFL3":
        return ".tflite"
    return ".pt2" if model[:2] == b"PK" else ".onnx"


def _digest(program: Sequence[str]) -> str:
    """A digest of the files that make a program, so that another version of it finds no times of this one."""
    files = [Path(each) for each in program if Path(each).is_file()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _run(arguments: Sequence[str], environment: Mapping[str, str], timeout_s: float) -> str:
    """What a command prints.

    Raises:
        CompileError: it does not start, fails, dies, or takes longer than ``timeout_s``.
    """
    try:
        process = subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            env=environment, start_new_session=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise CompileError(f"the command does not start: {one_line(error)}") from None
    try:
        printed, complaint = process.communicate(timeout=timeout_s)
    except BaseException as error:  # an interruption, too, must not leave it running
        _end(process)
        if isinstance(error, subprocess.TimeoutExpired):
            raise CompileError(f"the command gave no answer within {timeout_s:g} s") from None
        raise
    if process.returncode:
        raise CompileError(f"the command {_ending(process.returncode)}: {_last_line(complaint or printed)}")
    return printed


def _end(process: subprocess.Popen[str]) -> None:
    """End a command and what it has started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):  # it ended in this moment
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.communicate()


def _ending(code: int) -> str:
    return f"died ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def _milliseconds(printed: str) -> list[float]:
    """The times in what the command prints.

    Raises:
        CompileError: a line is no time, or there is none.
    """
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    if not lines:
        raise CompileError(f"the command printed nothing; {WANTED}")
    times = []
    for line in lines:
        try:
            times.append(float(line))
        except ValueError:
            raise CompileError(f"the command printed '{line[:80]}'; {WANTED}") from None
        if not 0 < times[-1] < math.inf:
            raise CompileError(f"the command printed {line}, which is no time; {WANTED}")
    return times


def _stored(inputs: Mapping[str, Array], path: Path) -> Path:
    """``path``, which holds the inputs now."""
    np.savez(path, **{name: np.asarray(values) for name, values in inputs.items()})  # type: ignore[arg-type]
    return path


def _outputs(path: Path) -> dict[str, Array]:
    """The arrays that the command left.

    Raises:
        CompileError: it left none, or no such file.
    """
    if not path.exists():
        raise CompileError("the command left no outputs; wanted an .npz file")
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: np.asarray(stored[name]) for name in stored.files}
    except Exception:  # numpy's readers share no base class
        raise CompileError("the command left outputs that are no .npz file of numbers") from None
    if not found:
        raise CompileError("the command left an .npz file without arrays")
    return found
