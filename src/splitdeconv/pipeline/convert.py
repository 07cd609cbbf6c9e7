"""Convert: open, time, choose, let the whole model have the last word, prove, write."""

from __future__ import annotations

import shutil
import time
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rich.console import Console

from splitdeconv import lowerings
from splitdeconv.choosing import planner
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.errors import CompileError, InputError, UsageError, VerificationError
from splitdeconv.formats.model import Findings, Model, Site
from splitdeconv.formats.open_sizes import definite_shapes, sizes_together, with_sizes
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.in_model import Settled, programs_of
from splitdeconv.pipeline.open import (
    GENERIC,
    Shapes,
    as_it_came,
    name_of,
    named_target,
    open_model,
    open_target,
    proving,
    runner_for,
    saved,
    workplace,
)
from splitdeconv.pipeline.prepared import Prepared, folded_sites, prepare, settle_prepared
from splitdeconv.pipeline.printable import Reportable
from splitdeconv.pipeline.records import PrintedRecord
from splitdeconv.pipeline.request import ConvertRequest, check_names
from splitdeconv.pipeline.sites import Entrant, cost_of, site_table, time_sites
from splitdeconv.pipeline.sizes import Sized, find_sized, fixed
from splitdeconv.pipeline.streamed import streamed
from splitdeconv.pipeline.turned import TURN_SHARE
from splitdeconv.proof.prove import prove
from splitdeconv.proof.whole import Given
from splitdeconv.report.page import Page
from splitdeconv.results.plan import Choice, Plan, SiteTable, sizes_in_words, table_over_sizes
from splitdeconv.results.record import Environment, ModelSize, Provenance, SiteWork, WholeTimes
from splitdeconv.results.verdict import Verdict
from splitdeconv.targets.target import Target

AGAIN_SHARE = 0.5  # of a race's seconds, for one without a form that failed the proof; so that any number of them ends


@dataclass(frozen=True)
class Conversion(Reportable):
    """What a conversion returns; its text is what the command prints.

    Attributes:
        rewritten: the rewritten model.
        plan: which site got what, and why.
        verdict: the proof of equality.
        record: everything, for JSON and reports.
    """

    rewritten: Model
    plan: Plan
    verdict: Verdict
    record: PrintedRecord

    @cached_property
    def model(self) -> object:
        """The rewritten model as an object of the format's own library (``onnx.ModelProto``), made when it is read."""
        return self.rewritten.to_object()

    def show(self, out: Console) -> None:
        """Print it as the command does."""
        self.record.show(out)

    def page(self) -> Page:
        """What :meth:`report` writes."""
        return self.record.page()


@dataclass(frozen=True, slots=True)
class _Case:
    """One conversion under way.

    Attributes:
        source: as the user named the model.
        came: the original, in chunks and with fixed sizes where that was asked for.
        prepared: what was done to it before.
        model: that, as the runner sees it.
        done: what was done to the model before that.
        runner: what runs the proof; None where it is not installed and not needed.
        findings: its deconvs, sizes as the model states them.
        given: sizes of inputs that the user gave, one set of shapes or several.
        sizes: the same findings at each of the sizes at which it is measured, and counted at the first.
        target: where it is to run, or None.
        target_name, target_reason: how it is called, and why that one where the user named none.
        request: of the user.
        folder: in which the result is made.
        out: the result's name, or None.
    """

    source: object
    came: Model
    prepared: Prepared
    model: Model
    done: tuple[str, ...]
    runner: Target | None
    findings: Findings
    given: tuple[Shapes, ...]
    sizes: tuple[Sized, ...]
    target: Target | None
    target_name: str
    target_reason: str
    request: ConvertRequest
    folder: Path
    out: Path | None


