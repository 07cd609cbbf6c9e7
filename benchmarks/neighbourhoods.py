"""Whether a site with its neighbours predicts the whole model better than the site alone does.

For each site of an ONNX model some forms are timed three times: as a stand-alone model of the site, in its
neighbourhood (the site with the convolutions before and behind it, and all that lies between, cut out of the rewritten
model, on the values that the model has there), and in the whole model with every other site as it came. The figure is
Spearman's rank correlation of the first and of the second with the third; what predicts better is worth measuring where
whole models take too long.

    python -m benchmarks.neighbourhoods FOLDER --models ../shared/models --target onnxruntime --target openvino \
        --dtype float32 [--minutes 9] [--only 'fst*']

FOLDER is that of ``benchmarks.whole_models``. Run it on an idle machine; a case takes about three of its budgets.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from benchmarks.cases import Case, Found, main, table
from onnx import helper
from onnx.utils import Extractor

from splitdeconv import InputError, lowerings
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Model, Site
from splitdeconv.formats.open_sizes import definite_shapes, with_sizes
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.in_model import race
from splitdeconv.pipeline.open import Options, Shapes, as_it_came, open_model, open_target, proving, quiet, saved
from splitdeconv.pipeline.sites import Entrant, site_table, time_sites
from splitdeconv.pipeline.sizes import find_sized
from splitdeconv.proof.whole import Given
from splitdeconv.results.plan import SiteTable
from splitdeconv.results.times import is_settled, timed
from splitdeconv.targets.target import CompileError, Target

HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "ConvInteger"}  # where a neighbourhood ends
FURTHEST = 8  # nodes between the site and its end
FORMS = 8  # of each site, the best alone and native
FEWEST = 4  # forms that a rank correlation is taken of
Times = Mapping[str, float]  # form → ms


def measure(case: Case, budget: float) -> Found:
    """For each site: the times of its forms alone, in the neighbourhood, and in the whole model."""
    options = Options(seconds=budget, cache=False)
    model = open_model(case.path)
    target = open_target(case.target, model, options)
    model, runner = proving(model, target, options)
    shapes, _ = definite_shapes(model, {})
    feeds = Given({}, (shapes,)).feeds(model, 0)
    if isinstance(feeds, str):
        return {"error": feeds}
    tables = times_alone(model, shapes, target, runner, options)
    found: Found = {}
    for site, each in zip(model.find().sites, tables, strict=True):
        forms = promising(each)
        if len(forms) >= FEWEST:
            cut = Neighbourhood(model, site, feeds, runner)
            seconds = budget / len(tables)
            found[site.id] = {
                "alone": {str(form): time for form, time in forms.items()},
                "near": near(cut, list(forms), target, seconds),
                "whole": whole(model, site, list(forms), feeds, target, seconds),
            }
    return found


def times_alone(model: Model, shapes: Shapes, target: Target, runner: Target, options: Options) -> list[SiteTable]:
    """The tables of all sites with their times as stand-alone models."""
    sites = model.find().sites
    sized = with_sizes(sites, find_sized(model, shapes, {}, runner).sites)
    entrants = [Entrant(model, each, site_table(model, site, target)) for site, each in zip(sites, sized, strict=True)]
    return time_sites(entrants, target, Overrides(), options, options.seconds, quiet)[0]


def promising(of_site: SiteTable) -> dict[Candidate, float]:
    """Milliseconds of native and the best other forms, alone."""
    timed = {each.candidate: each.time.median_ms for each in of_site.options if each.time and is_settled(each.time)}
    best = sorted(timed, key=lambda each: (each != NATIVE, timed[each]))[:FORMS]
    return {each: timed[each] for each in best}


def rewritten(model: Model, site: Site, form: Candidate) -> Model:
    """The model with one site in another form."""
    return model if form == NATIVE else model.splice({site.id: lowerings.lower(site.deconv, model.layout, form)})


def whole(
    model: Model, site: Site, forms: Sequence[Candidate], feeds: Mapping[str, Array], target: Target, seconds: float
) -> Times:
    """Milliseconds of the whole model with the site in each form."""
    with as_it_came(model) as original, TemporaryDirectory() as folder:
        models = {str(NATIVE): original}
        for number, form in enumerate(forms):
            if form != NATIVE:
                models[str(form)] = saved(rewritten(model, site, form), Path(folder, f"{number}{model.suffix}"))
        return {name: time.median_ms for name, time in timed(race(target, models, feeds, seconds)).items()}


class Neighbourhood:
    """The part of a model around one site, with the values that it reads.

    Args:
        model: an ONNX model.
        site: of it.
        feeds: inputs of the model.
        runner: what tells the values.
    """

    def __init__(self, model: Model, site: Site, feeds: Mapping[str, Array], runner: Target) -> None:
        self.model, self.site = model, site
        proto = model.to_object()
        assert isinstance(proto, onnx.ModelProto)
        graph = proto.graph
        known = {each.name for each in graph.initializer}
        (middle,) = (node for node in graph.node if node.name == site.id)
        nodes = [middle, *_reached(middle, graph, known, back=True), *_reached(middle, graph, known, back=False)]
        made = {name for node in nodes for name in node.output}
        inside = {id(node) for node in nodes}
        read = {name for node in graph.node if id(node) not in inside for name in node.input}
        ends = {each.name for each in graph.output}
        constant = known | {name for node in graph.node if node.op_type == "Constant" for name in node.output}
        self.inputs = sorted({name for node in nodes for name in node.input if name} - made - constant)
        self.outputs = sorted(name for name in made if name in read | ends)
        self.feeds = _values(proto, self.inputs, feeds, runner)

    def cut(self, form: Candidate) -> bytes:
        """The neighbourhood in the model with the site in one form."""
        proto = rewritten(self.model, self.site, form).to_object()
        assert isinstance(proto, onnx.ModelProto)
        there = {name for node in proto.graph.node for name in node.output}
        for name, array in self.feeds.items():
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            proto.graph.value_info.append(helper.make_tensor_value_info(name, kind, array.shape))
        outputs = [name for name in self.outputs if name in there]
        known = {each.name for each in (*proto.graph.value_info, *proto.graph.output)}
        proto.graph.value_info.extend(
            helper.make_empty_tensor_value_info(name) for name in outputs if name not in known
        )
        return bytes(Extractor(proto).extract_model(list(self.feeds), outputs).SerializeToString())


def _reached(start: onnx.NodeProto, graph: onnx.GraphProto, known: set[str], *, back: bool) -> list[onnx.NodeProto]:
    """The nodes before or behind one, up to the first heavy ones and with them."""
    found: list[onnx.NodeProto] = []
    edge = [start]
    for _ in range(FURTHEST):
        names = {name for node in edge for name in (node.input if back else node.output) if name not in known}
        edge = [
            node
            for node in graph.node
            if names & set(node.output if back else node.input) and all(node is not other for other in (start, *found))
        ]
        found += edge
        edge = [node for node in edge if node.op_type not in HEAVY]
    return found


def _values(
    proto: onnx.ModelProto, names: Sequence[str], feeds: Mapping[str, Array], runner: Target
) -> dict[str, Array]:
    """What some inner values of a model are on its inputs."""
    inner = [name for name in names if name not in feeds]
    asked = onnx.ModelProto()
    asked.CopyFrom(proto)
    outputs = {each.name for each in asked.graph.output}
    asked.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in inner if name not in outputs)
    found = runner.compile(Compilable(asked.SerializeToString()), whole=True).run(feeds)
    return {name: feeds[name] if name in feeds else found[name] for name in names}


def near(cut: Neighbourhood, forms: Sequence[Candidate], target: Target, seconds: float) -> Times:
    """Milliseconds of the neighbourhood with the site in each form; nothing where it cannot be cut out."""
    try:
        models = {str(form): Compilable(cut.cut(form)) for form in forms}
        times = timed(race(target, models, cut.feeds, seconds))
    except (CompileError, InputError, ValueError, KeyError):
        return {}
    return {name: time.median_ms for name, time in times.items()}


def correlation(one: Times, other: Times) -> float | None:
    """Spearman's rank correlation over the forms that both have; None for fewer than ``FEWEST``."""
    both = [name for name in one if name in other]
    if len(both) < FEWEST:
        return None
    return statistics.correlation(*(_ranks([times[name] for name in both]) for times in (one, other)))


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = {place: float(rank) for rank, place in enumerate(order)}
    return [ranks[place] for place in range(len(values))]


