"""Bench: every form of every layer, and the whole model, timed side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from splitdeconv import formats
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.layers import ListedLayer, read_layers
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv, Quant
from splitdeconv.errors import InputError, UsageError
from splitdeconv.formats.model import Model, Site
from splitdeconv.formats.open_sizes import definite_shapes, named_shapes, with_sizes
from splitdeconv.lowerings.bound import least_work
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.compiling import compile_equal_work
from splitdeconv.pipeline.in_model import programs_of, race, settle
from splitdeconv.pipeline.open import (
    AUTO,
    as_it_came,
    name_of,
    open_model,
    open_target,
    proving,
    saved,
)
from splitdeconv.pipeline.prepared import FOLDED, Prepared, folded
from splitdeconv.pipeline.printable import Reportable
from splitdeconv.pipeline.request import BenchRequest
from splitdeconv.pipeline.sites import UNKNOWN_SIZES, Entrant, site_table, time_sites
from splitdeconv.pipeline.sizes import find_sized, fixed
from splitdeconv.proof.whole import Given
from splitdeconv.report import printed
from splitdeconv.report.bench import page as bench_page
from splitdeconv.report.numbers import number_of
from splitdeconv.report.page import Page
from splitdeconv.results.bench import ZERO_INSERT, BenchRecord, LayerTimes, ModelTimes, fixed_split
from splitdeconv.results.plan import Choice, Plan, SiteTable
from splitdeconv.results.record import Provenance
from splitdeconv.results.times import Untimed, timed
from splitdeconv.targets import target as find_target
from splitdeconv.targets.target import Target

BOUND = "bound"
DEFAULT_OF_LAYERS = "onnxruntime"  # of lists, which have no format
DTYPES = {"float32": None, "float16": None, "int8": Quant("uint8", "int8", per_channel=True)}


class Benchmark(Reportable, BenchRecord):
    """What a benchmark returns: its record; its text is what the command prints."""

    def show(self, out: Console) -> None:
        """Print it as the command does."""
        printed.benchmark(out, self)

    def page(self) -> Page:
        """What :meth:`report` writes."""
        return bench_page([self])


def bench_model(source: object, request: BenchRequest) -> Benchmark:
    """Every form of every deconv of a model, and the whole model, timed.

    Raises:
        SplitdeconvError: see ``errors``.
    """
    came = open_model(source)
    in_shapes = named_shapes(came, request.in_shapes)
    target = open_target(came.runtime if request.target == AUTO else request.target, came, request.options)
    came, said = fixed(came, [in_shapes], request.inputs, target, request.options)
    prepared = folded(came, Overrides(only=request.only)) if request.fold else Prepared(came)
    model = prepared.model
    model, runner = proving(model, target, request.options)
    shapes, assumed = definite_shapes(model, in_shapes)
    findings = find_sized(model, shapes, request.inputs, runner)
    # The tables are those of the open sizes, as in a conversion.
    sites = model.find().sites
    sized = with_sizes(sites, findings.sites)
    tables = [site_table(model, site, target, baseline=target.kind == "measured") for site in sites]
    pairs = zip(sized, tables, strict=True)
    asked = [Entrant(model, site, table) for site, table in pairs if request.takes(site.id)]
    entrants = [each for each in asked if None not in each.site.deconv.in_sizes]
    unsized = tuple(f"site '{each.site.id}' is not timed: {UNKNOWN_SIZES}" for each in asked if each not in entrants)
    layers, plan, notes = _time_layers(entrants, target, request, request.options.site_seconds)
    feeds = Given(request.inputs, (shapes,))
    whole, found = _time_model(came, model, plan, feeds, target, request, list(zip(sites, sized, strict=True)))
    return Benchmark(
        name_of(source),
        target.environment(),
        layers,
        whole,
        findings.skipped,
        (*said, *prepared.in_words(), *assumed, *unsized, *found, *notes),
        Provenance.of_this_run(),
    )


def bench_layers(path: Path, request: BenchRequest) -> Benchmark:
    """Every form of every layer of a list, timed.

    Raises:
        SplitdeconvError: see ``errors``.
    """
    layers = read_layers(path).deconvs
    if not layers:
        raise InputError(f"{path}: no deconv, wanted at least one")
    name = DEFAULT_OF_LAYERS if request.target == AUTO else request.target
    target = find_target(name, threads=request.options.threads, precision=request.options.precision)
    kind = formats.model_class(target.formats[0])
    if request.dtype not in DTYPES:
        raise UsageError(f"--dtype {request.dtype}: wanted one of {', '.join(DTYPES)}")
    entrants = [_entrant(kind, layer, request.dtype, target) for layer in layers if request.takes(layer.name)]
    if not entrants:
        raise UsageError(f"--only: no layer of {path} fits; there are {', '.join(layer.name for layer in layers)}")
    times, _, notes = _time_layers(entrants, target, request, request.options.seconds)
    return Benchmark(str(path), target.environment(), times, notes=notes, provenance=Provenance.of_this_run())


def _entrant(kind: type[Model], layer: ListedLayer, dtype: str, target: Target) -> Entrant:
    """A layer as a model of its own."""
    model = kind.layer(_typed(layer.deconv, dtype), layer.epilogue)
    found = model.find()
    if not found.sites:
        raise UsageError(f"layer '{layer.name}': {found.skipped[0].reason}")
    (site,) = found.sites
    table = site_table(model, site, target, baseline=target.kind == "measured")
    return Entrant(model, site, replace(table, site=layer.name), layer.set)


def _typed(deconv: Deconv, dtype: str) -> Deconv:
    """The deconv in one of ``DTYPES``."""
    quant = DTYPES[dtype]
    return replace(deconv, dtype=dtype) if quant is None else replace(deconv, quant=quant)


def _time_layers(
    entrants: Sequence[Entrant], target: Target, request: BenchRequest, seconds: float
) -> tuple[tuple[LayerTimes, ...], Plan, tuple[str, ...]]:
    """The times of all layers, what the planner makes of them, and notes."""
    tables, notes = time_sites(
        entrants, target, Overrides(), request.options, seconds, request.progress, request.extent
    )
    notes = (*notes, *_left_out(tables, seconds))
    tables = [_without_untimed(table) for table in tables]
    plan = planner.plan(target.name, tables, Overrides(), "fastest")
    layers = [
        _layer_times(entrant, table, choice)
        for entrant, table, choice in zip(entrants, tables, plan.choices, strict=True)
    ]
    return tuple(layers), plan, notes


def _without_untimed(table: SiteTable) -> SiteTable:
    """The table without the options that the budget left out."""
    return replace(table, options=tuple(option for option in table.options if option.time is not None))


def _left_out(tables: Sequence[SiteTable], seconds: float) -> tuple[str, ...]:
    """A note where the seconds were too short for some forms."""
    untimed = sum(option.time is None for table in tables for option in table.options)
    if not untimed:
        return ()
    return (f"not timed, because {seconds:g} s were too short: {number_of(untimed, 'form')}; --budget gives more",)


def _layer_times(entrant: Entrant, table: SiteTable, choice: Choice) -> LayerTimes:
    return LayerTimes(
        table.site,
        entrant.set,
        entrant.site.deconv,
        table.options,
        table.refusals,
        table.equal_work,
        choice.chosen,
        choice.reason,
    )


def _time_model(
    came: Model,
    model: Model,
    plan: Plan,
    given: Given,
    target: Target,
    request: BenchRequest,
    sites: Sequence[tuple[Site, Site]],
) -> tuple[ModelTimes, tuple[str, ...]]:
    """The whole model as it came, with zero insertion or the paper's split everywhere, and as ``convert`` leaves it.

    Half of the seconds go to what a conversion does, half to the times side by side. ``sites`` are as the model states
    them, and with definite sizes.
    """
    seconds = request.options.model_seconds / 2
    with as_it_came(came) as original, as_it_came(model) as base, tempfile.TemporaryDirectory() as folder:
        feeds = given.feeds_that_run(came, original, target)
        if isinstance(feeds, str):
            return ModelTimes(reason=feeds), ()
        settled = settle(model, base, plan, [feeds], target, Overrides(), request.options, seconds, request.progress)
        models = {"native": original} if model is came else {"native": original, FOLDED: base}
        forms = {name: programs_of(model, plan, chosen) for name, chosen in _variants(settled.plan).items()}
        for name, programs in (forms | bounds(model, sites, target)).items():
            if programs:
                path = Path(folder, name.replace(" ", "_") + model.suffix)
                models[name] = saved(model.splice(programs), path)
        outcomes = race(target, models, feeds, seconds)
    times = timed(outcomes)
    limits = [times.pop(name) for name in [*times] if name.startswith(BOUND)]
    notes = tuple(
        f"the whole model has no comparable time as {name}: {each.reason}"
        for name, each in outcomes.items()
        if isinstance(each, Untimed) and not (limits and name.startswith(BOUND))
    )
    unchanged = FOLDED if FOLDED in models else "native"
    if "converted" not in models and unchanged in times:
        times["converted"] = times[unchanged]
    if limits:
        times[BOUND] = min(limits, key=lambda time: time.median_ms)
    return ModelTimes(times), (*settled.notes, *notes)


def bounds(model: Model, sites: Sequence[tuple[Site, Site]], target: Target) -> dict[str, dict[str, Program]]:
    """The model with the convolution of least work at every site, in each form of a quantised convolution that runs."""
    found: dict[str, dict[str, Program]] = {}
    for site, sized in sites:
        for candidate in compile_equal_work(model, sized, target):
            program = least_work(site.deconv, model.layout, candidate.quant)
            found.setdefault(f"{BOUND} {candidate.quant}".rstrip(), {})[site.id] = program
    return found


def _variants(plan: Plan) -> dict[str, dict[str, Candidate]]:
    """Sites and candidates of the rewritten models."""
    found = {choice.site: [option.candidate for option in choice.options] for choice in plan.choices}
    baseline = {
        site: next((each for each in candidates if each.lowering == ZERO_INSERT.lowering), NATIVE)
        for site, candidates in found.items()
    }
    return {
        "zero_insert": baseline,
        "split": {site: fixed_split(candidates) or NATIVE for site, candidates in found.items()},
        "converted": {choice.site: choice.chosen for choice in plan.choices},
    }