def convert(source: object, out: Path | None, request: ConvertRequest) -> Conversion:
    """Rewrite the deconvs of a model exactly, prove it, and write it to ``out`` if that is given.

    Raises:
        VerificationError: the rewritten model is not equal; nothing was written.
        SplitdeconvError: see ``errors``.
    """
    model = open_model(source, request.numerics)
    came, how = streamed(model, request) if request.stream else (model, ())
    given = sizes_together(came, request.in_shapes)
    check_names(came, out, request, given)
    request.progress("finding deconvs", 0.0)
    name, why = named_target(request.target, came)
    target = None if name == GENERIC else open_target(name, came, request.options)
    runs = target is not None or request.verify
    came, said = fixed(came, given, request.inputs, target, request.options) if runs else (came, ())
    prepared = prepare(came, request, given[0], target)
    if request.to_deconv:
        request = replace(request, budget=(1 - TURN_SHARE) * request.budget)
    model = prepared.model
    findings = model.find()
    # Without a target nothing is measured, and sizes that nobody has stated are not needed.
    definite = [definite_shapes(model, shapes) if target else (shapes, ()) for shapes in given]
    runner: Target | None = None
    if findings.sites and (runs or model.asks_runtime):
        with suppress(UsageError):  # said where it is needed, if it is
            model, runner = proving(model, target, request.options)
    sizes = tuple(
        Sized(shapes, find_sized(model, shapes, request.inputs, runner if runs else None)) for shapes, _ in definite
    )
    with workplace(model, out) as folder:
        done = (*how, *said)
        case = _Case(
            source, came, prepared, model, done, runner, findings, given, sizes, target, name, why, request, folder, out
        )
        started = time.monotonic()
        plan, notes = _decide(case)
        left = max(request.options.model_seconds, started + request.options.seconds - time.monotonic())
        conversion = _realise(case, plan, (*model.notes, *done, *prepared.notes, *definite[0][1], *notes), left)
        if not conversion.verdict.passed:
            failure, worst = conversion.verdict.failure, conversion.verdict.worst()
            message = failure or f"the rewritten model is not equal to the original: {worst}"
            raise VerificationError(f"{message}; nothing was written", conversion.record)
        return conversion


def _decide(case: _Case) -> tuple[Plan, tuple[str, ...]]:
    """The plan, from measurements where the target measures and something is left to choose."""
    request, sites = case.request, case.findings.sites
    tables = [site_table(case.model, site, case.target, max_growth=request.max_growth) for site in sites]
    if case.target is None:
        return planner.plan(GENERIC, tables, request.overrides, "generic", case.findings.skipped), ()
    planner.check(request.overrides, [site.id for site in sites], case.findings.skipped)
    timed, notes = _timed(case, case.target, tables)
    _check_that_something_runs(case, timed)
    plan = planner.plan(case.target_name, timed, request.overrides, "fastest", case.findings.skipped)
    measured_at = tuple(each.shapes for each in case.sizes if each.shapes)
    said = (f"measured at {'; '.join(map(sizes_in_words, measured_at))}",) if request.in_shapes else ()
    return replace(plan, measured_at=measured_at), (*said, *notes)


def _timed(case: _Case, target: Target, tables: Sequence[SiteTable]) -> tuple[list[SiteTable], tuple[str, ...]]:
    """The tables with the times of the sites at each of the sizes."""
    request, seconds = case.request, case.request.options.site_seconds / len(case.sizes)
    timed: list[list[SiteTable]] = []
    notes: dict[str, None] = {}
    for each in case.sizes:
        sites = with_sizes(case.findings.sites, each.findings.sites)
        entrants = [Entrant(case.model, site, table) for site, table in zip(sites, tables, strict=True)]
        found, said = time_sites(entrants, target, request.overrides, request.options, seconds, request.progress)
        timed.append(found)
        notes |= dict.fromkeys(said)
    return [table_over_sizes(together) for together in zip(*timed, strict=True)], tuple(notes)


