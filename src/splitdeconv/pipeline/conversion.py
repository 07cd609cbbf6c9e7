"""One conversion: decide every site, write the model, prove it equal, and let its time have the last word."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from splitdeconv import lowerings, targets
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Wishes
from splitdeconv.deconv.ops import Conv, Program
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import MissingExtraError, UsageError, VerificationError
from splitdeconv.formats.frontend import Frontend
from splitdeconv.formats.model import Findings, Input, Site
from splitdeconv.formats.open_sizes import with_sizes
from splitdeconv.lowerings.candidate import NATIVE, Refusal
from splitdeconv.pipeline import context, timing
from splitdeconv.proof import verify
from splitdeconv.proof.quantised_proof import wrong_numbers
from splitdeconv.results import provenance, times
from splitdeconv.results.bench import ZERO_INSERT
from splitdeconv.results.plan import Choice, Cost, Option, Plan, Table
from splitdeconv.results.record import Environment, RunRecord, SiteWork, WholeTimes
from splitdeconv.results.verdict import OutputCheck, Verdict
from splitdeconv.targets.target import Compiled, CompileError, Target

GENERIC = "generic"
RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert"}  # what runs a model for its verification
TRIALS = 2  # sets of random inputs; sizes that the model leaves open differ between them

Progress = Callable[[str, float], None]
Shapes = Mapping[str, tuple[int, ...]]


def quiet(_stage: str, _share: float) -> None:
    """No progress."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a conversion is asked to do.

    Attributes:
        target: its name; ``generic`` measures nothing.
        wishes: what the user decides himself.
        numerics: ``exact``, or ``fused`` where the format knows it.
        verify: False leaves the proof out.
        inputs: the user's arrays by input name; the other inputs are random.
        in_shapes: sizes for inputs that the model leaves open.
        timing: how to measure.
        progress: told what is going on and the share that is done.
    """

    target: str = GENERIC
    wishes: Wishes = field(default_factory=Wishes)
    numerics: str = "exact"
    verify: bool = True
    inputs: Mapping[str, Array] = field(default_factory=dict)
    in_shapes: Shapes = field(default_factory=dict)
    timing: timing.Options = field(default_factory=timing.Options)
    progress: Progress = quiet


@dataclass(frozen=True)
class Conversion:
    """What a conversion returns.

    Attributes:
        frontend: of the model's format.
        rewritten: the rewritten model, the front-end's own object.
        plan: which site got what, and why.
        verdict: the proof of equality.
        record: everything, for JSON and reports.
    """

    frontend: Frontend
    rewritten: Any
    plan: Plan
    verdict: Verdict
    record: RunRecord

    @cached_property
    def model(self) -> object:
        """The rewritten model as an object of the format's own library (``onnx.ModelProto``), made when it is read."""
        return self.frontend.hand_over(self.rewritten)


def site_table(frontend: Frontend, model: Any, site: Site, target: Target | None, *, baseline: bool = False) -> Table:
    """Everything that applies to a site with its cost, and what does not with its reason.

    Args:
        frontend, model, site: what is asked about.
        target: where it would run, or None.
        baseline: keep ``zero_insert``, the paper's baseline, also where the target would not try it.
    """
    found, refusals = lowerings.candidates(site.deconv, frontend.layout)
    if target is not None:
        found = [variant for candidate in found for variant in target.variants(candidate)]
    options = []
    for candidate in found:
        program = lowerings.lower(site.deconv, frontend.layout, candidate)
        reason = frontend.refuse(model, site, program)
        if reason is None and target is not None and not (baseline and candidate.lowering == ZERO_INSERT.lowering):
            reason = target.refuse(program)
        if reason is None:
            options.append(Option(candidate, cost_of(program)))
        else:
            refusals.append(Refusal(candidate, reason))
    return Table(site.id, site.deconv, tuple(options), tuple(refusals))


@lru_cache(maxsize=4096)
def cost_of(program: Program) -> Cost:
    """The target-neutral cost of a program."""
    return Cost(program.macs(), program.moved(), sum(isinstance(step.op, Conv) for step in program.steps))


def name_of(source: object) -> str:
    """How records name a model: by its path, or by its type."""
    return str(source) if isinstance(source, str | Path) else f"<{type(source).__name__}>"


