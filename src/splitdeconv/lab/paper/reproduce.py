"""The run: every wanted step once, what is there taken up, and all of it written as tables, charts and one page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from splitdeconv import plugins
from splitdeconv.errors import InputError, SplitdeconvError, UsageError
from splitdeconv.files import make_folder
from splitdeconv.lab.paper import store
from splitdeconv.lab.paper.child import CHILDREN
from splitdeconv.lab.paper.part import PaperPart, PaperSetting, PaperStep, Progress
from splitdeconv.lab.paper.result import Result
from splitdeconv.lab.paper.store import StoredStep
from splitdeconv.targets.target import CompileError

PARTS = {
    "counts": "splitdeconv.lab.paper.counts:PART",
    "parameters": "splitdeconv.lab.paper.parameters:PART",
    "simulated": "splitdeconv.lab.paper.simulated:PART",
    "ssim": "splitdeconv.lab.paper.similarity:PART",
    "efficiency": "splitdeconv.lab.paper.efficiency:PART",
    "commodity": "splitdeconv.lab.paper.commodity:PART",
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ReproduceRequest:
    """What to reproduce.

    Attributes:
        setting: folder, effort and the user's own model.
        only: names of parts; none means all.
        fresh: measure again what is there.
        progress: told what is going on and the share of the step that is done.
        say: told one line for each step when it is done.
    """

    setting: PaperSetting
    only: tuple[str, ...] = ()
    fresh: bool = False
    progress: Progress = lambda _stage, _share: None
    say: Say = lambda _line: None


@dataclass(frozen=True, slots=True)
class Finished:
    """One part with everything that it is traced by.

    Attributes:
        part: which.
        result: tables, charts and pictures.
        steps: what it was made of.
        left_out: what was not done, and why; one sentence each.
    """

    part: PaperPart
    result: Result
    steps: tuple[StoredStep, ...]
    left_out: tuple[str, ...]


def reproduce(request: ReproduceRequest) -> tuple[Finished, ...]:
    """Do the wanted parts; the parts that are not wanted come along as far as earlier runs made them.

    What is not timed is done first, several at once; then what is timed, one after the other on an idle machine.

    Raises:
        UsageError: no such part.
        OutputError: the folder cannot be written.
    """
    for name in request.only:
        if name not in PARTS:
            raise UsageError(f"--only {name}: no such part; there are {', '.join(PARTS)}")
    tasks = []
    for name in PARTS:
        part: PaperPart = plugins.load("part", name, PARTS)
        steps = part.steps(request.setting)
        wanted = not request.only or name in request.only
        tasks += [
            _Task(part, step, f"{name} {number}/{len(steps)}: {step.name}", wanted)
            for number, step in enumerate(steps, start=1)
        ]
    untimed = _untimed(tasks, request)
    outcomes = {task: untimed[task] if task in untimed else _outcome(task, request) for task in tasks}
    finished = (_finished(part, found) for part, found in _by_part(outcomes).items())
    return tuple(each for each in finished if each.steps or each.left_out)


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """A step with the words under which it is shown, and whether it was asked for."""

    part: PaperPart
    step: PaperStep
    where: str
    wanted: bool


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Threads, because what takes long runs in child processes; an interrupt waits for none that has not begun."""
    with ThreadPoolExecutor(min(CHILDREN, os.cpu_count() or 1)) as workers:
        try:
            yield workers
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise


def _untimed(tasks: Sequence[_Task], request: ReproduceRequest) -> dict[_Task, StoredStep | str]:
    """The outcomes of all steps that time nothing; on the way, the files that the steps to be done read."""
    with _workers() as workers:
        files = {
            prepare: workers.submit(_make, prepare, request, where) for prepare, where in _files(tasks, request).items()
        }

        def outcome(task: _Task) -> StoredStep | str:
            if task.step.prepare in files:
                files[task.step.prepare].result()  # a worker has begun with it: files were handed in first
            return _outcome(task, request)

        # From the last on, because those take longest.
        outcomes = {task: workers.submit(outcome, task) for task in reversed(tasks) if task.step.kind != "measured"}
        wait(files.values())
        wait(outcomes.values())
    return {task: future.result() for task, future in outcomes.items()}


