"""Inspect: what there is to rewrite, what it costs, and what targets say of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console

from splitdeconv import lowerings
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Findings, Model, Site
from splitdeconv.formats.open_sizes import InShapes, named_shapes, with_batch_of_one
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.open import GENERIC, Options, Shapes, name_of, open_model, open_target, proving
from splitdeconv.pipeline.prepared import folded_sites
from splitdeconv.pipeline.printable import Reportable
from splitdeconv.pipeline.records import PrintedRecord
from splitdeconv.pipeline.sites import site_table
from splitdeconv.pipeline.sizes import find_sized
from splitdeconv.report.page import Page
from splitdeconv.results.plan import Plan
from splitdeconv.results.record import Inspected, Provenance
from splitdeconv.targets.target import CompileError, Target


@dataclass(frozen=True, slots=True)
class Inspection(Reportable):
    """What an inspection returns; its text is what the command prints.

    Attributes:
        findings: the deconvs, those that cannot be rewritten, and the rest of the model's work.
        record: everything else, for JSON and reports.
    """

    findings: Findings
    record: PrintedRecord

    @property
    def plan(self) -> Plan:
        """What the generic rule would take, with the costs of all candidates."""
        return self.record.plan

    def show(self, out: Console) -> None:
        """Print it as the command does."""
        self.record.show(out)

    def page(self) -> Page:
        """What :meth:`report` writes."""
        return self.record.page()


def inspect(source: object, in_shapes: InShapes, target_names: Sequence[str]) -> Inspection:
    """The deconvs of a model, what they cost and what ``target_names`` say of them; nothing is written.

    Raises:
        SplitdeconvError: see ``errors``.
    """
    model = open_model(source)
    runner: Target | None = None
    with suppress(UsageError):  # what its runtime says of it is left out where that is not installed
        model, runner = proving(model, None, Options())
    shapes = named_shapes(model, in_shapes)
    is_open = any(each.shape is None or None in each.shape for each in model.inputs() if each.name not in shapes)
    findings = find_sized(model, shapes, {}, None if is_open else runner)
    tables = [site_table(model, site, None) for site in findings.sites]
    asked = {name: open_target(name, model, Options()) for name in target_names}
    answers = {
        name: {site.id: _answer(model, site, target) for site in findings.sites} for name, target in asked.items()
    }
    plan = planner.plan(GENERIC, tables, Overrides(), "generic")
    folds, _ = model.foldable()
    told = Inspected(
        answers,
        {site.id: tuple(site.epilogue) for site in findings.sites if site.epilogue},
        folded_sites(folds),
        {site.id: site.deconv for site in model.sub_pixels(shapes)[0]},
        is_open,
    )
    record = PrintedRecord(
        command="inspect",
        model=name_of(source),
        output="",
        environments=tuple(target.environment() for target in asked.values()),
        plan=plan,
        skipped=findings.skipped,
        other_macs=_other_macs(model, findings, shapes),
        provenance=Provenance.of_this_run(),
        inspected=told,
    )
    return Inspection(findings, record)


def _other_macs(model: Model, findings: Findings, shapes: Shapes) -> int | None:
    """The work of the rest of the model; for one sample where only the batch is open, as the deconvs count."""
    if findings.other_macs is not None:
        return findings.other_macs
    return model.find(with_batch_of_one(model.inputs(), shapes)).other_macs


def _answer(model: Model, site: Site, target: Target) -> str:
    """Why a target does not run a site as it is, or nothing; compilers that only estimate are asked by compiling."""
    native = lowerings.lower(site.deconv, model.layout, NATIVE)
    reason = model.refuse(site, native) or target.refuse(native)
    if reason is None and target.kind == "estimated":
        try:
            target.compile(model.emit(site, native))
        except CompileError as error:
            reason = str(error)
    return reason or ""
