"""``--fold``: operators around the deconvs in their weights, before anything is chosen, and what that gains."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Fold, Model
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.in_model import Settled, programs_of, race, settle
from splitdeconv.pipeline.open import Options, Progress, as_it_came, saved
from splitdeconv.proof.folded import check_fold
from splitdeconv.results.plan import Plan, Skipped
from splitdeconv.results.record import FoldedSite, WholeTimes
from splitdeconv.results.times import Measurement, comparison, loses_a_size, over_sizes, timed, wins
from splitdeconv.results.verdict import OutputCheck
from splitdeconv.targets.target import CompileError, Target

NOTHING = "--fold: no deconv has BatchNormalization or arithmetic with constants around it that could be folded"
GAIN_SHARE = 0.3  # part of the whole model's seconds for the race against the model as it came
ORIGINAL, FOLDED, CONVERTED = "original", "native, folded", "converted"

Feeds = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Folding:
    """What ``--fold`` made of a model.

    Attributes:
        model: with folded weights; the model as it came where nothing was folded.
        folds: what was.
        notes: what the user should know.
    """

    model: Model
    folds: tuple[Fold, ...] = ()
    notes: tuple[str, ...] = ()

    def in_words(self) -> tuple[str, ...]:
        """One sentence for each site, and the notes."""
        folds = (f"folded into '{each.site}': {', '.join(each.operators)}" for each in folded_sites(self.folds))
        return (*folds, *self.notes)

    def checks(self) -> tuple[OutputCheck, ...]:
        """The proof of each, to the noise bound."""
        sites = {site.id: site for site in self.model.find().sites}
        return tuple(check_fold(each, sites[each.site.id]) for each in self.folds)


def folded_sites(folds: Sequence[Fold]) -> tuple[FoldedSite, ...]:
    """For records."""
    return tuple(FoldedSite(each.site.id, each.operators) for each in folds)


def folded(model: Model, overrides: Overrides) -> Folding:
    """The model with what can be folded in the weights of the sites that the user's patterns leave."""
    folds, left = model.foldable()
    wanted = tuple(each for each in folds if takes(overrides, each.site.id))
    if not wanted:
        return Folding(model, notes=(*_reasons(left), NOTHING))
    return Folding(model.folded(wanted), wanted, _reasons(left))


def takes(overrides: Overrides, site: str) -> bool:
    """Whether the user's patterns leave a site to be changed."""
    named = not overrides.only or any(fnmatchcase(site, each) for each in overrides.only)
    return named and not any(fnmatchcase(site, each) for each in overrides.skip)


def _reasons(left: Sequence[Skipped]) -> tuple[str, ...]:
    return tuple(f"site '{each.site}': {each.reason}" for each in left)


def settle_folded(
    folding: Folding,
    original: Compilable,
    plan: Plan,
    feeds: Sequence[Feeds],
    target: Target,
    overrides: Overrides,
    options: Options,
    seconds: float,
    progress: Progress,
) -> Settled:
    """As :func:`in_model.settle`; of a folded model whose best plan is no faster than ``original``, that one again.

    Args:
        folding: the model that is rewritten.
        original: as it came, for the target.
        plan, feeds, target, overrides, options, seconds, progress: as there.
    """
    model = folding.model
    if not folding.folds:
        return settle(model, original, plan, feeds, target, overrides, options, seconds, progress)
    with as_it_came(model) as native, tempfile.TemporaryDirectory() as folder:
        choosing = (1 - GAIN_SHARE) * seconds
        settled = settle(model, native, plan, feeds, target, overrides, options, choosing, progress)
        models = {ORIGINAL: original, FOLDED: native}
        if programs := programs_of(model, settled.plan):
            models[CONVERTED] = saved(model.splice(programs), Path(folder) / ("model" + model.suffix))
        progress("timing what folding gains", 0.97)
        return _with_gain(settled, models, feeds, target, overrides, GAIN_SHARE * seconds)


def _with_gain(
    settled: Settled,
    models: Mapping[str, Compilable],
    feeds: Sequence[Feeds],
    target: Target,
    overrides: Overrides,
    seconds: float,
) -> Settled:
    """What is best with folded weights, held against the model as it came."""
    try:
        found = [timed(race(target, models, each, seconds / len(feeds))) for each in feeds]
    except CompileError as error:
        return replace(settled, notes=(*settled.notes, f"what folding gains was not timed: {error}"))
    times = {name: over_sizes([each[name] for each in found]) for name in models if all(name in each for each in found)}
    if ORIGINAL not in times or not {FOLDED, CONVERTED} & set(times):
        return replace(settled, notes=(*settled.notes, "what folding gains was not timed: no figures can be compared"))
    before, native = times[ORIGINAL], times.get(FOLDED)
    after = times.get(CONVERTED) or times[FOLDED]
    notes = tuple(f"with folded weights, {note}" for note in settled.notes)
    notes = (*notes, _gain(before, native, after, target))
    plan, _ = planner.guard(settled.plan, before, after, overrides)
    stays = any(choice.chosen != NATIVE for choice in plan.choices)
    if wins(after, before, smallest_gain=0.0) and not loses_a_size(after, before):
        return Settled(plan, WholeTimes(before, after, folded=native), notes)
    if stays:
        return Settled(plan, WholeTimes(before, after, kept=False, folded=native), notes)
    back = "folding is taken back: not faster than the model as it came beyond the noise"
    return Settled(plan, WholeTimes(before, after, kept=False, folded=native), (*notes, back))


def _gain(before: Measurement, native: Measurement | None, after: Measurement, target: Target) -> str:
    """One sentence with the figures."""
    middle = "" if native is None or native is after else f", folded and native {comparison(native, before)}"
    return (
        f"folding: the whole model took {before.median_ms:.4g} ms as it came{middle}, as planned "
        f"{comparison(after, before)} ({before.kind} on {target.name})"
    )