def _check_that_something_runs(case: _Case, tables: Sequence[SiteTable]) -> None:
    """Check that the target runs some form of each site, or the model as it is.

    Raises:
        InputError: it runs neither.
    """
    assert case.target is not None, "nothing is known without a target"
    for table in tables:
        if table.options:
            continue
        try:
            with as_it_came(case.model) as original:
                case.target.compile(original, whole=True)
        except CompileError as error:
            here = f"{case.target.name} runs no form of site '{table.site}'"
            raise InputError(f"{name_of(case.source)}: {here}, and not the model as it is: {error}") from None


def _realise(case: _Case, plan: Plan, notes: tuple[str, ...], seconds: float) -> Conversion:
    """Let the whole model have the last word, write what it leaves, and prove it equal."""
    with as_it_came(case.came) as original:
        whole, said = None, notes
        if case.target is not None:
            settled = _settled(case, plan, original, case.target, seconds)
            plan, whole, said = settled.plan, settled.whole, (*notes, *settled.notes)
        programs = programs_of(case.model, plan)
        if not programs and (not case.prepared.is_changed or (whole is not None and not whole.kept)):
            return _unchanged(replace(case, model=case.came, prepared=Prepared(case.came)), plan, said, whole)
        case.request.progress("writing", 0.0)
        path = case.folder / (case.out.name if case.out else "rewritten" + case.model.suffix)
        rewritten = case.model.splice(programs)
        result = saved(rewritten, path)
        verdict = _verdict(case, programs, original, result)
        sizes = _size(case, case.came, original, case.came.files()), _size(case, rewritten, result, _files_at(path))
    if faulty := _faulty(case, verdict, programs):
        return _realise(case, _without(case, plan, faulty), notes, AGAIN_SHARE * seconds)
    sites = [site for site in case.findings.sites if site.id in programs]
    site_notes = tuple(f"site '{site.id}': {note}" for site in sites for note in site.notes)
    return Conversion(rewritten, plan, verdict, _record(case, plan, verdict, (*site_notes, *said), whole, sizes))


def _files_at(path: Path) -> list[Path]:
    """What was written for a model: its file, and those beside it that are named after it."""
    return [each for each in path.parent.iterdir() if each.name.startswith(path.name)]


def _size(case: _Case, model: Model, whole: Compilable, files: Sequence[Path]) -> ModelSize:
    """What the original or the rewritten model is made of."""
    stored = sum(file.stat().st_size for file in files) if files else whole.size
    return ModelSize(dict(model.operator_counts()), stored, model.peak_bytes(case.sizes[0].shapes))


def _faulty(case: _Case, verdict: Verdict, rewritten: Container[str]) -> dict[str, str]:
    """Sites whose forms the proof found not to run, or to be computed wrongly where that can be chosen; and why.

    A form may pass its trial and fail the proof: some kernels saturate, or round otherwise, on few inputs only. What
    was done to the model before is no matter of forms: where its proof fails, no other one helps.
    """
    measured = case.target is not None and case.target.kind == "measured"
    found = {}
    for proof in verdict.proofs[len(case.prepared.proofs) :]:
        site = proof.site
        if site in rewritten and not proof.ran:
            found[site] = f"{proof.where}: {proof.detail}"
        elif site in rewritten and not proof.exact and measured and not case.request.overrides.forces(site):
            found[site] = f"{proof.where} does not compute the definition: {proof.detail}"
    return found


def _without(case: _Case, plan: Plan, reasons: Mapping[str, str]) -> Plan:
    """The plan with other forms at some sites."""
    overrides = case.request.overrides
    rule: planner.Rule = "generic" if case.target is None else "fastest"
    choices = tuple(
        planner.without(choice, reasons[choice.site], overrides, rule) if choice.site in reasons else choice
        for choice in plan.choices
    )
    return replace(plan, choices=choices)


