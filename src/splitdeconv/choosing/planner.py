"""From the finished table of every site to the plan. Pure: nothing is measured, compiled or read here.

Whatever the times say, the choice is one of the site's candidates, all of which are exact: a wrong time makes the
model slower, never wrong.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import UsageError
from splitdeconv.lowerings import find_lowering
from splitdeconv.lowerings.candidate import COMPOSITE, FORMS, NATIVE, Candidate, Refusal
from splitdeconv.results.plan import Choice, Option, Plan, SiteTable, Skipped
from splitdeconv.results.times import (
    SMALLEST_GAIN,
    UNTRIED,
    Measurement,
    beyond_noise,
    comparison,
    is_settled,
    loses_a_size,
    ratio,
    wins,
)

# The rule for targets that measure nothing, in multiply-accumulates (docs/decisions/generic-rule.md has the fit).
MOVED_WEIGHT = 10  # for each element that is read or written between the convolutions
CONV_WEIGHT = 1_500_000  # for starting one more convolution, with what stands around it

SITE_SHARE = 0.2  # part of the budget that is dealt out equally; the rest goes by the work that a site is to measure

Rule = Literal["generic", "fastest"]


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the user asks for, stronger from one to the next.

    Attributes:
        lowering: for all sites to which it applies, or empty.
        layers: site → lowering or candidate.
        planned: site → candidate, from a plan file; sites that it does not name stay ``native``. None without a file.
        only, skip: patterns of sites; the others, or these, stay ``native``.
    """

    lowering: str = ""
    layers: Mapping[str, str] = field(default_factory=dict)
    planned: Mapping[str, str] | None = None
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def forces(self, site: str) -> bool:
        """Whether the user names what ``site`` gets."""
        return bool(self.lowering) or site in self.layers or self.planned is not None


@dataclass(frozen=True, slots=True)
class Scope:
    """The options of a site that the user's overrides leave open.

    Attributes:
        options: to choose from; where it is empty, the site stays ``native``.
        reason: why they are not all, or empty.
    """

    options: tuple[Option, ...]
    reason: str = ""

    @property
    def is_open(self) -> bool:
        """Whether there is anything to choose, so that measuring is of use."""
        return len(self.options) > 1


def check(overrides: Overrides, sites: Sequence[str], skipped: Sequence[Skipped] = ()) -> None:
    """Check that every override names a site of the model.

    Args:
        overrides: of the user.
        sites: that can be rewritten.
        skipped: those that cannot, which patterns may fit too.

    Raises:
        UsageError: a wish names a site that is not there or cannot be rewritten, or a pattern fits none.
    """
    reasons = {each.site: each.reason for each in skipped}
    there = f"the model has {', '.join(sites)}" if sites else "the model has no site to rewrite"
    for option, names in (("--layer", overrides.layers), ("--plan", overrides.planned or {})):
        for site in names:
            if site in reasons:
                raise UsageError(f"{option}: site '{site}' cannot be rewritten: {reasons[site]}")
            if site not in sites:
                raise UsageError(f"{option}: no site is called '{site}'; {there}")
    for option, patterns in (("--only", overrides.only), ("--skip", overrides.skip)):
        for pattern in patterns:
            if not any(fnmatchcase(site, pattern) for site in (*sites, *reasons)):
                raise UsageError(f"{option} '{pattern}' fits no site; {there}")


def scope(table: SiteTable, overrides: Overrides) -> Scope:
    """What the overrides leave open for one site.

    Raises:
        UsageError: ``--layer`` or the plan file names a candidate that does not apply to the site.
    """
    site = table.site
    if any(fnmatchcase(site, pattern) for pattern in overrides.skip):
        return Scope((), "left out by --skip")
    if overrides.only and not any(fnmatchcase(site, pattern) for pattern in overrides.only):
        return Scope((), "left out by --only")
    if overrides.planned is not None:
        return _planned(table, overrides.planned)
    if overrides.layers.get(site) == str(NATIVE):
        return Scope((), "asked for by --layer")
    if site in overrides.layers:
        return Scope(_named(table, overrides.layers[site], "--layer"), "asked for by --layer")
    if overrides.lowering:
        found = _matching(table, overrides.lowering)
        if overrides.lowering == str(NATIVE):  # as the model has it, where it may stay
            found = tuple(option for option in found if option.candidate == NATIVE) or found
        if found:
            return Scope(found, "asked for by --lowering")
        return Scope((), f"{overrides.lowering} does not apply: {_why_not(table, overrides.lowering)}")
    return Scope(table.options)


