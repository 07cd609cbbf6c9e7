"""A benchmark's record of one network, read as the paper's tables show it."""

from __future__ import annotations

from dataclasses import dataclass

from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.bench import NATIVE, ZERO_INSERT, BenchRecord, LayerTimes, fixed_split
from splitdeconv.results.times import Measurement

FORMS = {
    "zero_insert": "NZP",
    "native": "native",
    "split": "SD",
    "converted": "chosen plan",
}  # as ``ModelTimes`` has them


@dataclass(frozen=True, slots=True)
class PaperTimes:
    """One network on one runtime.

    Attributes:
        record: of the network.
        inserts_zeros: the target computes a native deconv by inserting zeros and takes no other such form.
    """

    record: BenchRecord
    inserts_zeros: bool = False

    def layer(self, layer: LayerTimes, form: str) -> Measurement | None:
        """The time of one deconv alone, None where it does not run in this form."""
        candidate = self.candidate(layer, form)
        return None if candidate is None else layer.time(candidate)

    def candidate(self, layer: LayerTimes, form: str) -> Candidate | None:
        """What stands for a form, None where a deconv has no such form."""
        if form == "split":
            return fixed_split(option.candidate for option in layer.options)
        zeros = NATIVE if self.inserts_zeros else ZERO_INSERT
        return {"native": NATIVE, "zero_insert": zeros, "converted": layer.chosen}[form]

    def whole(self, form: str) -> Measurement | None:
        """The time of the whole network, None where it was not timed."""
        known = self.record.model.times if self.record.model is not None else {}
        return known.get("native" if form == "zero_insert" and self.inserts_zeros else form)

    def ms(self, form: str, *, whole: bool = False) -> float | None:
        """The time of the whole network, or the sum of the medians of its deconvs; None where one has no time."""
        known = self._times(form, whole=whole)
        return sum(time.median_ms for time in known) if known else None

    def spread(self, form: str, *, whole: bool = False) -> float | None:
        """Half of the (summed) interquartile ranges as a share of the time; None for estimates."""
        known = self._times(form, whole=whole)
        if any(time.kind == "estimated" for time in known):
            return None
        width, median = sum(time.high_ms - time.low_ms for time in known), sum(time.median_ms for time in known)
        return width / 2 / median if median else None

    def ratio(self, slow: str, fast: str, *, whole: bool = False) -> float | None:
        """How many times longer ``slow`` takes than ``fast``."""
        one, other = (self.ms(form, whole=whole) for form in (slow, fast))
        return one / other if one is not None and other else None

    def notes(self) -> tuple[str, ...]:
        """What the reader should know."""
        model = self.record.model
        reason = (f"the whole network was not timed: {model.reason}",) if model is not None and model.reason else ()
        skipped = tuple(f"{each.site} is left alone: {each.reason}" for each in self.record.skipped)
        return (*self.record.notes, *reason, *skipped)

    def _times(self, form: str, *, whole: bool) -> list[Measurement]:
        """Of the whole network or of its deconvs; none where one has no time."""
        found = [self.whole(form)] if whole else [self.layer(layer, form) for layer in self.record.layers]
        known = [time for time in found if time is not None]
        return known if len(known) == len(found) else []
