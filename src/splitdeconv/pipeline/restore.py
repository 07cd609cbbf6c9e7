"""Restore: a converted model as it was, from what its file holds of the original."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from splitdeconv import codec
from splitdeconv.deconv.network import Compilable
from splitdeconv.errors import CompileError, InputError, UsageError, VerificationError
from splitdeconv.files import parse_json
from splitdeconv.formats.model import Model, Site
from splitdeconv.formats.open_sizes import named_shapes
from splitdeconv.formats.way_back import VERSION, RewrittenSite, WayBack
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.open import Options, as_it_came, name_of, open_model, runner_for, saved, workplace
from splitdeconv.pipeline.printable import Reportable
from splitdeconv.pipeline.records import PrintedRecord
from splitdeconv.pipeline.request import RestoreRequest, check_output
from splitdeconv.proof.inputs import check_inputs, check_shapes
from splitdeconv.proof.whole import Given, compare
from splitdeconv.report.page import Page
from splitdeconv.results.plan import Choice, Plan
from splitdeconv.results.record import Environment, Provenance, SiteWork
from splitdeconv.results.verdict import Verdict
from splitdeconv.targets.target import Target

_WANTED = "wanted a model of which splitdeconv convert has rewritten a deconv"


@dataclass(frozen=True)
class Restoration(Reportable):
    """What a restoration returns; its text is what the command prints.

    Attributes:
        restored: the model with its deconvs again.
        record: which sites are as they were, which stay and why, and the proof.
    """

    restored: Model
    record: PrintedRecord

    @cached_property
    def model(self) -> object:
        """The restored model as an object of the format's own library (``onnx.ModelProto``), made when it is read."""
        return self.restored.to_object()

    def show(self, out: Console) -> None:
        """Print it as the command does."""
        self.record.show(out)

    def page(self) -> Page:
        """What :meth:`report` writes."""
        return self.record.page()


def restore(source: object, out: Path | None, request: RestoreRequest) -> Restoration:
    """Put the original deconvs back into a converted model, prove it, and write it to ``out`` if that is given.

    Raises:
        InputError: the model holds nothing of an original, or no site can be put together again.
        VerificationError: the restored model is not equal; nothing was written.
        SplitdeconvError: see ``errors``.
    """
    model, name = open_model(source), name_of(source)
    check_output(model, out)
    shapes = named_shapes(model, request.in_shapes)
    check_inputs(model.inputs(), request.inputs)
    check_shapes(model.inputs(), shapes)
    given = Given(request.inputs, (shapes,))
    way_back = _way_back(model, name)
    request.progress("restoring", 0.0)
    restored, stayed = model.undo(way_back)
    left = {(each.site, each.where) for each in stayed}
    back = [site for each in way_back.conversions for site in each.sites if (site.site, site.where) not in left]
    if not back:
        reasons = "; ".join(f"'{each.site}': {each.reason}" for each in stayed)
        raise InputError(f"{name}: no deconv of the original can be put together again ({reasons})")
    sites = restored.find().sites
    choices = _choices(sites, back)
    with workplace(model, out) as folder, as_it_came(model) as converted:
        made = saved(restored, folder / (out.name if out else "restored" + model.suffix))
        verdict = Verdict(skipped="switched off by the user")
        environments: tuple[Environment, ...] = ()
        if request.verify:
            request.progress("comparing the whole model", 0.5)
            runner = runner_for(model, None, Options())
            _check_that_it_runs(name, converted, made, runner)
            quantised = any(site.deconv.quant is not None for site in sites)
            # As convert proved it: the restored model knows better what its inputs mean, output shapes among them.
            outputs, notes = compare(restored, made, converted, given, runner, quantised=quantised)
            verdict, environments = Verdict(outputs=outputs, notes=notes), (runner.environment(),)
        record = PrintedRecord(
            command="restore",
            model=name,
            output=str(out or "") if verdict.passed else "",
            environments=environments,
            plan=Plan("", choices),
            skipped=stayed,
            verdict=verdict,
            work=tuple(_work(each) for each in choices),
            provenance=Provenance.of_this_run(),
        )
        if not verdict.passed:
            raise VerificationError(
                f"the restored model is not equal to the converted one: {verdict.worst()}; nothing was written", record
            )
        return Restoration(restored, record)


def _check_that_it_runs(name: str, converted: Compilable, made: Compilable, runner: Target) -> None:
    """Check that the converted model runs where the restored one does.

    Raises:
        UsageError: it does not, so nothing can be compared.
    """
    try:
        runner.compile(converted, whole=True)
    except CompileError as error:
        with suppress(CompileError):  # where neither runs, both are compared in float64
            runner.compile(made, whole=True)
            here = f"{name}: {runner.name} does not run it ({error}), only what is restored"
            raise UsageError(f"{here}; --no-verify leaves the proof out") from None


def _way_back(model: Model, name: str) -> WayBack:
    """What the model holds.

    Raises:
        InputError: nothing, or nothing that can be read.
    """
    text = model.way_back()
    if not text:
        raise InputError(f"{name}: holds nothing of an original to restore; {_WANTED}")
    source = f"{name}: what it holds of its original"
    found = codec.from_object(WayBack, parse_json(text, source, _WANTED), source, _WANTED)
    if found.version != VERSION:
        raise InputError(f"{source} is of version {found.version}, this version reads {VERSION}")
    return found


def _work(choice: Choice) -> SiteWork:
    native = choice.deconv.native_macs()
    return SiteWork(choice.site, choice.deconv, native, choice.deconv.zero_insert_macs(), native)


def _choices(sites: Sequence[Site], back: Sequence[RewrittenSite]) -> tuple[Choice, ...]:
    """The sites of the restored model that are as they were."""
    forms = {(site.site, site.where): site.lowering for site in back}
    return tuple(
        Choice(site.id, site.deconv, NATIVE, f"as it was; it was {forms[site.id, site.where]}", ())
        for site in sites
        if (site.id, site.where) in forms
    )
