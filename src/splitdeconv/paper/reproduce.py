"""The run: every wanted step once, what is there taken up, and all of it written as tables, charts and one page."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from splitdeconv import plugins
from splitdeconv.errors import SplitdeconvError, UsageError
from splitdeconv.paper import store
from splitdeconv.paper.part import Part, Progress, Setting, Step
from splitdeconv.paper.result import Result
from splitdeconv.paper.store import Stored
from splitdeconv.targets.base import CompileError

PARTS = {
    "counts": "splitdeconv.paper.counts:PART",
    "parameters": "splitdeconv.paper.parameters:PART",
    "simulated": "splitdeconv.paper.simulated:PART",
    "ssim": "splitdeconv.paper.similarity:PART",
    "efficiency": "splitdeconv.paper.efficiency:PART",
    "commodity": "splitdeconv.paper.commodity:PART",
}
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What to reproduce.

    Attributes:
        setting: folder, effort and the user's own model.
        only: names of parts; none means all.
        fresh: measure again what is there.
        progress: told what is going on and the share of the step that is done.
        say: told one line for each step when it is done.
    """

    setting: Setting
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

    part: Part
    result: Result
    steps: tuple[Stored, ...]
    left_out: tuple[str, ...]


def reproduce(request: Request) -> tuple[Finished, ...]:
    """Do the wanted parts; the parts that are not wanted come along as far as earlier runs made them.

    Raises:
        UsageError: no such part.
        OutputError: the folder cannot be written.
    """
    for name in request.only:
        if name not in PARTS:
            raise UsageError(f"--only {name}: no such part; there are {', '.join(PARTS)}")
    finished = []
    for name in PARTS:
        part: Part = plugins.load("part", name, PARTS)
        found = _part(part, request, wanted=not request.only or name in request.only)
        if found.steps or found.left_out:
            finished.append(found)
    return tuple(finished)


def _part(part: Part, request: Request, *, wanted: bool) -> Finished:
    steps: list[Stored] = []
    left_out: list[str] = []
    planned = part.steps(request.setting)
    for number, step in enumerate(planned, start=1):
        where = f"{part.name} {number}/{len(planned)}: {step.name}"
        try:
            stored = _step(part, step, request, where, wanted=wanted)
        except (SplitdeconvError, CompileError) as error:
            left_out.append(f"{step.name} is left out: {error}")
            request.say(f"{where}: left out: {error}")
            continue
        if isinstance(stored, Stored):
            steps.append(stored)
        elif stored:
            left_out.append(stored)
    found = {stored.step: stored.found for stored in steps}
    return Finished(part, part.result(found) if found else Result(), tuple(steps), tuple(left_out))


def _step(part: Part, step: Step, request: Request, where: str, *, wanted: bool) -> Stored | str:
    """The step's result, taken up or made; where it is not wanted and cannot be taken up, why it is left out."""
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
    made = Stored(part.name, step.name, step.kind, step.command, environment, setting.quick, started, seconds, found)
    store.keep(setting.out, made)
    request.say(f"{where}: {seconds:.1f} s")
    return made


def folder_of(out: Path) -> Path:
    """The report's folder, made if it is missing.

    Raises:
        UsageError: it is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; wanted a folder for the report")
    out.mkdir(parents=True, exist_ok=True)
    return out
