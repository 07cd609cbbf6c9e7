"""Which plans of a whole model are worth a race: pure, from the tables of its sites.

What is fastest alone may force a layout on the operators around it. So beside the winners of each site there is one
plan for each way of putting the phases back together, and then single sites move.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from splitdeconv.choosing.planner import order
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.results.plan import Choice, Plan

Chosen = Mapping[str, Candidate]  # site → what it gets

MOVES = 5  # forms of a site that are tried in place, the best ones by their time alone
HOPELESS = 1.25  # times native, for the sum of the sites alone, above which a plan is not tried


@dataclass(frozen=True, slots=True)
class Move:
    """Sites that change together, because they are equal, and what they may change to.

    Attributes:
        sites: their names.
        candidates: by their time alone, the best first.
    """

    sites: tuple[str, ...]
    candidates: tuple[Candidate, ...]


def alone(plan: Plan) -> Chosen:
    """What each site gets by its own times."""
    return {choice.site: choice.chosen for choice in plan.choices}


def by_rule(plan: Plan, is_free: Callable[[str], bool]) -> Chosen:
    """The winners of each site; where the seconds were too short for a second form, the first in measuring order.

    That one was checked: a form that was not is none of the site's options then.
    """
    return {choice.site: _by_rule(choice) if is_free(choice.site) else choice.chosen for choice in plan.choices}


def _by_rule(choice: Choice) -> Candidate:
    if len(_times(choice)) > 1:
        return choice.chosen
    return next((each for each in order(choice.options, choice.deconv) if each != NATIVE), choice.chosen)


def uniform(plan: Plan, is_free: Callable[[str], bool]) -> list[Chosen]:
    """Plans in which all free sites are put together in the same way, the most promising first.

    Args:
        plan: the winners of each site; sites to which a way does not apply keep theirs.
        is_free: whether a site is not decided by the user.
    """
    free = [choice for choice in plan.choices if is_free(choice.site)]
    forms = dict.fromkeys(_family(candidate) for choice in free for candidate in _times(choice))
    plans = [
        {choice.site: _of_family(choice, form) if is_free(choice.site) else choice.chosen for choice in plan.choices}
        for form in forms
    ]
    native = sum(_times(choice).get(NATIVE, math.inf) for choice in free)
    ranked = sorted((_sum_ms(free, chosen), place) for place, chosen in enumerate(plans))
    return [plans[place] for time_ms, place in ranked if time_ms <= HOPELESS * native]


def moves(plan: Plan, is_free: Callable[[str], bool]) -> list[Move]:
    """What may change in place, the sites with most at stake first."""
    equal: dict[tuple[object, ...], list[Choice]] = {}
    for choice in plan.choices:
        if is_free(choice.site) and len(_times(choice)) > 1:
            equal.setdefault((choice.deconv, choice.options), []).append(choice)
    found = sorted(equal.values(), key=lambda choices: -len(choices) * max(_times(choices[0]).values()))
    return [Move(tuple(choice.site for choice in choices), _promising(choices[0])) for choices in found]


def rewritten(chosen: Chosen) -> bool:
    """Whether any site is."""
    return any(candidate != NATIVE for candidate in chosen.values())


def _times(choice: Choice) -> dict[Candidate, float]:
    """Milliseconds of every form that was checked and timed alone."""
    return {option.candidate: option.time.median_ms for option in choice.options if option.time is not None}


def _family(candidate: Candidate) -> str:
    """What forms have in common that need the same layout."""
    return candidate.form or candidate.lowering


def _of_family(choice: Choice, family: str) -> Candidate:
    """The best form of a family alone, or what the site has without it."""
    timed = {each: time for each, time in _times(choice).items() if _family(each) == family}
    return min(timed, key=lambda each: (timed[each], str(each)), default=choice.chosen)


def _sum_ms(choices: Sequence[Choice], chosen: Chosen) -> float:
    return sum(_times(choice).get(chosen[choice.site], math.inf) for choice in choices)


def _promising(choice: Choice) -> tuple[Candidate, ...]:
    """The best forms by their time alone, native among them."""
    timed = _times(choice)
    found = sorted(timed, key=lambda each: (timed[each], str(each)))[:MOVES]
    return (*found, NATIVE) if NATIVE in timed and NATIVE not in found else tuple(found)
