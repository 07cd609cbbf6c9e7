"""What a run finds out, as values: candidates, refusals, measurements, choices, the plan, the verdict, the record.

All of it goes to JSON and comes back; ``SCHEMA_VERSION`` changes when the meaning of a field does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from splitdeconv.errors import InputError, UsageError
from splitdeconv.spec import Deconv

SCHEMA_VERSION = 1

Json = dict[str, Any]

# Options of a candidate that are no forms; what is written between its colons names its kind by itself.
_KINDS = {
    "window": ("union", "crop", "full", "grouped"),
    "quant": ("qdq", "qdq_u8", "qlinear", "qlinear_u8", "float"),
    "after": ("relayout",),
}


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A lowering with its options; written ``split:union:depth_to_space``.

    Attributes:
        lowering: its name.
        window: which outputs a merged convolution computes (``union``, ``crop``, ``full``, ``grouped``), or empty.
        form: how the phases are put back together (``depth_to_space``, ``transpose``, ``two_steps``, ``concat``,
            ``stack``, ``rows``), or empty.
        after: ``relayout`` where an operation follows that lets a compiler choose the output's layout, or empty.
        quant: how quantised convolutions are written (``qdq``, ``qlinear``, ``float``, …), or empty.
    """

    lowering: str
    window: str = ""
    form: str = ""
    quant: str = ""
    after: str = ""

    def __str__(self) -> str:
        return ":".join(part for part in (self.lowering, *self._options()) if part)

    def _options(self) -> tuple[str, ...]:
        return self.window, self.form, self.quant, self.after

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """The candidate that is written so."""
        lowering, *options = text.split(":")
        kinds = {
            option: next((kind for kind, known in _KINDS.items() if option in known), "form") for option in options
        }
        return cls(lowering, **{kind: option for option, kind in kinds.items()})

    def matches(self, text: str) -> bool:
        """Whether ``text`` names this candidate, or its lowering, or some of its parts in order."""
        parts = text.split(":")
        return parts[0] == self.lowering and set(parts[1:]) <= set(self._options())


@dataclass(frozen=True, slots=True)
class Refusal:
    """A ``candidate`` that does not apply, and the ``reason`` why: one sentence."""

    candidate: Candidate
    reason: str


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
class Measurement:
    """A time, with its spread. ``kind`` tells measured from estimated.

    Attributes:
        median_ms, low_ms, high_ms: median and quartiles over the rounds.
        rounds: how many rounds were timed.
        rounds_ms: time of each round, in order; what was timed in the same run shares its rounds. May be empty.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    rounds: int
    kind: Literal["measured", "estimated"] = "measured"
    rounds_ms: tuple[float, ...] = ()


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
    """

    target: str
    choices: tuple[Choice, ...]

    def to_json(self) -> str:
        """The plan file: sites and their candidates only, the same text for the same plan."""
        chosen = {choice.site: str(choice.chosen) for choice in self.choices}
        return json.dumps({"schema": SCHEMA_VERSION, "target": self.target, "sites": chosen}, indent=2) + "\n"


def plan_sites(text: str, source: str) -> dict[str, str]:
    """Sites and candidate names from a plan file.

    Raises:
        InputError: not a plan of this schema version.
    """
    try:
        found = json.loads(text)
        version, sites = found["schema"], found["sites"]
        names = {str(site): str(name) for site, name in sites.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source}: not a plan file ({error}); wanted the file that --save-plan writes") from None
    if version != SCHEMA_VERSION:
        raise UsageError(f"{source}: plan of schema {version}, this version reads {SCHEMA_VERSION}; plan anew")
    return names


@dataclass(frozen=True, slots=True)
class SiteProof:
    """Equality of one rewritten site.

    Attributes:
        site: its name.
        exact: bit-equal to the definition on integer-valued tensors.
        where: what computed the rewritten side.
        detail: what differs, or empty.
    """

    site: str
    exact: bool
    where: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """Errors of one output on real-valued inputs, relative to its largest magnitude.

    Attributes:
        name: of a model's output, or of a site.
        before, after: error of the original and of the rewritten side.
        bound: what ``after`` may be.
        against: what the errors are measured against: ``float64``, or what stood in for it.
    """

    name: str
    before: float
    after: float
    bound: float
    against: str

    @property
    def passed(self) -> bool:
        """Whether the rewritten side stays within the bound."""
        return self.after <= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """The proof of equality.

    Attributes:
        proofs: one for each rewritten site.
        sites: errors of each rewritten site alone against float64.
        outputs: errors of the model's outputs, the worst over all inputs that were tried.
        failure: why the rewritten model does not run where the original does, or empty.
        notes: what could not be checked, and why.
        skipped: the reason why nothing was checked, or empty.
    """

    proofs: tuple[SiteProof, ...] = ()
    sites: tuple[OutputCheck, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether everything that was checked is equal."""
        return (
            not self.failure
            and all(proof.exact for proof in self.proofs)
            and all(each.passed for each in (*self.sites, *self.outputs))
        )

    def worst(self) -> str:
        """One sentence: what differs, or what came nearest to its bound."""
        if self.failure:
            return self.failure
        for proof in self.proofs:
            if not proof.exact:
                return f"site '{proof.site}' is not bit-equal to the definition: {proof.detail}"
        kinds = [("site", each) for each in self.sites] + [("output", each) for each in self.outputs]
        if not kinds:
            return "nothing to compare"
        kind, worst = max(kinds, key=lambda pair: pair[1].after / pair[1].bound)
        return (
            f"{kind} '{worst.name}': error {worst.after:.1e}, original {worst.before:.1e}, "
            f"bound {worst.bound:.1e} (against {worst.against})"
        )


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
class WholeTimes:
    """The whole model before and after, timed in the same rounds.

    Attributes:
        before, after: the original, and rewritten as it was planned.
        kept: whether the rewriting stands; False where it was taken back because the whole model gained nothing.
    """

    before: Measurement
    after: Measurement
    kept: bool = True


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


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything about one run, for ``--json`` and the report.

    Attributes:
        command: ``inspect`` or ``convert``.
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

    def to_json(self) -> str:
        """The whole record; candidates are written as their names."""
        record = {"schema": SCHEMA_VERSION, **plain(asdict(self))}
        if self.verdict is not None:
            record["verdict"]["passed"] = self.verdict.passed
        return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def plain(found: Any) -> Any:
    """What ``asdict`` gave, with candidates as text and everything else as it is."""
    if isinstance(found, dict):
        if set(found) == {each.name for each in fields(Candidate)}:
            return str(Candidate(**found))
        return {key: plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [plain(value) for value in found]
    return found
