"""What is done to a model before its deconvs are rewritten, ``--to-deconv`` and ``--fold``, and what that gains."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Fold, Model
from splitdeconv.formats.open_sizes import definite_shapes
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.in_model import Settled, programs_of, race, settle
from splitdeconv.pipeline.open import Options, Progress, Shapes, as_it_came, runner_for, saved
from splitdeconv.pipeline.request import ConvertRequest
from splitdeconv.pipeline.turned import Turning, turned
from splitdeconv.proof.folded import check_fold
from splitdeconv.results.plan import Plan, Skipped
from splitdeconv.results.record import FoldedSite, TurnedSite, WholeTimes
from splitdeconv.results.times import Measurement, Untimed, comparison, loses_a_size, over_sizes, timed, wins
from splitdeconv.results.verdict import OutputCheck, SiteProof
from splitdeconv.targets.target import Target

UNMEASURED = "--to-deconv: what runs faster is measured; wanted a target that is installed, as --target onnxruntime"
NOTHING = "--fold: nothing was found that could go into the weights of a deconv"
GAIN_SHARE = 0.3  # part of the whole model's seconds for the race against the model as it came
ORIGINAL, FOLDED, CONVERTED = "original", "native, folded", "converted"

Feeds = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model as its deconvs are looked for in it.

    Attributes:
        model: with what was asked for; as it came where that is nothing.
        folds: what became part of weights.
        turned: what were sub-pixel convolutions.
        proofs: of these.
        notes: what the user should know.
    """

    model: Model
    folds: tuple[Fold, ...] = ()
    turned: tuple[TurnedSite, ...] = ()
    proofs: tuple[SiteProof, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_changed(self) -> bool:
        """Whether it is another model than the one that came."""
        return bool(self.folds or self.turned)

    @property
    def asked(self) -> str:
        """What changed it."""
        return " and ".join([*(["--to-deconv"] if self.turned else []), *(["--fold"] if self.folds else [])])

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


def prepare(model: Model, request: ConvertRequest, given: Shapes, target: Target | None) -> Prepared:
    """The model as it was asked for.

    Args:
        model: as it came.
        request: of the user.
        given: sizes of inputs that the model leaves open.
        target: where it is to run, or None.

    Raises:
        UsageError: ``--to-deconv`` without a target.
    """
    turning = Turning(model)
    if request.to_deconv:
        if target is None:
            raise UsageError(UNMEASURED)
        shapes, _ = definite_shapes(model, given)
        runner, options = runner_for(model, target, request.options), request.options
        turning = turned(model, shapes, partial(takes, request.overrides), target, runner, options, request.progress)
    found = folded(turning.model, request.overrides) if request.fold else Prepared(turning.model)
    return replace(found, turned=turning.sites, proofs=turning.proofs, notes=(*turning.notes, *found.notes))


def folded(model: Model, overrides: Overrides) -> Prepared:
    """The model with what can be folded in the weights of the sites that the user's patterns leave."""
    folds, left = model.foldable()
    wanted = tuple(each for each in folds if takes(overrides, each.site.id))
    if not wanted:
        return Prepared(model, notes=(*_reasons(left), NOTHING))
    return Prepared(model.folded(wanted), wanted, notes=_reasons(left))


def takes(overrides: Overrides, site: str) -> bool:
    """Whether the user's patterns leave a site to be changed."""
    named = not overrides.only or any(fnmatchcase(site, each) for each in overrides.only)
    return named and not any(fnmatchcase(site, each) for each in overrides.skip)


def _reasons(left: Sequence[Skipped]) -> tuple[str, ...]:
    return tuple(f"site '{each.site}': {each.reason}" for each in left)


def settle_prepared(
    prepared: Prepared,
    original: Compilable,
    plan: Plan,
    feeds: Sequence[Feeds],
    target: Target,
    overrides: Overrides,
    options: Options,
    seconds: float,
    progress: Progress,
) -> Settled:
    """As :func:`in_model.settle`; where the best plan of a changed model is no faster than ``original``, that again.

    Args:
        prepared: the model that is rewritten.
        original: as it came, for the target.
        plan, feeds, target, overrides, options, seconds, progress: as there.
    """
    model = prepared.model
    if not prepared.is_changed:
        return settle(model, original, plan, feeds, target, overrides, options, seconds, progress)
    with as_it_came(model) as native, tempfile.TemporaryDirectory() as folder:
        choosing = (1 - GAIN_SHARE) * seconds
        settled = settle(model, native, plan, feeds, target, overrides, options, choosing, progress)
        models = {ORIGINAL: original, FOLDED: native}
        if programs := programs_of(model, settled.plan):
            models[CONVERTED] = saved(model.splice(programs), Path(folder) / ("model" + model.suffix))
        progress(f"timing what {prepared.asked} gains", 0.97)
        return _with_gain(prepared.asked, settled, models, feeds, target, overrides, GAIN_SHARE * seconds)


def _with_gain(
    asked: str,
    settled: Settled,
    models: Mapping[str, Compilable],
    feeds: Sequence[Feeds],
    target: Target,
    overrides: Overrides,
    seconds: float,
) -> Settled:
    """What is best of a changed model, held against the model as it came; ``asked`` is what changed it."""
    outcomes = [race(target, models, each, seconds / len(feeds)) for each in feeds]
    result = CONVERTED if CONVERTED in models else FOLDED
    compared = [each[name] for each in outcomes for name in (ORIGINAL, result)]
    if why := next((each.reason for each in compared if isinstance(each, Untimed)), ""):
        return replace(settled, notes=(*settled.notes, f"what {asked} gains was not timed: {why}"))
    found = [timed(each) for each in outcomes]
    times = {name: over_sizes([each[name] for each in found]) for name in models if all(name in each for each in found)}
    before, native, after = times[ORIGINAL], times.get(FOLDED), times[result]
    notes = tuple(f"with {asked}, {note}" for note in settled.notes)
    notes = (*notes, _gain(asked, before, native, after, target))
    plan, _ = planner.guard(settled.plan, before, after, overrides)
    stays = any(choice.chosen != NATIVE for choice in plan.choices)
    if wins(after, before, smallest_gain=0.0) and not loses_a_size(after, before):
        return Settled(plan, WholeTimes(before, after, folded=native), notes)
    if stays:
        return Settled(plan, WholeTimes(before, after, kept=False, folded=native), notes)
    back = f"{asked} is taken back: not faster than the model as it came beyond the noise"
    return Settled(plan, WholeTimes(before, after, kept=False, folded=native), (*notes, back))


def _gain(asked: str, before: Measurement, native: Measurement | None, after: Measurement, target: Target) -> str:
    """One sentence with the figures."""
    middle = "" if native is None or native is after else f", so changed and native {comparison(native, before)}"
    return (
        f"{asked}: the whole model took {before.median_ms:.4g} ms as it came{middle}, as planned "
        f"{comparison(after, before)} ({before.kind} on {target.name})"
    )
