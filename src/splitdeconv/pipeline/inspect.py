"""Inspect: what there is to rewrite, what it costs, and what targets say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from splitdeconv import lowerings
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Findings, Model, Site
from splitdeconv.formats.open_sizes import named_shapes, with_batch_of_one
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.open import GENERIC, Options, Shapes, name_of, open_model, open_target, proving
from splitdeconv.pipeline.sites import site_table
from splitdeconv.results import provenance
from splitdeconv.results.plan import Plan
from splitdeconv.results.record import RunRecord
from splitdeconv.targets.target import CompileError, Target


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an inspection returns.

    Attributes:
        findings: the deconvs, those that cannot be rewritten, and the rest of the model's work.
        plan: what the generic rule would take, with the costs of all candidates.
        answers: target → site → why it does not run the deconv as it is (empty: it does).
        record: everything, for JSON.
        is_open: whether the model leaves sizes of inputs open that were not given.
    """

    findings: Findings
    plan: Plan
    answers: Mapping[str, Mapping[str, str]]
    record: RunRecord
    is_open: bool = False


def inspect(source: object, in_shapes: Shapes, target_names: Sequence[str]) -> Inspection:
    """The deconvs of a model, what they cost and what ``target_names`` say of them; nothing is written.

    Raises:
        SplitdeconvError: see ``errors``.
    """
    model = open_model(source)
    with suppress(UsageError):  # what its runtime says of it is left out where that is not installed
        model, _ = proving(model, None, Options())
    shapes = named_shapes(model, in_shapes)
    findings = model.find(shapes)
    tables = [site_table(model, site, None) for site in findings.sites]
    asked = {name: open_target(name, model, Options()) for name in target_names}
    answers = {
        name: {site.id: _answer(model, site, target) for site in findings.sites} for name, target in asked.items()
    }
    plan = planner.plan(GENERIC, tables, Overrides(), "generic")
    record = RunRecord(
        "inspect",
        name_of(source),
        "",
        tuple(target.environment() for target in asked.values()),
        plan,
        findings.skipped,
        other_macs=_other_macs(model, findings, shapes),
        provenance=provenance.of_this_run(),
    )
    is_open = any(each.shape is None or None in each.shape for each in model.inputs() if each.name not in shapes)
    return Inspection(findings, plan, answers, record, is_open)


def _other_macs(model: Model, findings: Findings, shapes: Shapes) -> int | None:
    """The work of the rest of the model; for one sample where only the batch is open, as the deconvs count."""
    if findings.other_macs is not None:
        return findings.other_macs
    return model.find(with_batch_of_one(model.inputs(), shapes)).other_macs


def _answer(model: Model, site: Site, target: Target) -> str:
    """Why a target does not run a site as it is, or nothing; compilers that only estimate are asked by compiling."""
    native = lowerings.lower(site.deconv, model.layout, NATIVE)
    reason = target.refuse(native)
    if reason is None and target.kind == "estimated":
        try:
            target.compile(model.emit(site, native))
        except CompileError as error:
            reason = str(error)
    return reason or ""