def _planned(table: SiteTable, planned: Mapping[str, str]) -> Scope:
    """The one candidate of the plan file."""
    if table.site not in planned:
        return Scope((), "not in the plan file")
    if planned[table.site] == str(NATIVE):
        return Scope((), "as in the plan file")
    named = _named(table, planned[table.site], "--plan")
    exact = tuple(option for option in named if str(option.candidate) == planned[table.site])
    return Scope(exact or named, "as in the plan file")


def _named(table: SiteTable, text: str, source: str) -> tuple[Option, ...]:
    """The options that ``text`` names; it must be one at least."""
    found = _matching(table, text)
    if not found:
        raise UsageError(f"{source} {table.site}={text}: does not apply: {_why_not(table, text)}")
    return found


def _matching(table: SiteTable, text: str) -> tuple[Option, ...]:
    return tuple(option for option in table.options if option.candidate.matches(text))


def _why_not(table: SiteTable, text: str) -> str:
    """Why no option fits ``text``: the refusal, or what there is instead."""
    for refusal in table.refusals:
        if refusal.candidate.matches(text) or text.split(":", maxsplit=1)[0] == str(refusal.candidate):
            return refusal.reason
    return f"there are {', '.join(str(option.candidate) for option in table.options)}"


def generic_score(option: Option, deconv: Deconv) -> tuple[int, float, int, int, str]:
    """What a candidate costs on no processor in particular; lower is better, and no two candidates are equal.

    Where sizes are open they are taken to be large, and starting a convolution costs nothing beside its work.
    """
    cost, candidate = option.cost, option.candidate
    per_conv = 0 if None in deconv.in_sizes else CONV_WEIGHT
    work = cost.macs + MOVED_WEIGHT * cost.moved + per_conv * cost.convs
    rank = find_lowering(candidate.lowering).rank
    form = ("", *FORMS).index(candidate.form)
    forms = () if deconv.quant is None else deconv.quant.forms
    quant = forms.index(candidate.quant) if candidate.quant in forms else len(forms)
    return rank, work, form, quant, str(candidate)


def order(options: Iterable[Option], deconv: Deconv) -> tuple[Candidate, ...]:
    """The order in which to measure: ``native``, the best by rule, the runtime's own deconv, then the others.

    Two are tried however little time there is. The runtime's own deconv also in other layouts: it is often the best and
    costs no more to try. Of the others the best one of each lowering comes first, then the second ones: with little
    time, kinds tell more than variants.
    """
    scored = sorted((generic_score(option, deconv), option.candidate) for option in options)
    turns: Counter[str] = Counter()
    ranked: list[tuple[int, int, int, Candidate]] = []
    for place, ((rank, *_), candidate) in enumerate(scored):
        turns[candidate.lowering] += 1
        ranked.append((rank, turns[candidate.lowering], place, candidate))
    found = [candidate for *_, candidate in sorted(ranked)]
    own = [each for each in found if each == COMPOSITE or (each.lowering == NATIVE.lowering and each.layout)]
    others = [each for each in found if each != NATIVE and each not in own]
    native = [each for each in found if each == NATIVE]
    return (*native, *others[:1], *own, *others[1:])


def shares(tables: Sequence[SiteTable], seconds: float) -> dict[str, float]:
    """The seconds that measuring each of ``tables`` may take: more for the sites whose candidates have more work."""
    if not tables:
        return {}
    work = {
        table.site: float(sum(option.cost.macs + option.cost.moved for option in table.options)) for table in tables
    }
    total = sum(work.values()) or 1.0
    equal = SITE_SHARE * seconds / len(tables)
    return {site: equal + (1 - SITE_SHARE) * seconds * each / total for site, each in work.items()}


