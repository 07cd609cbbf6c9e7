"""``--to-deconv``: sub-pixel convolutions as transposed ones, each where the target runs that faster."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from splitdeconv.formats.model import Model, SubPixelSite
from splitdeconv.pipeline.open import Options, Progress, Shapes
from splitdeconv.pipeline.sites import UNKNOWN_SIZES
from splitdeconv.proof.sub_pixel import as_fed, drawn_map, prove_sub_pixel
from splitdeconv.results.record import TurnedSite
from splitdeconv.results.times import Measurement, Untimed, beyond_noise, comparison, wins
from splitdeconv.results.verdict import SiteProof
from splitdeconv.targets.target import CompileError, Target, measure_those_that_run

TURN_SHARE = 0.2  # part of all seconds
NOTHING = "--to-deconv: no convolution was found that makes the phases of a finer map"
_AS_IT_IS, _TURNED = "as it is", "turned"


@dataclass(frozen=True, slots=True)
class Turning:
    """Sub-pixel convolutions as transposed ones.

    Attributes:
        model: with those that win.
        sites: these.
        proofs: that they are equal, bit for bit.
        notes: why the others stay.
    """

    model: Model
    sites: tuple[TurnedSite, ...] = ()
    proofs: tuple[SiteProof, ...] = ()
    notes: tuple[str, ...] = ()


def turned(
    model: Model,
    shapes: Shapes,
    takes: Callable[[str], bool],
    target: Target,
    runner: Target,
    options: Options,
    progress: Progress,
) -> Turning:
    """The model with each sub-pixel convolution as a transposed one where that is exact and faster.

    Args:
        model: as it came.
        shapes: of inputs that the model leaves open.
        takes: whether the user's patterns leave a site to be changed.
        target: where they are timed.
        runner: runs the proof.
        options: how to measure.
        progress: called with the stage and the fraction done.
    """
    found, left = model.sub_pixels(shapes)
    found = tuple(each for each in found if takes(each.id))
    notes = [f"site '{each.site}': {each.reason}" for each in left] or ([] if found else [NOTHING])
    timer = _PairTimer(model, target, TURN_SHARE * options.seconds / max(1, len({_alike(each) for each in found})))
    won: list[tuple[SubPixelSite, TurnedSite, SiteProof]] = []
    for number, site in enumerate(found):
        progress(f"timing {site.id} as a deconv", number / len(found))
        proof = prove_sub_pixel(model, site, runner)
        times = timer.times(site) if proof.exact else f"as a deconv it is not exact: {proof.detail}"
        if isinstance(times, str):
            notes.append(f"site '{site.id}' stays {' and '.join(site.operators)}: {times}")
        else:
            won.append((site, TurnedSite(site.id, site.operators, site.deconv, *times), proof))
    if not won:
        return Turning(model, notes=tuple(notes))
    taken, sites, proofs = zip(*won, strict=True)
    return Turning(model.turned(taken), sites, proofs, tuple(notes))


def _alike(site: SubPixelSite) -> Hashable:
    return site.spec, site.batch, site.sizes, site.kernel.dtype.name, site.bias is not None, site.operators


class _PairTimer:
    """Times sites; equal ones once."""

    def __init__(self, model: Model, target: Target, seconds: float) -> None:
        self._model, self._target, self._seconds = model, target, seconds
        self._known: dict[Hashable, tuple[Measurement, Measurement] | str] = {}

    def times(self, site: SubPixelSite) -> tuple[Measurement, Measurement] | str:
        """Before and after, where it is faster as a deconv; else the reason why it stays."""
        if None in site.sizes:
            return UNKNOWN_SIZES
        if _alike(site) not in self._known:
            self._known[_alike(site)] = self._time(site)
        return self._known[_alike(site)]

    def _time(self, site: SubPixelSite) -> tuple[Measurement, Measurement] | str:
        x = drawn_map(site, np.random.default_rng(0).standard_normal).astype(site.kernel.dtype)
        try:
            models = {
                name: self._target.compile(
                    self._model.emit_sub_pixel(site, site.kernel, site.bias, turned=name == _TURNED)
                )
                for name in (_AS_IT_IS, _TURNED)
            }
        except CompileError as error:
            return str(error)
        outcomes = measure_those_that_run(self._target, models, as_fed(self._model, x), self._seconds)
        before, after = outcomes[_AS_IT_IS], outcomes[_TURNED]
        if isinstance(before, Untimed) or isinstance(after, Untimed):
            return "; ".join(each.reason for each in outcomes.values() if isinstance(each, Untimed))
        if not wins(after, before):
            return f"as a deconv {comparison(after, before)}: no gain{beyond_noise(before)}"
        return before, after
