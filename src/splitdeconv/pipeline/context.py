"""Choosing forms inside the whole model: on compilers that estimate, neighbours change what a form costs.

A form that is best alone may force a layout on the operators around it. Whole models compile in seconds there, so the
sites are gone through one after the other, each trying its best forms with the others as they stand.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from splitdeconv import lowerings
from splitdeconv.choosing.planner import Wishes
from splitdeconv.formats.frontend import Frontend
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.results.plan import Choice, Plan
from splitdeconv.targets.target import CompileError, Target

PASSES = 2  # over all sites; the second rarely changes anything
TRIED = 5  # forms of a site, the best ones by their time alone
GAIN = 0.999  # of the time so far that a change must come below

Chosen = Mapping[str, Candidate]
Progress = Callable[[str, float], None]


def refine(
    frontend: Frontend, model: Any, plan: Plan, target: Target, wishes: Wishes, progress: Progress
) -> tuple[Plan, str]:
    """The plan with the forms that make the whole model fastest by the target's estimate, and a note with the figures.

    Args:
        plan: what is best for each site alone.
        target: one whose times are estimates.
        wishes: sites that the user has decided stay as they are.
    """
    judge = _Judge(frontend, model, plan, target)
    chosen: Chosen = {choice.site: choice.chosen for choice in plan.choices}
    alone = best = judge.time_of(chosen)
    open_choices = [choice for choice in plan.choices if not wishes.forces(choice.site) and len(choice.options) > 1]
    for number in range(PASSES):
        before = chosen
        for place, choice in enumerate(open_choices):
            share = (number * len(open_choices) + place) / (PASSES * len(open_choices))
            progress(f"trying forms of {choice.site} in the whole model", share)
            chosen, best = _best_in_place(judge, choice, chosen, best)
        if chosen == before:
            break
    changed = [choice.site for choice in plan.choices if chosen[choice.site] != choice.chosen]
    note = f"{len(changed)} sites got another form in the whole model: {alone:.4g} ms before that, {best:.4g} ms after"
    choices = tuple(_with_form(choice, chosen[choice.site], best) for choice in plan.choices)
    return replace(plan, choices=choices), note if changed else ""


def _best_in_place(judge: _Judge, choice: Choice, chosen: Chosen, best: float) -> tuple[Chosen, float]:
    """The forms with the best one for this site, the others kept."""
    for candidate in _promising(choice):
        trial = {**chosen, choice.site: candidate}
        if trial != chosen and (time := judge.time_of(trial)) < GAIN * best:
            chosen, best = trial, time
    return chosen, best


def _promising(choice: Choice) -> list[Candidate]:
    """The best forms by their time alone, native among them."""
    timed = [option for option in choice.options if option.time is not None]
    timed.sort(key=lambda option: math.inf if option.time is None else option.time.median_ms)
    found = [option.candidate for option in timed[:TRIED]]
    native = any(option.candidate == NATIVE for option in choice.options)
    return [*found, NATIVE] if native and NATIVE not in found else found


def _with_form(choice: Choice, candidate: Candidate, time_ms: float) -> Choice:
    if candidate == choice.chosen:
        return choice
    reason = f"best in the whole model ({time_ms:.4g} ms); alone it is {choice.chosen}"
    return replace(choice, chosen=candidate, reason=reason)


class _Judge:
    """Times of whole models, each combination of forms compiled once."""

    def __init__(self, frontend: Frontend, model: Any, plan: Plan, target: Target) -> None:
        self.frontend, self.model, self.target = frontend, model, target
        self.deconvs = {choice.site: choice.deconv for choice in plan.choices}
        self.known: dict[tuple[tuple[str, Candidate], ...], float] = {}

    def time_of(self, chosen: Chosen) -> float:
        """Milliseconds, or infinity where the target does not take the model or cannot place all of it as before."""
        key = tuple(sorted(chosen.items()))
        if key not in self.known:
            self.known[key] = self._estimate(chosen)
        return self.known[key]

    def _estimate(self, chosen: Chosen) -> float:
        programs = {
            site: lowerings.lower(self.deconvs[site], self.frontend.layout, candidate)
            for site, candidate in chosen.items()
            if candidate != NATIVE
        }
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("model" + self.frontend.suffix)
            self.frontend.save(self.frontend.splice(self.model, programs), path)
            try:
                compiled = self.target.compile(path, whole=True)
            except CompileError:
                return math.inf
            times = self.target.measure({NATIVE: compiled}, {}, 0.0)
        return times[NATIVE].median_ms if NATIVE in times else math.inf