def _files(tasks: Sequence[_Task], request: ReproduceRequest) -> dict[Callable[[Progress], object], str]:
    """What makes the files that the steps to be done read, and where that is shown; each once, the last first.

    Steps that lack a package have none: they will say so and read nothing.
    """
    due = [task for task in reversed(tasks) if task.step.prepare is not None and _is_due(task, request)]
    prepares = {task.step.prepare: task.where for task in due if task.step.is_equipped()}
    return {prepare: where for prepare, where in prepares.items() if prepare is not None}


def _make(prepare: Callable[[Progress], object], request: ReproduceRequest, where: str) -> None:
    with suppress(SplitdeconvError, CompileError):  # the step meets the same error again and tells of it
        prepare(lambda stage, share: request.progress(f"{where}: {stage}", share))


def _is_due(task: _Task, request: ReproduceRequest) -> bool:
    """Whether a step is wanted and not there."""
    setting = request.setting
    if not task.wanted or request.fresh:
        return task.wanted
    with suppress(InputError):  # told when the step's turn comes
        return store.find(setting.out, task.part.name, task.step, quick=setting.quick)[0] is None
    return False


def _outcome(task: _Task, request: ReproduceRequest) -> StoredStep | str:
    """The step's result, or a sentence why it is left out (empty: nothing is to be said)."""
    try:
        return _step(task, request)
    except (SplitdeconvError, CompileError) as error:
        request.say(f"{task.where}: left out: {error}")
        return f"{task.step.name} is left out: {error}"


def _by_part(outcomes: Mapping[_Task, StoredStep | str]) -> dict[PaperPart, list[StoredStep | str]]:
    found: dict[PaperPart, list[StoredStep | str]] = {}
    for task, outcome in outcomes.items():
        found.setdefault(task.part, []).append(outcome)
    return found


def _finished(part: PaperPart, outcomes: Sequence[StoredStep | str]) -> Finished:
    steps = tuple(each for each in outcomes if isinstance(each, StoredStep))
    left_out = tuple(each for each in outcomes if isinstance(each, str) and each)
    found = {stored.step: stored.found for stored in steps}
    return Finished(part, part.result(found) if found else Result(), steps, left_out)


def _step(task: _Task, request: ReproduceRequest) -> StoredStep | str:
    """The step's result, taken up or made; where it is not wanted and cannot be taken up, why it is left out."""
    part, step, where, wanted = task.part, task.step, task.where, task.wanted
    setting = request.setting
    stored, changed = store.find(setting.out, part.name, step, quick=setting.quick, asked=wanted)
    if not wanted:
        outdated = f"{step.name} of an earlier run is left out: {changed}; run the part again" if changed else ""
        return stored or outdated
    if stored is not None and not request.fresh:
        request.say(f"{where}: taken up from {stored.started}")
        return stored
    if changed and not request.fresh:
        request.say(f"{where}: done anew, because {changed}")
    started, clock = store.now(), time.perf_counter()
    found = step.run(lambda stage, share: request.progress(f"{where}: {stage}", share))
    seconds = round(time.perf_counter() - clock, 3)
    environment = step.environment()
    made = StoredStep(
        part.name, step.name, step.kind, step.command, environment, setting.quick, started, seconds, found
    )
    store.keep(setting.out, made, step.holds)
    request.say(f"{where}: {seconds:.1f} s")
    return made


def folder_of(out: Path) -> Path:
    """The report's folder, made if it is missing.

    Raises:
        UsageError: it is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; wanted a folder for the report")
    make_folder(out)
    return out
