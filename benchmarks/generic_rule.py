"""What the rule for ``generic`` could take, in whole models: the evidence behind docs/decisions/generic-rule.md.

Nothing is measured for ``generic``, so its rule must do well wherever the model runs. Each model races on each runtime
as it came (native), as the rule writes it, and with the rule's choice among each lowering and form alone; sites that
have no such form keep the rule's. The last table is what decides: how much faster than native each is, on each runtime.

    python -m benchmarks.generic_rule FOLDER --models ../shared/models [--minutes 9] [--target openvino] [--only 'fst*']

FOLDER is that of ``benchmarks.whole_models``, whose exports are taken. Run it on an idle machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cases import Case, Found, main, table

from splitdeconv import lowerings
from splitdeconv.choosing.planner import generic_score
from splitdeconv.formats.model import Model
from splitdeconv.formats.open_sizes import definite_shapes
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.in_model import race
from splitdeconv.pipeline.open import Options, as_it_came, open_model, open_target, saved
from splitdeconv.pipeline.sites import site_table
from splitdeconv.proof.whole import Given
from splitdeconv.results.bench import geometric_mean
from splitdeconv.results.plan import Option, SiteTable
from splitdeconv.results.times import ratio, timed

RULE = "the rule"


def measure(case: Case, budget: float) -> Found:
    """Speed over native of the rule's plan and of the plan of each family; what does not run is missing."""
    options = Options(seconds=budget, cache=False)
    model = open_model(case.path, case.numerics)
    target = open_target(case.target, model, options)
    plans = {name: chosen for name, chosen in plans_of(model).items() if set(chosen.values()) != {NATIVE}}
    with as_it_came(model) as original, TemporaryDirectory() as folder:
        feeds = Given({}, (definite_shapes(model, {})[0],)).feeds_that_run(model, original, target)
        if isinstance(feeds, str):
            return {"error": feeds}
        models = {"native": original}
        for name, chosen in plans.items():
            models[name] = saved(rewritten_by(model, chosen), Path(folder, f"{name.replace(':', '_')}{model.suffix}"))
        times = timed(race(target, models, feeds, budget))
    return {name: ratio(times["native"], time) for name, time in times.items() if name != "native"}


def plans_of(model: Model) -> dict[str, dict[str, Candidate]]:
    """What each site gets by the rule, and by the rule among the forms of one family, where that is something else."""
    tables = [site_table(model, site, None) for site in model.find().sites]
    rewritten = [each for each in tables if each.deconv.written_out is None]
    families = dict.fromkeys(family(option) for each in rewritten for option in each.options)
    plans = {RULE: {each.site: by_rule(each, each.options) for each in tables}}
    for name in families:
        among = {each.site: [option for option in each.options if family(option) == name] for each in tables}
        plans[name] = {each.site: by_rule(each, among[each.site] or each.options) for each in tables}
    return {name: chosen for name, chosen in plans.items() if name == RULE or chosen != plans[RULE]}


def family(option: Option) -> str:
    """Lowering and form."""
    return ":".join(part for part in (option.candidate.lowering, option.candidate.form) if part)


def by_rule(table_of_site: SiteTable, options: Sequence[Option]) -> Candidate:
    """What the rule takes of some options; deconvs that are written out stay, as they do in ``generic``."""
    if table_of_site.deconv.written_out is not None or not options:
        return NATIVE
    return min(
        options, key=lambda each: (each.candidate.layout != "", generic_score(each, table_of_site.deconv))
    ).candidate


def rewritten_by(model: Model, chosen: dict[str, Candidate]) -> Model:
    """The model with these forms."""
    deconvs = {site.id: site.deconv for site in model.find().sites}
    return model.splice(
        {site: lowerings.lower(deconvs[site], model.layout, each) for site, each in chosen.items() if each != NATIVE}
    )


def show(done: Sequence[tuple[Case, Found]]) -> None:
    """Every model, then the geometric mean and the worst of each family on each target, and over all targets."""
    known = [(case, found) for case, found in done if found and "error" not in found]
    names = list(dict.fromkeys(name for _, found in known for name in found))
    rows = [
        (case.model, case.target, case.kind, *(f"{found[name]:.2f}×" if name in found else "–" for name in names))
        for case, found in known
    ]
    print(table(("model", "target", "type", *names), rows), end="\n\n")
    groups = list(dict.fromkeys((case.target, case.kind) for case, _ in known))
    means = [
        (name, *(mean_of(name, [f for c, f in known if (c.target, c.kind) == each]) for each in groups))
        for name in names
    ]
    print(table(("family", *map(", ".join, groups)), means))
    for case, found in done:
        if "error" in found:
            print(f"\n{case.key}: {found['error']}")


def mean_of(name: str, found: Sequence[Found]) -> str:
    """``1.20× (0.91×), 5 of 7``: geometric mean, the worst, and how many models the family has a plan of its own for.

    The rule stands in for the others.
    """
    taken = [each.get(name, each.get(RULE)) for each in found]
    ratios = [each for each in taken if each is not None]
    own = sum(name in each for each in found)
    return f"{geometric_mean(ratios):.2f}× ({min(ratios):.2f}×), {own} of {len(found)}" if ratios and own else "–"


if __name__ == "__main__":
    main("generic_rule", __doc__, measure, show)
