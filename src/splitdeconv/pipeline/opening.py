"""The road: load, find, lower, measure, plan, splice, verify, record. The only module that knows all the others."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitdeconv import formats, lowerings, targets
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Wishes
from splitdeconv.errors import InputError, UsageError, VerificationError
from splitdeconv.files import staged
from splitdeconv.formats.frontend import Frontend
from splitdeconv.formats.model import Findings, Site
from splitdeconv.formats.open_sizes import definite_shapes
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline import timing
from splitdeconv.pipeline.conversion import GENERIC, Conversion, Job, Request, Shapes, name_of, site_table
from splitdeconv.proof import verify
from splitdeconv.results import provenance
from splitdeconv.results.plan import Plan, plan_sites
from splitdeconv.results.record import RunRecord
from splitdeconv.targets.target import CompileError, Target


@dataclass(frozen=True, slots=True)
class Inspection:
    """What an inspection returns.

    Attributes:
        findings: the deconvs, those that cannot be rewritten, and the rest of the model's work.
        plan: what the generic rule would take, with the costs of all candidates.
        said: target → site → why it does not run the deconv as it is (empty: it does).
        record: everything, for JSON.
    """

    findings: Findings
    plan: Plan
    said: Mapping[str, Mapping[str, str]]
    record: RunRecord


def read_plan(path: Path) -> dict[str, str]:
    """Sites and candidates of a plan file.

    Raises:
        InputError: it cannot be read, or is not a plan.
    """
    try:
        return plan_sites(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); wanted a plan file, as --save-plan writes it") from None


def open_model(source: object, numerics: str = "exact") -> tuple[Frontend, Any]:
    """The front-end and the model of a path or of an object of a format's own library.

    Raises:
        InputError: not a model.
        UsageError: the format does not know these numerics.
    """
    if isinstance(source, str | Path):
        frontend = formats.recognise(Path(source), numerics)
        return frontend, frontend.load(Path(source))
    for name in formats.FRONTENDS:
        frontend = formats.frontend(name)
        if (model := frontend.adopt(source)) is not None:
            return formats.frontend(name, numerics), model
    wanted = "a path, or an object such as onnx.ModelProto; PyTorch modules go to splitdeconv.torch.convert"
    raise InputError(f"a {type(source).__name__} is not a model; wanted {wanted}")


def inspect(source: object, in_shapes: Shapes, target_names: Sequence[str]) -> Inspection:
    """The deconvs of a model, what they cost and what ``target_names`` say of them; nothing is written.

    Raises:
        SplitdeconvError: see ``errors``.
    """
    frontend, model = open_model(source)
    findings = frontend.find(model, in_shapes)
    tables = [site_table(frontend, model, site, None) for site in findings.sites]
    asked = {name: open_target(name, frontend, timing.Options()) for name in target_names}
    said = {
        name: {site.id: _said_of(frontend, model, site, target) for site in findings.sites}
        for name, target in asked.items()
    }
    plan = planner.plan(GENERIC, tables, Wishes(), "generic")
    environments = tuple(target.environment() for target in asked.values())
    record = RunRecord(
        "inspect",
        name_of(source),
        "",
        environments,
        plan,
        findings.skipped,
        other_macs=findings.other_macs,
        provenance=provenance.of_this_run(),
    )
    return Inspection(findings, plan, said, record)


def _said_of(frontend: Frontend, model: Any, site: Site, target: Target) -> str:
    """Why a target does not run a site as it is, or nothing; compilers that only estimate are asked in earnest."""
    native = lowerings.lower(site.deconv, frontend.layout, NATIVE)
    reason = target.refuse(native)
    if reason is None and target.kind == "estimated":
        try:
            target.compile(frontend.emit(model, site, native))
        except CompileError as error:
            reason = str(error)
    return reason or ""


def convert(source: object, out: Path | None, request: Request) -> Conversion:
    """Rewrite the deconvs of a model exactly, prove it, and write it to ``out`` if that is given.

    Raises:
        VerificationError: the rewritten model is not equal; nothing was written.
        SplitdeconvError: see ``errors``.
    """
    frontend, model = open_model(source, request.numerics)
    for name in (request.wishes.lowering, *request.wishes.layers.values()):
        if name:
            lowerings.find_lowering(name.split(":")[0])
    _check_names(frontend, model, out, request)
    request.progress("finding deconvs", 0.0)
    findings = frontend.find(model)
    target = None if request.target == GENERIC else open_target(request.target, frontend, request.timing)
    # Without a target nothing is measured, and sizes that nobody has stated are not needed.
    shapes, assumed = definite_shapes(frontend, model, request.in_shapes) if target else (request.in_shapes, ())
    sized = frontend.find(model, shapes) if shapes else findings
    with _workplace(frontend, model, out) as folder:
        job = Job(source, frontend, model, findings, shapes, sized, target, request, folder, out)
        plan, notes = job.decide()
        conversion = job.realise(plan, (*assumed, *notes))
        if not conversion.verdict.passed:
            message = f"the rewritten model is not equal to the original: {conversion.verdict.worst()}"
            raise VerificationError(f"{message}; nothing was written", conversion.record)
        return conversion


def _check_names(frontend: Frontend, model: Any, out: Path | None, request: Request) -> None:
    """Hold what the user named against the model, before anything takes time."""
    if out is not None and out.suffix != frontend.suffix and out.suffix[1:] in formats.FRONTENDS:
        raise UsageError(
            f"{out}: the model is {frontend.name} and stays so; wanted a name that ends in {frontend.suffix}"
        )
    inputs = frontend.inputs(model)
    verify.check_inputs(inputs, request.inputs)
    verify.check_shapes(inputs, request.in_shapes)


def open_target(name: str, frontend: Frontend, options: timing.Options) -> Target:
    """The target called ``name``.

    Raises:
        UsageError: unknown, or it does not take models of this format.
    """
    found = targets.target(name, threads=options.threads, precision=options.precision)
    if frontend.name not in found.formats:
        raise UsageError(f"target '{name}' takes {', '.join(found.formats)} models, this one is {frontend.name}")
    return found


@contextmanager
def _workplace(frontend: Frontend, model: Any, out: Path | None) -> Iterator[Path]:
    """The folder in which the result is made; without an output it goes away afterwards."""
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        with staged(out, frontend.files(model)) as folder:
            yield folder
