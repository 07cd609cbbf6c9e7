"""Times of one network on one runtime, each deconv and the whole, of a benchmark's record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter

from splitdeconv.results.bench import NATIVE, ZERO_INSERT, BenchRecord, LayerTimes, fixed_split
from splitdeconv.results.record import Environment
from splitdeconv.results.times import Measurement

FORMS = ("native", "zero_insert", "split", "chosen")  # on the page: native, NZP, SD, chosen plan


@dataclass(frozen=True, slots=True)
class DeconvTimes:
    """One deconv, timed alone in every form.

    Attributes:
        name, what: of the deconv.
        times: form → time; None or absent where it was not timed.
        plan: the candidate that was chosen.
        split: the candidate that stands for SD.
    """

    name: str
    what: str
    times: Mapping[str, Measurement | None]
    plan: str
    split: str


@dataclass(frozen=True, slots=True)
class Times:
    """One network on one runtime.

    Attributes:
        layers: its deconvs.
        whole: form → time of the whole network; empty where it was not timed.
        environment: what ran it.
        notes: what the reader should know.
    """

    layers: tuple[DeconvTimes, ...]
    whole: Mapping[str, Measurement]
    environment: Environment
    notes: tuple[str, ...] = ()

    def part(self, form: str) -> float | None:
        """Sum of the medians of all deconvs in one form, ms; None where one of them has no time."""
        return self._sum(form, attrgetter("median_ms"))

    def spread(self, form: str) -> float | None:
        """Half of the summed interquartile ranges, as a share of the summed medians."""
        keys = ("low_ms", "high_ms", "median_ms")
        low, high, median = (self._sum(form, attrgetter(key)) for key in keys)
        return None if low is None or high is None or not median else (high - low) / 2 / median

    def ratio(self, slow: str, fast: str, *, whole: bool = False) -> float | None:
        """How many times longer ``slow`` takes than ``fast``."""
        times = [self.of(form, whole=whole) for form in (slow, fast)]
        return times[0] / times[1] if times[0] is not None and times[1] else None

    def of(self, form: str, *, whole: bool) -> float | None:
        """The time of the deconv part, or of the whole network, ms."""
        if not whole:
            return self.part(form)
        return self.whole[form].median_ms if form in self.whole else None

    def _sum(self, form: str, key: Callable[[Measurement], float]) -> float | None:
        found = [layer.times.get(form) for layer in self.layers]
        numbers = [key(time) for time in found if time is not None]
        return sum(numbers) if numbers and len(numbers) == len(found) else None


def from_record(record: BenchRecord, *, inserts_zeros: bool = False) -> Times:
    """What the page needs of a benchmark.

    Args:
        record: of a model.
        inserts_zeros: the target computes a native deconv by inserting zeros and takes no other such form.
    """
    layers = tuple(_layer(each, inserts_zeros=inserts_zeros) for each in record.layers)
    model = record.model
    names = {"converted": "chosen"}
    whole = {} if model is None else {names.get(form, form): alone(time) for form, time in model.times.items()}
    if inserts_zeros and "native" in whole:
        whole["zero_insert"] = whole["native"]
    reason = (f"the whole network was not timed: {model.reason}",) if model is not None and model.reason else ()
    skipped = tuple(f"{each.site} is left alone: {each.reason}" for each in record.skipped)
    return Times(layers, whole, record.environment, (*record.notes, *reason, *skipped))


def _layer(layer: LayerTimes, *, inserts_zeros: bool) -> DeconvTimes:
    split = fixed_split([option.candidate for option in layer.options])
    baseline = NATIVE if inserts_zeros else ZERO_INSERT
    pairs = {"native": NATIVE, "zero_insert": baseline, "chosen": layer.chosen}
    times = {form: layer.time(candidate) for form, candidate in pairs.items()}
    times["split"] = None if split is None else layer.time(split)
    known = {form: None if time is None else alone(time) for form, time in times.items()}
    return DeconvTimes(layer.name, layer.deconv.describe(), known, str(layer.chosen), str(split or ""))


def alone(time: Measurement) -> Measurement:
    """A measurement without the times of its rounds."""
    return replace(time, rounds_ms=())
