"""What a run finds out, as values: candidates, refusals, measurements, choices, the plan, the verdict, the record.

``splitdeconv.codec`` writes all of it as JSON and reads it back.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib import metadata

from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.results.plan import Plan, Skipped
from splitdeconv.results.times import Measurement
from splitdeconv.results.verdict import Verdict
from splitdeconv.version import __version__


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a number was measured or estimated.

    Attributes:
        target: name as on the command line.
        versions: package → version.
        processor: its name.
        threads: worker threads.
        options: what else was set.
    """

    target: str
    versions: Mapping[str, str]
    processor: str = ""
    threads: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteWork:
    """The arithmetic of one site before and after, in multiply-accumulates (counted, not measured).

    Attributes:
        site: its name.
        deconv: its geometry with the sizes that were counted with; those that are still open count as 1.
        native: of the deconv as it is: every input pixel meets every tap.
        zero_insert: with zeros inserted, as the paper counts its baseline (NZP).
        chosen: in the form that the model gets; equal to ``native`` where it stays as it is.
    """

    site: str
    deconv: Deconv
    native: int
    zero_insert: int
    chosen: int


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model is made of.

    Attributes:
        operators: how many of each, by its name in the format, in all graphs; of a module, its layers by class.
        file_bytes: of all files that hold the model; of the object where none does.
        peak_bytes: an estimate, from the graph, of the most memory that its maps take at once, each operator's output
            in memory of its own; an open batch is 1. None where a size is unknown.
    """

    operators: Mapping[str, int] = field(default_factory=dict)
    file_bytes: int = 0
    peak_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class WholeTimes:
    """The whole model before and after, timed in the same rounds.

    Attributes:
        before, after: the original, and rewritten as it was planned.
        kept: whether the rewriting stands; False where it was taken back because the whole model gained nothing.
        folded: with operators folded into the weights of its deconvs, which are native; None where none are.
    """

    before: Measurement
    after: Measurement
    kept: bool = True
    folded: Measurement | None = None


@dataclass(frozen=True, slots=True)
class FoldedSite:
    """A site with operators that became part of its weights and bias.

    Attributes:
        site: its name.
        operators: that are gone, in the model's order.
    """

    site: str
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TurnedSite:
    """A convolution and an order of its channels as pixels that became a transposed convolution.

    Attributes:
        site: its name.
        operators: that it was.
        deconv: what it is now.
        before, after: times of both, alone and in the same rounds.
    """

    site: str
    operators: tuple[str, ...]
    deconv: Deconv
    before: Measurement
    after: Measurement


@dataclass(frozen=True, slots=True)
class Inspected:
    """What an inspection tells beside its plan, which is that of the generic rule.

    Attributes:
        answers: target → site → why it does not run the deconv as it is (empty: it does).
        epilogues: site → the operators behind it that a rewriting moves.
        foldable: what ``--fold`` would put into the weights of which deconv.
        turnable: sub-pixel convolutions, by name, as the deconvs that ``--to-deconv`` would try.
        is_open: whether the model leaves sizes of inputs open that were not given.
    """

    answers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    epilogues: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    foldable: tuple[FoldedSite, ...] = ()
    turnable: Mapping[str, Deconv] = field(default_factory=dict)
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a record came about.

    Attributes:
        arguments: of the command line, without the program's name; none for a call from Python.
        versions: of splitdeconv and what it stands on.
        system: the operating system.
        finished: date and time (UTC), as ISO 8601.
    """

    arguments: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    system: str = ""
    finished: str = ""

    @classmethod
    def of_this_run(cls) -> Provenance:
        """Of a record that is finished now; the command line adds its arguments."""
        finished = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls((), versions(), platform.platform(), finished)


def versions() -> dict[str, str]:
    """Of what computes in every run."""
    return {"splitdeconv": __version__, "python": platform.python_version(), "numpy": metadata.version("numpy")}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything about one run, for ``--json`` and the report.

    Attributes:
        command: ``inspect``, ``convert`` or ``restore``.
        model: path of the input.
        output: path of the result, or empty where nothing was written.
        environments: everything that computed something.
        plan: the decisions, with their tables.
        skipped: deconvs that were left alone.
        verdict: the proof, or None where nothing was proved.
        notes: what the user should know, one sentence each.
        work: the arithmetic of each site before and after.
        other_macs: multiply-accumulates of the rest of the model, or None where sizes are unknown.
        whole: times of the whole model, or None where it was not timed.
        provenance: how the record came about.
        target_reason: why the plan is for its target, or empty where the user named it.
        before, after: what the original and the rewritten model are made of; None where nothing was rewritten.
        folded: the sites with operators that became part of their weights, which are proved to the noise bound only.
        turned: the sites that were sub-pixel convolutions.
        inspected: what an inspection tells beside its plan; None of other commands.
    """

    command: str
    model: str
    output: str
    environments: tuple[Environment, ...]
    plan: Plan
    skipped: tuple[Skipped, ...] = ()
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()
    work: tuple[SiteWork, ...] = ()
    other_macs: int | None = None
    whole: WholeTimes | None = None
    provenance: Provenance = field(default_factory=Provenance)
    target_reason: str = ""
    before: ModelSize | None = None
    after: ModelSize | None = None
    folded: tuple[FoldedSite, ...] = ()
    turned: tuple[TurnedSite, ...] = ()
    inspected: Inspected | None = None

    @property
    def is_changed(self) -> bool:
        """Whether the result is another model than the one that came."""
        return bool(self.converted or self.folded or self.turned)

    @property
    def converted(self) -> tuple[str, ...]:
        """Names of the sites that do not stay as they are."""
        return tuple(choice.site for choice in self.plan.choices if choice.chosen != NATIVE)
