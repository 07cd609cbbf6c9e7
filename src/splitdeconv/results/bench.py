"""What a benchmark finds out, as values: times of all forms of each layer, of whole models, and their ratios. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.results import times
from splitdeconv.results.plan import Option, Skipped
from splitdeconv.results.record import Environment, Provenance
from splitdeconv.results.times import Measurement

NATIVE, ZERO_INSERT = Candidate("native"), Candidate("zero_insert")
SPLIT = "split"
ROOM = 1.05  # times the bound that the original takes, below which there is nothing to gain worth a share
EQUAL_WORK = Candidate("equal_work")  # no candidate of a plan: the convolution of least work, see lowerings.bound


def fixed_split(candidates: Iterable[Candidate]) -> Candidate | None:
    """The paper's SD as it stands, of the candidates of one deconv: ``split`` over the full window.

    Its sub-pixels are rearranged by depth-to-space where that is among the candidates, and by what comes first
    elsewhere. A deconv that has no full window (stride 1, or no pads) has its only one.
    """
    found = _splits(candidates)
    return next((each for each in found if each.form == "depth_to_space"), found[0] if found else None)


def _splits(candidates: Iterable[Candidate]) -> list[Candidate]:
    """``split`` over the full window, in every form."""
    found = [each for each in candidates if each.lowering == SPLIT]
    return [each for each in found if each.window == "full"] or found


def short_list(order: Sequence[Candidate], most: int) -> tuple[Candidate, ...]:
    """The first ``most`` candidates, and behind them those that a comparison with the paper needs.

    These are ``native``, ``zero_insert`` and the paper's SD; of the latter every form where depth-to-space is missing,
    because a target may refuse the first one when it compiles it.
    """
    fixed = fixed_split(order)
    depth_to_space = fixed is not None and fixed.form == "depth_to_space"
    kept = {*order[:most], *(_splits(order) if not depth_to_space else [fixed])}
    paper = (NATIVE.lowering, ZERO_INSERT.lowering)
    return tuple(each for each in order if each in kept or each.lowering in paper)


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """One layer in every form, all timed in the same rounds.

    Attributes:
        name: of the layer or site.
        set: of layers that belong together, or empty.
        deconv: its geometry.
        options: every form that runs, ``native`` and ``zero_insert`` included, with times.
        refusals: those that do not.
        equal_work: the plain convolution of the same work, or None where it does not run.
        chosen: what the planner takes from these times.
        reason: why.
    """

    name: str
    set: str
    deconv: Deconv
    options: tuple[Option, ...]
    refusals: tuple[Refusal, ...]
    equal_work: Measurement | None
    chosen: Candidate
    reason: str

    def time(self, candidate: Candidate) -> Measurement | None:
        """The time of one form, or None where it does not run."""
        if candidate == EQUAL_WORK:
            return self.equal_work
        if candidate == ZERO_INSERT:  # quantised layers have it in several forms
            times = [
                o.time for o in self.options if o.candidate.lowering == ZERO_INSERT.lowering and o.time is not None
            ]
            return min(times, key=lambda time: time.median_ms, default=None)
        return next((option.time for option in self.options if option.candidate == candidate), None)

    @property
    def best(self) -> Candidate | None:
        """The fastest lowering but the baseline, ``native`` not counted; None without one."""
        timed = {
            option.candidate: option.time.median_ms
            for option in self.options
            if option.time is not None and option.candidate.lowering not in (NATIVE.lowering, ZERO_INSERT.lowering)
        }
        return min(timed, key=lambda each: (timed[each], each)) if timed else None

    def ratio(self, slow: Candidate, fast: Candidate) -> float | None:
        """How many times longer ``slow`` takes than ``fast``, or None where one of them has no time."""
        one, other = self.time(slow), self.time(fast)
        return None if one is None or other is None else times.ratio(one, other)


@dataclass(frozen=True, slots=True)
class ModelTimes:
    """A whole model in several forms, timed in the same rounds.

    Attributes:
        times: ``native`` (as it came), ``native, folded`` (with ``--fold``; all that follows is folded too then),
            ``zero_insert`` and ``split`` (every deconv so, where that applies; ``split`` as in the paper) and
            ``converted``, as a conversion would leave it.
        reason: why there are none, or empty.
    """

    times: Mapping[str, Measurement] = field(default_factory=dict)
    reason: str = ""

    def ratio(self, slow: str, fast: str) -> float | None:
        """How many times longer ``slow`` takes than ``fast``, or None where one of them has no time."""
        if slow not in self.times or fast not in self.times:
            return None
        return times.ratio(self.times[slow], self.times[fast])

    @property
    def captured(self) -> float | None:
        """The share of the time above the bound that the conversion saves; None where there is no room, or no bound."""
        room = self.ratio("native", "bound")
        if room is None or room < ROOM:
            return None
        native, converted, bound = (self.times[name].median_ms for name in ("native", "converted", "bound"))
        return (native - converted) / (native - bound)


@dataclass(frozen=True, slots=True)
class Summary:
    """Ratios of all layers in one line.

    Attributes:
        title: what is divided by what.
        mean: geometric mean.
        worst: the ratio of the worst layer.
        layer: its name.
        count: how many layers have such a ratio.
    """

    title: str
    mean: float
    worst: float
    layer: str
    count: int


@dataclass(frozen=True, slots=True)
class BenchRecord:
    """Everything about one benchmark, for ``--json`` and plots.

    Attributes:
        source: path of the model or of the list of layers.
        environment: what ran it.
        layers: in the order of the source.
        model: the whole model, or None for a list of layers.
        skipped: deconvs of the model that were left alone.
        notes: what the user should know, one sentence each.
        provenance: how the record came about.
    """

    source: str
    environment: Environment
    layers: tuple[LayerTimes, ...]
    model: ModelTimes | None = None
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)

    def summaries(self) -> tuple[Summary, ...]:
        """The ratios that a claim is made of; ``converted`` is what the planner takes, which may be native."""
        return tuple(found for found in _summaries(self.layers) if found is not None)


def _summaries(layers: Sequence[LayerTimes]) -> Iterable[Summary | None]:
    best = {layer.name: layer.ratio(NATIVE, layer.best) for layer in layers if layer.best}
    yield summarise("native / best lowering", best)
    yield summarise("native / converted", {layer.name: layer.ratio(NATIVE, layer.chosen) for layer in layers})
    yield summarise("zero_insert / converted", {layer.name: layer.ratio(ZERO_INSERT, layer.chosen) for layer in layers})
    held = {layer.name: layer.ratio(layer.chosen, EQUAL_WORK) for layer in layers}
    yield summarise("converted / equal-work convolution", held, largest_is_worst=True)


def summarise(title: str, ratios: Mapping[str, float | None], *, largest_is_worst: bool = False) -> Summary | None:
    """Geometric mean and the worst of the ratios that are known; None without any."""
    known = {name: ratio for name, ratio in ratios.items() if ratio is not None and ratio > 0}
    if not known:
        return None
    worst = (max if largest_is_worst else min)(known, key=lambda name: known[name])
    return Summary(title, geometric_mean(known.values()), known[worst], worst, len(known))


def geometric_mean(ratios: Iterable[float]) -> float:
    """The mean of ratios: that of their logarithms."""
    logs = [math.log(ratio) for ratio in ratios]
    return math.exp(math.fsum(logs) / len(logs))
