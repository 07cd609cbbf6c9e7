"""Inspect: what there is to rewrite, what it costs, and what targets say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from rich.console import Console

from splitdeconv import lowerings
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Findings, Model, Site
from splitdeconv.formats.open_sizes import InShapes, named_shapes, with_batch_of_one
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.open import GENERIC, Options, Shapes, name_of, open_model, open_target, proving
from splitdeconv.pipeline.prepared import folded_sites
from splitdeconv.pipeline.printable import Printable
from splitdeconv.pipeline.sites import site_table
from splitdeconv.pipeline.sizes import find_sized
from splitdeconv.report import listing
from splitdeconv.report.listing import Listing
from splitdeconv.report.numbers import count
from splitdeconv.results.plan import Plan
from splitdeconv.results.record import FoldedSite, Provenance, RunRecord
from splitdeconv.targets.target import CompileError, Target


@dataclass(frozen=True, slots=True)
class Inspection(Printable):
    """What an inspection returns.

    Attributes:
        findings: the deconvs, those that cannot be rewritten, and the rest of the model's work.
        plan: what the generic rule would take, with the costs of all candidates.
        answers: target → site → why it does not run the deconv as it is (empty: it does).
        record: everything, for JSON.
        foldable: what ``--fold`` would put into the weights of which deconv.
        turnable: sub-pixel convolutions, by name, as the deconvs that ``--to-deconv`` would try.
        is_open: whether the model leaves sizes of inputs open that were not given.
    """

    findings: Findings
    plan: Plan
    answers: Mapping[str, Mapping[str, str]]
    record: RunRecord
    foldable: tuple[FoldedSite, ...]
    turnable: Mapping[str, Deconv]
    is_open: bool = False

    def show(self, out: Console) -> None:
        """Print the table, the sums, and what is left alone."""
        sites = self.findings.sites
        if sites:
            listing.show(out, _table(self))
            listing.say(out, _sums(self))
        else:
            listing.say(out, "no deconv that can be rewritten")
        for each in self.foldable:
            listing.say(out, f"--fold puts {', '.join(each.operators)} into the weights of '{each.site}'")
        for name, deconv in self.turnable.items():
            listing.say(out, f"--to-deconv tries '{name}' as a deconv: {deconv.describe()}")
        for skipped in self.findings.skipped:
            listing.say(out, f"skipped '{skipped.site}' ({skipped.where}): {skipped.reason}")


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
    record = RunRecord(
        "inspect",
        name_of(source),
        "",
        tuple(target.environment() for target in asked.values()),
        plan,
        findings.skipped,
        other_macs=_other_macs(model, findings, shapes),
        provenance=Provenance.of_this_run(),
    )
    folds, _ = model.foldable()
    turnable = {site.id: site.deconv for site in model.sub_pixels(shapes)[0]}
    return Inspection(findings, plan, answers, record, folded_sites(folds), turnable, is_open)


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


def _table(found: Inspection) -> Listing:
    numbers = ("MACs", "NZP", "SD", "fewest")
    rows = []
    for site, choice in zip(found.findings.sites, found.plan.choices, strict=True):
        deconv = site.deconv
        native = deconv.native_macs()
        forms = [option.cost.macs for option in choice.options if option.candidate.lowering != NATIVE.lowering]
        macs = (native, deconv.zero_insert_macs(), deconv.split_macs(), min(forms, default=native))
        answers = (answer[site.id] or "runs it" for answer in found.answers.values())
        names = (" ".join(site.epilogue), str(choice.chosen))
        rows.append((site.id, deconv.describe(), *map(count, macs), *names, *answers))
    headers = ("site", "deconv", *numbers, "then", "generic choice", *found.answers)
    return Listing(headers, rows, numbers, headers[-1] if found.answers else "")


def _sums(found: Inspection) -> str:
    deconvs = [site.deconv for site in found.findings.sites]
    native = sum(deconv.native_macs() for deconv in deconvs)
    inserted = sum(deconv.zero_insert_macs() for deconv in deconvs)
    split = sum(deconv.split_macs() for deconv in deconvs)
    found_deconvs = "1 deconv" if len(deconvs) == 1 else f"{len(deconvs)} deconvs"
    text = (
        f"{found_deconvs}: {count(native)} MACs; with zeros inserted (NZP) {count(inserted)}, "
        f"split (SD) {count(split)}."
    )
    sets = "--input-shape sets them" if found.is_open else "the model computes them at run time"
    if any(None in deconv.in_sizes for deconv in deconvs):
        return text + f" Sizes marked ? count as 1; {sets}."
    other = found.record.other_macs
    if other is None:
        return text + f" The rest of the model has sizes that are not known; {sets}."
    return text + f" The deconvs are {native / (native + other):.1%} of the model's {count(native + other)} MACs."