def show(done: Sequence[tuple[Case, Found]]) -> None:
    """Every site, then the median of each target; and how often the best form was the whole model's best, too."""
    rows: list[tuple[str, ...]] = []
    of_target: dict[str, list[tuple[float, float]]] = {}
    for case, found in done:
        if "error" in found:
            rows.append((case.model, case.target, "–", "–", "–", found["error"]))
            continue
        for site, times in found.items():
            alone, close = correlation(times["alone"], times["whole"]), correlation(times["near"], times["whole"])
            if alone is not None and close is not None:
                of_target.setdefault(case.target, []).append((alone, close))
            shown = ["–" if each is None else f"{each:.2f}" for each in (alone, close)]
            rows.append((case.model, case.target, site, *shown, _bests(times)))
    print(table(("model", "target", "site", "alone and whole", "neighbourhood and whole", "best in each"), rows))
    for target, pairs in of_target.items():
        alone_all, near_all = zip(*pairs, strict=True)
        better = sum(close > alone for alone, close in pairs)
        medians = f"alone {statistics.median(alone_all):.2f}, neighbourhood {statistics.median(near_all):.2f}"
        print(
            f"\n* {target}: median rank correlation {medians}; the neighbourhood is better at {better} of {len(pairs)}"
        )


def _bests(times: Mapping[str, Times]) -> str:
    """The best form alone, in the neighbourhood and in the whole model."""
    return ", ".join(min(each, key=lambda name: each[name]) if each else "–" for each in times.values())


if __name__ == "__main__":
    main("neighbourhoods", __doc__, measure, show)