def _settled(case: _Case, plan: Plan, original: Compilable, target: Target, seconds: float) -> Settled:
    """See :func:`prepared.settle_prepared`."""
    request = case.request
    feeds = []
    for each in case.sizes:
        found = Given(request.inputs, (each.shapes,)).feeds_that_run(case.model, original, target)
        if isinstance(found, str):
            return Settled(plan, notes=(f"the whole model was not timed: {found}",))
        feeds.append(found)
    return settle_prepared(
        case.prepared, original, plan, feeds, target, request.overrides, request.options, seconds, request.progress
    )


def _verdict(case: _Case, programs: Mapping[str, Program], original: Compilable, rewritten: Compilable) -> Verdict:
    request = case.request
    if not request.verify:
        return Verdict(skipped="switched off by the user")
    by_site: dict[Site, Program] = {site: programs[site.id] for site in case.findings.sites if site.id in programs}
    verdict = prove(
        case.model,
        by_site,
        original,
        rewritten,
        Given(request.inputs, case.given),
        _runner(case),
        came=case.came,
        own_numbers=case.target is None or not case.target.gives_outputs,
        progress=request.progress,
    )
    return replace(verdict, proofs=(*case.prepared.proofs, *verdict.proofs), folds=case.prepared.checks())


def _unchanged(case: _Case, plan: Plan, notes: tuple[str, ...], whole: WholeTimes | None) -> Conversion:
    """A model in which nothing is rewritten goes out as it came in, byte for byte, or as it was made before that."""
    for leftover in case.folder.iterdir():
        leftover.unlink()
    if case.out is not None:
        _copy(case.model, case.folder, case.out)
    reason = "every deconv stays native" if plan.choices else "there is no deconv that can be rewritten"
    written = "otherwise unchanged" if case.done else "unchanged"
    verdict = Verdict(skipped="nothing was rewritten")
    record = _record(case, plan, verdict, (*notes, f"{reason}: the model is written {written}"), whole)
    return Conversion(case.model, plan, verdict, record)


def _copy(model: Model, folder: Path, out: Path) -> None:
    own = model.files()
    if not own:
        model.save(folder / out.name)
        return
    shutil.copyfile(own[0], folder / out.name)
    if own[0].parent.resolve() != out.parent.resolve():
        for file in own[1:]:
            copy = folder / file.relative_to(own[0].parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _record(
    case: _Case,
    plan: Plan,
    verdict: Verdict,
    notes: tuple[str, ...],
    whole: WholeTimes | None,
    made_of: tuple[ModelSize | None, ModelSize | None] = (None, None),
) -> PrintedRecord:
    counted = case.sizes[0].findings
    sized = {site.id: site for site in with_sizes(case.findings.sites, counted.sites)}
    return PrintedRecord(
        command="convert",
        model=name_of(case.source),
        output=str(case.out or "") if verdict.passed else "",
        environments=_environments(case),
        plan=plan,
        target_reason=case.target_reason,
        skipped=case.findings.skipped,
        verdict=verdict,
        notes=notes,
        work=tuple(_work(case.model, choice, sized[choice.site]) for choice in plan.choices),
        other_macs=counted.other_macs,
        whole=whole,
        before=made_of[0],
        after=made_of[1],
        folded=folded_sites(case.prepared.folds),
        turned=case.prepared.turned,
        provenance=Provenance.of_this_run(),
    )


def _work(model: Model, choice: Choice, sized: Site) -> SiteWork:
    """The arithmetic of one site."""
    native = chosen = sized.deconv.native_macs()
    if choice.chosen != NATIVE:
        chosen = cost_of(lowerings.lower(sized.deconv, model.layout, choice.chosen)).macs
    return SiteWork(choice.site, sized.deconv, native, sized.deconv.zero_insert_macs(), chosen)


def _runner(case: _Case) -> Target:
    """What runs the proof.

    Raises:
        UsageError: it is not installed.
    """
    return case.runner or runner_for(case.model, case.target, case.request.options)


def _environments(case: _Case) -> tuple[Environment, ...]:
    used = [case.target] if case.target else []
    if case.request.verify:
        used.append(_runner(case))
    return tuple({target.name: target.environment() for target in used}.values())