def plan(
    target: str, tables: Sequence[SiteTable], overrides: Overrides, rule: Rule, skipped: Sequence[Skipped] = ()
) -> Plan:
    """The plan for all sites, in the order of ``tables``; ``skipped`` are those that cannot be rewritten.

    Raises:
        UsageError: as :func:`check` and :func:`scope`.
    """
    check(overrides, [table.site for table in tables], skipped)
    return Plan(target, tuple(choose(table, overrides, rule, target) for table in tables))


def choose(table: SiteTable, overrides: Overrides, rule: Rule, target: str = "the target") -> Choice:
    """The decision for one site; ``target`` is the name of what it was made for."""
    left = scope(table, overrides)
    refused = next((each.reason for each in table.refusals if each.candidate == NATIVE), "")
    why_not = "the original is never kept" if table.deconv.custom else f"the original does not run on {target}"
    stops = f"{why_not}: {refused}" if refused else ""
    if not left.options:
        chosen, reason = NATIVE, left.reason or _nothing_else(table)
    elif rule == "generic" and (kind := _not_by_rule(table.deconv)) and not overrides.forces(table.site):
        chosen, reason = NATIVE, f"the generic rule rewrites {kind} only: measure, or ask for a lowering"
    elif not left.is_open:
        chosen = left.options[0].candidate
        reason = left.reason or (_nothing_else(table) if chosen == NATIVE else stops or "the only form that applies")
    else:
        missing = stops or "native was not asked for"
        if rule == "generic":
            chosen, reason = _generic(left.options, table.deconv)
        else:
            chosen, reason = _fastest(left.options, table.deconv, missing)
        reason = f"{left.reason}; {reason}" if left.reason else reason
    return Choice(table.site, table.deconv, chosen, reason, table.options, table.refusals)


def _not_by_rule(deconv: Deconv) -> str:
    """What the generic rule rewrites, where ``deconv`` is not of that kind; else nothing."""
    if deconv.written_out is not None:
        return "transposed convolutions"
    return "deconvs of stored weights" if deconv.run_time else ""


def _nothing_else(table: SiteTable) -> str:
    """Why a site stays native: what most others that were tried have in common, or what refuses the original too."""
    others = [each.reason for each in table.refusals if each.candidate != NATIVE]
    reasons = Counter([each for each in others if each != UNTRIED.reason] or others)
    for reason, count in reasons.most_common(1):
        if 2 * count > reasons.total():
            return f"nothing else applies: {reason}"
    original = next((f": {each.reason}" for each in table.refusals if each.candidate == NATIVE), "")
    return f"nothing else applies{original}"


def without(choice: Choice, reason: str, overrides: Overrides, rule: Rule) -> Choice:
    """Another decision for a site, whose chosen form was found not to run, or to be computed wrongly.

    Raises:
        UsageError: as :func:`scope`, where the user asked for that form.
    """
    options = tuple(option for option in choice.options if option.candidate != choice.chosen)
    refusals = (*choice.refusals, Refusal(choice.chosen, reason))
    return choose(SiteTable(choice.site, choice.deconv, options, refusals), overrides, rule)


def _generic(options: Sequence[Option], deconv: Deconv) -> tuple[Candidate, str]:
    """The least work by the documented rule, in the layout of the model's maps where that is possible."""
    best = min(options, key=lambda option: (option.candidate.layout != "", generic_score(option, deconv)))
    return best.candidate, "least arithmetic and data movement, by the generic rule"


