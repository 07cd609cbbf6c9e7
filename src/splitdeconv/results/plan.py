"""What is known about each site, and what was decided."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.results.schema import SCHEMA_VERSION
from splitdeconv.results.times import Measurement, over_sizes

Sizes = Mapping[str, tuple[int, ...]]  # input → its shape


@dataclass(frozen=True, slots=True)
class Skipped:
    """A deconv of the model that cannot be rewritten, and why.

    Attributes:
        site: its name in the model.
        where: graph or function that holds it.
        reason: one sentence.
    """

    site: str
    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a program does on any processor, for the sizes of its deconv (unknown sizes count as 1).

    Attributes:
        macs: multiply-accumulates, zero-filled taps and padding included.
        moved: elements that the data movement around the convolutions reads and writes.
        convs: number of convolutions.
    """

    macs: int
    moved: int
    convs: int


@dataclass(frozen=True, slots=True)
class Option:
    """One row of a site's table: a ``candidate`` with its ``cost`` and, on a measuring target, its ``time``."""

    candidate: Candidate
    cost: Cost
    time: Measurement | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What was decided for one site, with everything that it was decided from.

    Attributes:
        site: name of the site.
        deconv: its geometry, as found.
        chosen: the candidate that the model gets.
        reason: one sentence.
        options: all candidates that apply.
        refusals: those that do not.
    """

    site: str
    deconv: Deconv
    chosen: Candidate
    reason: str
    options: tuple[Option, ...]
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Which candidate each site gets.

    Attributes:
        target: name of the target that it was made for.
        choices: one for each site, in the model's order.
        measured_at: the sizes of inputs at which forms were timed, where the model leaves them open or the user set
            them; a plan holds at others, but may not be the fastest there.
    """

    target: str
    choices: tuple[Choice, ...]
    measured_at: tuple[Sizes, ...] = ()

    def to_json(self) -> str:
        """The plan file: sites and their candidates only, the same text for the same plan."""
        sites = {choice.site: str(choice.chosen) for choice in self.choices}
        file = PlanFile(schema=SCHEMA_VERSION, target=self.target, sites=sites, measured_at=self.measured_at)
        return json.dumps(asdict(file), indent=2) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """What a plan file holds.

    Attributes:
        schema: its version.
        target: what the plan was made for.
        sites: site → name of its candidate.
        measured_at: the sizes at which it was measured.
    """

    schema: int
    target: str = ""
    sites: Mapping[str, str]
    measured_at: tuple[Sizes, ...] = ()


@dataclass(frozen=True, slots=True)
class SiteTable:
    """What is known about one site before the decision.

    Attributes:
        site: its name.
        deconv: its geometry.
        options: all candidates that apply, with their costs and, where they were measured, their times.
        refusals: those that do not.
        equal_work: time of the plain convolution of the same work, where it was asked for and runs.
    """

    site: str
    deconv: Deconv
    options: tuple[Option, ...]
    refusals: tuple[Refusal, ...] = ()
    equal_work: Measurement | None = None


def table_over_sizes(tables: Sequence[SiteTable]) -> SiteTable:
    """One table of a site from those at several sizes, at least one.

    What does not run at one of them is refused; what has no time at one of them has none.
    """
    if len(tables) == 1:
        return tables[0]
    refusals = {refusal.candidate: refusal for table in tables for refusal in table.refusals}
    options = []
    kept = ([option for option in table.options if option.candidate not in refusals] for table in tables)
    for together in zip(*kept, strict=True):
        times = [option.time for option in together if option.time is not None]
        options.append(replace(together[0], time=over_sizes(times) if len(times) == len(tables) else None))
    return replace(tables[0], options=tuple(options), refusals=tuple(refusals.values()))


def sizes_in_words(sizes: Sizes) -> str:
    """``x 1×3×256×256, mask 1×1×256×256``."""
    return ", ".join(f"{name} {'×'.join(map(str, shape))}" for name, shape in sizes.items())
