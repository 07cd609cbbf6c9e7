"""Every form of every layer, and the whole model, timed side by side: the road of ``splitdeconv bench``."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from splitdeconv import formats, lowerings
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Wishes
from splitdeconv.deconv.layers import Layer, read_layers
from splitdeconv.deconv.spec import Deconv, Quant
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError, UsageError
from splitdeconv.formats.frontend import Frontend
from splitdeconv.formats.model import Site
from splitdeconv.formats.open_sizes import definite_shapes, with_sizes
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.pipeline import conversion, opening, timing
from splitdeconv.proof import verify
from splitdeconv.results import provenance
from splitdeconv.results.bench import (
    EQUAL_WORK,
    NATIVE,
    ZERO_INSERT,
    BenchRecord,
    LayerTimes,
    ModelTimes,
    equal_work,
    fixed_split,
    short_list,
)
from splitdeconv.results.plan import Option, Plan, Table
from splitdeconv.results.times import Measurement
from splitdeconv.targets import target as find_target
from splitdeconv.targets.target import KEEP_ALL, Compiled, CompileError, Target

DTYPES = {"float32": None, "float16": None, "int8": Quant("uint8", "int8", per_channel=True)}


@dataclass(frozen=True, slots=True)
class Request:
    """What to time.

    Attributes:
        target: name of the target.
        only: patterns of layers or sites; none means all.
        dtype: of the layers of a list, one of ``DTYPES``; ``int8`` has uint8 activations.
        inputs: the user's arrays by input name; the other inputs are random.
        in_shapes: sizes for inputs that the model leaves open.
        forms: how many forms of each layer are timed, the most promising; ``native``, ``zero_insert`` and the paper's
            split come on top. 0 takes all.
        equal_work: whether to time the plain convolution of the same work, too.
        timing: how to measure; the cache is not used.
        progress: told what is going on and the share that is done.
    """

    target: str
    only: tuple[str, ...] = ()
    dtype: str = "float32"
    inputs: Mapping[str, Array] = field(default_factory=dict)
    in_shapes: conversion.Shapes = field(default_factory=dict)
    forms: int = 0
    equal_work: bool = True
    timing: timing.Options = field(default_factory=timing.Options)
    progress: conversion.Progress = conversion.quiet

    def takes(self, name: str) -> bool:
        """Whether a layer is wanted."""
        return not self.only or any(fnmatchcase(name, pattern) for pattern in self.only)


@dataclass(frozen=True, slots=True)
class _Entrant:
    """One layer to time: where it stands, and what applies to it."""

    set: str
    model: Any
    site: Site
    table: Table


def bench_model(source: object, request: Request) -> BenchRecord:
    """Every form of every deconv of a model, and the whole model, timed.

    Raises:
        SplitdeconvError: see ``errors``.
    """
    frontend, model = opening.open_model(source)
    target = opening.open_target(request.target, frontend, request.timing)
    shapes, notes = definite_shapes(frontend, model, request.in_shapes)
    findings = frontend.find(model, shapes)
    # The tables are those of the open sizes, as in a conversion.
    measured = target.kind == "measured"
    sites = frontend.find(model).sites
    tables = [conversion.site_table(frontend, model, site, target, baseline=measured) for site in sites]
    pairs = zip(with_sizes(sites, findings.sites), tables, strict=True)
    entrants = [_Entrant("", model, site, table) for site, table in pairs if request.takes(site.id)]
    layers, plan = _race(frontend, entrants, target, request, request.timing.site_seconds)
    whole, taken_back = guarded(plan, _time_model(frontend, model, plan, shapes, target, request))
    notes = (*notes, *taken_back, *_restless(layers))
    return BenchRecord(
        conversion.name_of(source),
        target.environment(),
        layers,
        whole,
        findings.skipped,
        notes,
        provenance.of_this_run(),
    )


def bench_layers(path: Path, request: Request) -> BenchRecord:
    """Every form of every layer of a list, timed.

    Raises:
        SplitdeconvError: see ``errors``.
    """
    try:
        layers = read_layers(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); wanted a JSON list of layers") from None
    target = find_target(request.target, threads=request.timing.threads, precision=request.timing.precision)
    frontend = formats.frontend(target.formats[0])
    if request.dtype not in DTYPES:
        raise UsageError(f"--dtype {request.dtype}: wanted one of {', '.join(DTYPES)}")
    entrants = [_entrant(frontend, layer, request.dtype, target) for layer in layers if request.takes(layer.name)]
    if not entrants:
        raise UsageError(f"--only: no layer of {path} fits; there are {', '.join(layer.name for layer in layers)}")
    times, _ = _race(frontend, entrants, target, request, request.timing.seconds)
    return BenchRecord(
        str(path), target.environment(), times, notes=_restless(times), provenance=provenance.of_this_run()
    )


def _entrant(frontend: Frontend, layer: Layer, dtype: str, target: Target) -> _Entrant:
    """A layer as a model of its own."""
    model = frontend.layer(_typed(layer.deconv, dtype), layer.epilogue)
    (site,) = frontend.find(model).sites
    measured = target.kind == "measured"
    table = replace(conversion.site_table(frontend, model, site, target, baseline=measured), site=layer.name)
    return _Entrant(layer.set, model, site, table)


def _typed(deconv: Deconv, dtype: str) -> Deconv:
    """The deconv in one of ``DTYPES``."""
    quant = DTYPES[dtype]
    return replace(deconv, dtype=dtype) if quant is None else replace(deconv, quant=quant)


def _restless(layers: Sequence[LayerTimes]) -> tuple[str, ...]:
    return timing.restless(option.time for layer in layers for option in layer.options if option.time is not None)


def _race(
    frontend: Frontend, entrants: Sequence[_Entrant], target: Target, request: Request, seconds: float
) -> tuple[tuple[LayerTimes, ...], Plan]:
    """The times of all layers, and what the planner makes of them."""
    purse = timing.Purse(seconds, {entrant.table.site: entrant.table for entrant in entrants})
    layers, tables = [], []
    for number, entrant in enumerate(entrants):
        stage = timing.stage(request.progress, f"measuring {entrant.table.site}", number, len(entrants))
        started = time.perf_counter()
        table, limit = _time_layer(frontend, entrant, target, purse.share(entrant.table.site), stage, request)
        purse.pay(time.perf_counter() - started)
        choice = planner.choose(table, Wishes(), "fastest")
        layers.append(
            LayerTimes(
                table.site,
                entrant.set,
                entrant.site.deconv,
                table.options,
                table.refusals,
                limit,
                choice.chosen,
                choice.reason,
            )
        )
        tables.append(table)
    return tuple(layers), planner.plan(target.name, tables, Wishes(), "fastest")


def _time_layer(
    frontend: Frontend, entrant: _Entrant, target: Target, seconds: float, progress: timing.Share, request: Request
) -> tuple[Table, Measurement | None]:
    """The table of one layer with all times, and the time of the plain convolution of the same work."""
    site, table = entrant.site, entrant.table
    order = planner.order(table.options, site.deconv)
    if request.forms:
        order = short_list(order, request.forms)
        table = replace(table, options=tuple(option for option in table.options if option.candidate in order))
    compiled, refusals = timing.compile_site(frontend, entrant.model, site, order, target)
    limit = _compile_equal_work(frontend, site, target) if request.equal_work else None
    racers = compiled if limit is None else {**compiled, EQUAL_WORK: limit}
    inputs = timing.site_inputs(frontend, site)
    times = target.measure(racers, inputs, seconds, progress=progress, drop=KEEP_ALL) if compiled else {}
    options = tuple(
        Option(o.candidate, o.cost, times.get(o.candidate)) for o in table.options if o.candidate in compiled
    )
    refused = [Refusal(o.candidate, refusals[str(o.candidate)]) for o in table.options if o.candidate not in compiled]
    return replace(table, options=options, refusals=(*table.refusals, *refused)), times.get(EQUAL_WORK)


def _compile_equal_work(frontend: Frontend, site: Site, target: Target) -> Compiled | None:
    """The plain convolution that a site is held against, ready to run; None where that cannot be had."""
    try:
        model = frontend.layer(equal_work(site.deconv), site.epilogue)
    except UsageError:
        return None
    (plain,) = frontend.find(model).sites
    forms = [each for each in lowerings.candidates(plain.deconv, frontend.layout)[0] if each.lowering == "split"]
    # Of a deconv of stride 1, split is its convolution and nothing else; quantised, the first form that runs is taken.
    compiled, _ = timing.compile_site(frontend, model, plain, forms, target)
    return next(iter(compiled.values()), None)


def _time_model(
    frontend: Frontend, model: Any, plan: Plan, shapes: conversion.Shapes, target: Target, request: Request
) -> ModelTimes:
    """The whole model as it came, with zero insertion and with the paper's split everywhere, and with the plan."""
    missing = [each for each in frontend.inputs(model) if each.name not in request.inputs]
    drawn = verify.random_inputs(missing, shapes, 0)
    if isinstance(drawn, str):
        return ModelTimes(reason=drawn)
    request.progress("timing the whole model", 0.95)
    with tempfile.TemporaryDirectory() as folder:
        own = frontend.files(model)
        models = {"native": own[0] if own else Path(folder, "native" + frontend.suffix)}
        if not own:
            frontend.save(model, models["native"])
        for name, chosen in _variants(plan).items():
            programs = {
                choice.site: lowerings.lower(choice.deconv, frontend.layout, chosen[choice.site])
                for choice in plan.choices
                if chosen[choice.site] != NATIVE
            }
            if programs:
                models[name] = Path(folder, name + frontend.suffix)
                frontend.save(frontend.splice(model, programs), models[name])
        try:
            times = timing.race_models(target, models, {**drawn, **request.inputs}, request.timing.model_seconds)
        except CompileError as error:
            return ModelTimes(reason=str(error))
    return ModelTimes({**times, "converted": times.get("converted", times["native"])})


def guarded(plan: Plan, whole: ModelTimes) -> tuple[ModelTimes, tuple[str, ...]]:
    """The whole model's times as a conversion would leave it: a plan that gains nothing is taken back, with a note."""
    if "converted" not in whole.times:
        return whole, ()
    native = whole.times["native"]
    left, note = planner.guard(plan, native, whole.times["converted"], Wishes())
    if left == plan:
        return whole, ()
    return replace(whole, times={**whole.times, "converted": native}), (note,)


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
