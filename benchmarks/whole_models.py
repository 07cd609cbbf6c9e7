"""What ``splitdeconv convert`` makes of whole models: native, converted, and the bound, side by side.

The models are those of a folder and the networks of the zoo, as each runtime takes them: float32, int8, and int8 with
fused numerics for LiteRT. Each case starts without a cache. What is done stays in FOLDER, so that a run that stopped
goes on where it was; the table shows all so far.

    python -m benchmarks.whole_models FOLDER --models ../shared/models                        # everything: hours
    python -m benchmarks.whole_models FOLDER --models ../shared/models --minutes 9            # the next part of it
    python -m benchmarks.whole_models FOLDER --target openvino --dtype float32 --only 'fst*'  # some of it

Run it on an idle machine. A case takes up to two of its budgets, and a network's first one its export.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cases import Case, Found, main, table

import splitdeconv
from splitdeconv import codec
from splitdeconv.formats.open_sizes import definite_shapes, with_sizes
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.bench import BOUND, bounds
from splitdeconv.pipeline.in_model import race
from splitdeconv.pipeline.open import Options, as_it_came, open_model, open_target, proving, saved
from splitdeconv.pipeline.sizes import find_sized
from splitdeconv.proof.whole import Given
from splitdeconv.results.bench import ModelTimes, geometric_mean
from splitdeconv.results.plan import Plan
from splitdeconv.results.times import Measurement, comparison, timed

RACE_SHARE = 0.25  # of the budget, on top of it, for the race with the bound
HEAD = ("model", "target", "type", "native ms", "converted", "layers alone", "room", "share of it", "forms")


def measure(case: Case, budget: float) -> Found:
    """Convert, and race the result with the original and the bound."""
    found = splitdeconv.convert(case.path, target=case.target, numerics=case.numerics, budget=budget, cache=False)
    options = Options(seconds=budget, cache=False)
    model = open_model(case.path, case.numerics)
    target = open_target(case.target, model, options)
    model, runner = proving(model, target, options)
    shapes, _ = definite_shapes(model, {})
    sites = model.find().sites
    sized = with_sizes(sites, find_sized(model, shapes, {}, runner).sites)
    with as_it_came(model) as original, TemporaryDirectory() as folder:
        feeds = Given({}, (shapes,)).feeds_that_run(model, original, target)
        if isinstance(feeds, str):
            return {"error": feeds}
        models = {"native": original}
        if found.record.converted:
            models["converted"] = saved(found.rewritten, Path(folder, f"converted{model.suffix}"))
        for name, programs in bounds(model, list(zip(sites, sized, strict=True)), target).items():
            models[name] = saved(model.splice(programs), Path(folder, f"{name.replace(' ', '_')}{model.suffix}"))
        times = with_one_bound(timed(race(target, models, feeds, RACE_SHARE * budget)))
    forms = sorted({str(choice.chosen) for choice in found.plan.choices})
    return {"model": codec.to_object(ModelTimes(times)), "forms": forms, "alone": alone(found.plan)}


def with_one_bound(times: dict[str, Measurement]) -> dict[str, Measurement]:
    """The fastest of the bounds as the bound; what was not rewritten is as it came."""
    limits = [time for name, time in times.items() if name.startswith(BOUND)]
    found = {name: times.get(name, times["native"]) for name in ("native", "converted")}
    return found | ({BOUND: min(limits, key=lambda time: time.median_ms)} if limits else {})


def alone(plan: Plan) -> float | None:
    """How much faster all sites together are in the forms that are fastest alone; None without the times for it."""
    known = [
        {option.candidate: option.time.median_ms for option in choice.options if option.time} for choice in plan.choices
    ]
    if not known or not all(NATIVE in times for times in known):
        return None
    return sum(times[NATIVE] for times in known) / sum(min(times.values()) for times in known)


def row(case: Case, found: Found) -> tuple[str, ...]:
    """A line of the table."""
    if "error" in found:
        return (case.model, case.target, case.kind, *["–"] * 5, found["error"])
    model = times_of(found)
    before, after = model.times["native"], model.times["converted"]
    gain = "1.00×" if after == before else comparison(after, before)
    room, share = model.ratio("native", BOUND), model.captured
    shown = [f"{each:.2f}×" if each else "–" for each in (found["alone"], room)]
    taken = f"{share:.0%}" if share is not None else "no room" if room else "–"
    return (
        case.model,
        case.target,
        case.kind,
        f"{before.median_ms:.4g}",
        gain,
        *shown,
        taken,
        ", ".join(found["forms"]),
    )


def times_of(found: Found) -> ModelTimes:
    """The times among the results."""
    return codec.from_object(ModelTimes, found["model"], "the results")


def summary(done: Sequence[tuple[Case, Found]]) -> Iterator[str]:
    """Geometric mean and the worst of each target and type, and the median of the shares."""
    groups: dict[tuple[str, str], dict[str, ModelTimes]] = {}
    for case, found in done:
        if "error" not in found:
            groups.setdefault((case.target, case.kind), {})[case.model] = times_of(found)
    for group, times in groups.items():
        gains = {name: each.ratio("native", "converted") or 1.0 for name, each in times.items()}
        worst = min(gains, key=lambda name: gains[name])
        shares = [each.captured for each in times.values() if each.captured is not None]
        mean = f"{', '.join(group)}: {geometric_mean(gains.values()):.2f}× of {len(gains)} models (geometric mean)"
        room = f"{statistics.median(shares):.0%} (median of {len(shares)})" if shares else "none has any"
        yield f"* {mean}, worst {gains[worst]:.2f}× ({worst}); share of the room {room}"


def show(done: Sequence[tuple[Case, Found]]) -> None:
    """The table, in Markdown."""
    print(table(HEAD, [row(case, found) for case, found in done]))
    print("\n" + "\n".join(summary(done)))


if __name__ == "__main__":
    main("whole_models", __doc__, measure, show)