@dataclass(frozen=True, slots=True)
class Job:
    """One conversion under way.

    Attributes:
        findings: as the model has them.
        shapes: of the inputs, for measuring and counting.
        sized: the same findings with these shapes.
        folder: in which the result is made.
    """

    source: object
    frontend: Frontend
    model: Any
    findings: Findings
    shapes: Shapes
    sized: Findings
    target: Target | None
    request: Request
    folder: Path
    out: Path | None

    def decide(self) -> tuple[Plan, tuple[str, ...]]:
        """The plan, from measurements where the target measures and something is left to choose."""
        request, sites = self.request, self.findings.sites
        tables = [site_table(self.frontend, self.model, site, self.target) for site in sites]
        if self.target is None:
            return planner.plan(GENERIC, tables, request.wishes, "generic"), ()
        planner.check(request.wishes, [site.id for site in sites])
        timed, notes = timing.time_sites(
            self.frontend,
            self.model,
            with_sizes(sites, self.sized.sites),
            tables,
            self.target,
            request.wishes,
            request.timing,
            request.progress,
        )
        plan = planner.plan(request.target, timed, request.wishes, "fastest")
        if self.target.kind == "estimated":
            plan, in_context = context.refine(
                self.frontend, self.model, plan, self.target, request.wishes, request.progress
            )
            notes = (*notes, in_context) if in_context else notes
        return plan, notes

    def realise(self, plan: Plan, notes: tuple[str, ...], whole: WholeTimes | None = None) -> Conversion:
        """Write the model, prove it equal, and let the whole model's time have the last word.

        Args:
            whole: times with another plan, of which they have left this one.
        """
        programs = self._programs(plan)
        if not programs:
            return self._unchanged(plan, notes, whole)
        self.request.progress("writing", 0.0)
        rewritten = self.frontend.splice(self.model, programs)
        path = self.folder / (self.out.name if self.out else "rewritten" + self.frontend.suffix)
        self.frontend.save(rewritten, path)
        with self._original() as original:
            verdict = self._verify(programs, original, path)
            if verdict.passed and self.target is not None and whole is None:
                left, note, whole = self._guard(plan, original, path)
                if left != plan:
                    return self.realise(left, (*notes, note), whole)
                notes = (*notes, note)
        record = self._record(plan, verdict, (*self._site_notes(programs), *notes), whole)
        return Conversion(self.frontend, rewritten, plan, verdict, record)

    def _programs(self, plan: Plan) -> dict[str, Program]:
        """The programs of all sites that do not stay native."""
        return {
            choice.site: lowerings.lower(choice.deconv, self.frontend.layout, choice.chosen)
            for choice in plan.choices
            if choice.chosen != NATIVE
        }

    def _site_notes(self, programs: Mapping[str, Program]) -> tuple[str, ...]:
        sites = (site for site in self.findings.sites if site.id in programs)
        return tuple(f"site '{site.id}': {note}" for site in sites for note in site.notes)

    def _record(
        self, plan: Plan, verdict: Verdict, notes: tuple[str, ...], whole: WholeTimes | None = None
    ) -> RunRecord:
        sized = {site.id: site for site in self.sized.sites}
        return RunRecord(
            command="convert",
            model=name_of(self.source),
            output=str(self.out or "") if verdict.passed else "",
            environments=self._environments(),
            plan=plan,
            skipped=self.findings.skipped,
            verdict=verdict,
            notes=notes,
            work=tuple(self._work(choice, sized[choice.site]) for choice in plan.choices),
            other_macs=self.sized.other_macs,
            whole=whole,
            provenance=provenance.of_this_run(),
        )

    def _work(self, choice: Choice, sized: Site) -> SiteWork:
        """The arithmetic of one site."""
        native = chosen = sized.deconv.macs()
        if choice.chosen != NATIVE:
            chosen = cost_of(lowerings.lower(sized.deconv, self.frontend.layout, choice.chosen)).macs
        return SiteWork(choice.site, sized.deconv, native, sized.deconv.zero_insert_macs(), chosen)

    def _environments(self) -> tuple[Environment, ...]:
        used = [self.target] if self.target else []
        if self.request.verify:
            used.append(self._runner())
        return tuple({each.name: each.environment() for each in used}.values())

    def _unchanged(self, plan: Plan, notes: tuple[str, ...], whole: WholeTimes | None) -> Conversion:
        """A model in which nothing is rewritten goes out as it came in, byte for byte."""
        for leftover in self.folder.iterdir():
            leftover.unlink()
        if self.out is not None:
            self._copy(self.out)
        reason = "every deconv stays native" if plan.choices else "there is no deconv that can be rewritten"
        note = f"{reason}: the model is written unchanged"
        verdict = Verdict(skipped="nothing was rewritten")
        return Conversion(self.frontend, self.model, plan, verdict, self._record(plan, verdict, (*notes, note), whole))

    def _copy(self, out: Path) -> None:
        own = self.frontend.files(self.model)
        if not own:
            self.frontend.save(self.model, self.folder / out.name)
            return
        shutil.copyfile(own[0], self.folder / out.name)
        if own[0].parent.resolve() != out.parent.resolve():
            for file in own[1:]:
                copy = self.folder / file.relative_to(own[0].parent)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)

    @contextmanager
    def _original(self) -> Iterator[Path]:
        """The original as a file."""
        own = self.frontend.files(self.model)
        if own:
            yield own[0]
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ("original" + self.frontend.suffix)
            self.frontend.save(self.model, path)
            yield path

    def _runner(self) -> Target:
        """What runs the models for the proof: the target if it runs them, else the format's own runtime."""
        if self.target is not None and self.target.kind == "measured":
            return self.target
        name = RUNTIMES[self.frontend.name]
        try:
            return targets.target(name)
        except MissingExtraError as error:
            raise UsageError(f"verification runs the model: {error}, or convert with --no-verify") from None

    def _verify(self, programs: Mapping[str, Program], original: Path, rewritten: Path) -> Verdict:
        if not self.request.verify:
            return Verdict(skipped="switched off by the user")
        runner, proofs, noise, doubts = self._runner(), [], [], []
        sites = [site for site in self.findings.sites if site.id in programs]
        for number, site in enumerate(sites):
            self.request.progress(f"proving {site.id}", number / len(sites))
            proof, check = verify.check_site(self.frontend, self.model, site, programs[site.id], runner)
            proofs.append(proof)
            if self.target is None and site.weights.quant is not None:
                wrong = wrong_numbers(self.frontend, self.model, site, programs[site.id], runner)
                doubts.extend([f"site '{site.id}': {wrong}"] if wrong else [])
            noise.extend([check] if check is not None else [])
        self.request.progress("comparing the whole model", 0.9)
        if fused := [site for site in sites if self.request.numerics == "fused" and _is_integer(site)]:
            found = [verify.check_fused(self.frontend, self.model, site, programs[site.id], runner) for site in fused]
            notes = (*(note for _, note in found), "fused numerics change the outputs, which are not compared")
            return Verdict(tuple(proofs), tuple(noise), tuple(check for check, _ in found), notes)
        quantised = any(site.deconv.quant is not None for site in sites)
        try:
            outputs, notes = self._compare(runner, original, rewritten, quantised)
        except VerificationError as error:
            return Verdict(tuple(proofs), tuple(noise), notes=tuple(doubts), failure=str(error))
        return Verdict(tuple(proofs), tuple(noise), outputs, (*doubts, *notes))

    def _compare(
        self, runner: Target, original: Path, rewritten: Path, quantised: bool
    ) -> tuple[tuple[OutputCheck, ...], tuple[str, ...]]:
        """Outputs of both models on the user's inputs, or on random ones of several sizes."""
        inputs, given = self.frontend.inputs(self.model), self.request.inputs
        trials, notes = [], []
        try:
            before, after = runner.compile(original, whole=True), _compile_rewritten(runner, rewritten)
            plain = runner.compile_plain(original) if quantised else None
            for trial in range(1 if set(given) >= {each.name for each in inputs} else TRIALS):
                feeds = self._feeds(inputs, trial)
                if isinstance(feeds, str):
                    return (), (feeds,)
                trials.append(
                    verify.compare_models(
                        self.frontend, self.model, before, after, feeds, quantised=quantised, plain=plain
                    )
                )
        except CompileError as error:
            shapes = "; --input-shape and --input give it sizes and values that it takes"
            notes.append(f"{runner.name} does not run the model ({error}){shapes}")
        outputs = verify.merge_checks(trials)
        return outputs, (*notes, *verify.unstable(outputs))

    def _feeds(self, inputs: Sequence[Input], trial: int) -> dict[str, Array] | str:
        """Inputs for one trial, or the reason why they cannot be made."""
        missing = [each for each in inputs if each.name not in self.request.inputs]
        drawn = verify.random_inputs(missing, self.request.in_shapes, trial)
        return drawn if isinstance(drawn, str) else {**drawn, **self.request.inputs}

    def _guard(self, plan: Plan, original: Path, rewritten: Path) -> tuple[Plan, str, WholeTimes | None]:
        """The plan that the whole model's time leaves, a note with the figures, and the times."""
        assert self.target is not None, "only a target has times"
        missing = [each for each in self.frontend.inputs(self.model) if each.name not in self.request.inputs]
        drawn = verify.random_inputs(missing, self.shapes, 0)
        if isinstance(drawn, str):
            return plan, f"the whole model was not timed: {drawn}", None
        self.request.progress("timing the whole model", 0.95)
        try:
            before, after = timing.time_models(
                self.target, original, rewritten, {**drawn, **self.request.inputs}, self.request.timing
            )
        except CompileError as error:
            return plan, f"the whole model was not timed: {error}", None
        left, note = planner.guard(plan, before, after, self.request.wishes)
        ratio = times.ratio(before, after)
        figures = f"whole model: {before.median_ms:.4g} ms before, {after.median_ms:.4g} ms after, {ratio:.2f}×"
        note = note or f"{figures} ({before.kind} on {self.target.name})"
        return left, note, WholeTimes(before, after, kept=left == plan)


def _compile_rewritten(runner: Target, rewritten: Path) -> Compiled:
    """The rewritten model, which must compile where the original does."""
    try:
        return runner.compile(rewritten, whole=True)
    except CompileError as error:
        raise VerificationError(f"{runner.name} takes the original but not the rewritten model ({error})") from None


def _is_integer(site: Site) -> bool:
    """Whether a site computes on integers, whose bits its epilogue's rounding steps decide."""
    return site.deconv.quant is not None and "int" in site.deconv.quant.activation