def _fastest(options: Sequence[Option], deconv: Deconv, missing: str) -> tuple[Candidate, str]:
    """The fastest beyond the noise; ``native`` where nothing is. ``missing`` says why ``native`` is no option.

    Of those that are as fast, the generic rule takes one: which of two equals is a little ahead changes from run to
    run, their cost does not.
    """
    timed = {option.candidate: option.time for option in options if option.time is not None and is_settled(option.time)}
    native = timed.get(NATIVE)
    if native is None and any(option.candidate == NATIVE for option in options):
        return NATIVE, "native was not measured, so nothing can be shown to beat it"
    if not timed:
        chosen, reason = _generic(options, deconv)
        return chosen, f"nothing was measured; {reason}"
    better = {each: time for each, time in timed.items() if each != NATIVE and _beats(time, native)}
    if not better:
        return NATIVE, _best_loser(options)
    # What the others are compared with, so that the order is that of the ratios by which they won.
    measure = native or next(iter(better.values()))
    best = min(better, key=lambda each: (ratio(better[each], measure), str(each)))
    equal = [
        option for option in options if option.candidate in better and _as_fast(better[option.candidate], better[best])
    ]
    chosen, _ = _generic(equal, deconv)
    return chosen, _success(better[chosen], native, missing, len(equal))


def _beats(time: Measurement, native: Measurement | None) -> bool:
    """Whether a form is faster beyond the noise, and slower at none of several sizes."""
    return native is None or (wins(time, native) and not loses_a_size(time, native))


def _as_fast(time: Measurement, best: Measurement) -> bool:
    """Whether a form is not slower than the fastest, neither beyond the noise nor by more than sessions may differ."""
    return not wins(best, time) and ratio(time, best) <= 1 + SMALLEST_GAIN


def _success(time: Measurement, native: Measurement | None, missing: str, equals: int) -> str:
    """Why a form was taken, with the figures that decided."""
    against = missing if native is None else f"against native {comparison(time, native)}"
    tie = f"; of {equals} forms that are equal within the noise, the one with the least work" if equals > 1 else ""
    return f"{time.median_ms:.3g} ms; {against}{tie}"


def _best_loser(options: Sequence[Option]) -> str:
    """Why ``native`` stays, with the figures; those that were dropped count here."""
    timed = {option.candidate: option.time for option in options if option.time is not None}
    native = timed.pop(NATIVE)
    if not timed:
        return f"native {native.median_ms:.3g} ms; the budget left no time for another form"
    best = min(timed, key=lambda each: (not is_settled(timed[each]), ratio(timed[each], native), str(each)))
    little = f"surely faster, but maybe by less than {SMALLEST_GAIN:.0%}"
    verdict = little if wins(timed[best], native, smallest_gain=0.0) else f"no gain{beyond_noise(native)}"
    verdict = "slower at one of the sizes" if loses_a_size(timed[best], native) else verdict
    return (
        f"native {native.median_ms:.3g} ms; the best other form, {best}, {comparison(timed[best], native)}: {verdict}"
    )


def guard(decided: Plan, before: Measurement, after: Measurement, overrides: Overrides) -> tuple[Plan, str]:
    """The last word of the whole model: unless it is faster beyond the noise, every free choice goes back to native.

    So they do where it is slower at one of several sizes. Choices that the user named stay, and those of sites that
    the target cannot run as they are.

    Args:
        decided: the plan that ``after`` was measured with.
        before, after: the whole model, original and rewritten, interleaved in one run.
        overrides: of the user.

    Returns:
        The plan that holds, and a note where it is another one (empty otherwise).
    """
    loses = loses_a_size(after, before)
    if wins(after, before, smallest_gain=0.0) and not loses:
        return decided, ""
    reason = "slower at one of the sizes" if loses else f"not faster{beyond_noise(before)}"
    figures = f"whole model {comparison(after, before)}: {reason}"
    choices = tuple(_revert(choice, overrides, figures) for choice in decided.choices)
    if choices == decided.choices:
        return decided, ""
    return dataclasses.replace(decided, choices=choices), f"{figures}; the deconvs are left as they are"


def _revert(choice: Choice, overrides: Overrides, reason: str) -> Choice:
    """``native``, where that is possible and the user has not said otherwise."""
    runs = any(option.candidate == NATIVE for option in choice.options)
    if choice.chosen == NATIVE or not runs or overrides.forces(choice.site):
        return choice
    return dataclasses.replace(choice, chosen=NATIVE, reason=f"{reason}; {choice.chosen} alone: {choice.reason}")
