"""What ``splitdeconv convert`` makes of whole models: native, converted, and the bound, side by side.

The models are those of a folder and the networks of the zoo, as each runtime takes them: float32, int8, and int8 with
fused numerics for LiteRT. Each case starts without a cache, in a process of its own. What is done stays in FOLDER (the
exports, and ``results.json``), so that a run that stopped goes on where it was; the table shows all so far.

    python -m benchmarks.whole_models FOLDER --models ../shared/models                        # everything: hours
    python -m benchmarks.whole_models FOLDER --models ../shared/models --minutes 9            # the next part of it
    python -m benchmarks.whole_models FOLDER --target openvino --dtype float32 --only 'fst*'  # some of it

Run it on an idle machine. A case takes up to two of its budgets, and a network's first one its export.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import splitdeconv
from splitdeconv import codec
from splitdeconv.errors import SplitdeconvError
from splitdeconv.formats.open_sizes import definite_shapes, with_sizes
from splitdeconv.lab import zoo
from splitdeconv.pipeline.bench import BOUND, bounds
from splitdeconv.pipeline.in_model import race
from splitdeconv.pipeline.open import Options, as_it_came, open_model, open_target, proving, saved
from splitdeconv.pipeline.sizes import find_sized
from splitdeconv.proof.whole import Given
from splitdeconv.results.bench import ModelTimes, geometric_mean
from splitdeconv.results.times import Measurement, comparison

SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".onnx", "litert": ".tflite", "torch": ".pt2"}
DTYPES = ("float32", "int8")
RACE_SHARE = 0.25  # of the budget, on top of it, for the race with the bound


@dataclass(frozen=True)
class Case:
    """A model on a target.

    Attributes:
        model: the file of the folder, or the network's name.
        target, dtype, numerics: what it is converted for, and how.
        path: of the file; of a network it is made when it is needed.
    """

    model: str
    target: str
    dtype: str
    numerics: str
    path: Path

    @property
    def key(self) -> str:
        """Its name among the results."""
        return f"{self.model} {self.target} {self.dtype} {self.numerics}"


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        times: ``native``, ``converted`` and ``bound`` in the same rounds, or the reason why there are none.
        forms: what the sites got.
        alone: how much faster the sites are, each alone, all together; None without times.
        notes: of the conversion.
    """

    times: ModelTimes
    forms: tuple[str, ...] = ()
    alone: float | None = None
    notes: tuple[str, ...] = field(default=())


def cases(asked: argparse.Namespace) -> Iterator[Case]:
    """All that were asked for: for each target the models of the folder, then the networks."""
    for target in asked.target or SUFFIXES:
        suffix = SUFFIXES[target.split(":")[0]]
        files = () if asked.models is None else sorted(asked.models.glob(f"*{suffix}"))
        found = [(path.name, "int8" if "int8" in path.stem else "float32", path) for path in files]
        for dtype in DTYPES if suffix != ".pt2" else ("float32",):
            names = zoo.NETWORKS if dtype == "float32" else zoo.PAPER
            found += [(name, dtype, asked.folder / f"{name}-{dtype}{suffix}") for name in names]
        for name, dtype, path in found:
            if dtype in (asked.dtype or DTYPES) and fnmatchcase(name, asked.only):
                fused = suffix == ".tflite" and dtype == "int8"
                yield from (Case(name, target, dtype, each, path) for each in ("exact", "fused")[: 1 + fused])


def make(case: Case) -> None:
    """Export the network of a case, if its file is not there."""
    if case.path.exists():
        return
    if case.path.suffix == ".pt2":
        import torch  # noqa: PLC0415  # the other targets do not need it

        network = zoo.build(case.model)
        example = network.sample(torch.Generator().manual_seed(0))
        torch.export.save(torch.export.export(network, (example,)), case.path)
        return
    plain = case.path.with_name(f"{case.model}-float32{case.path.suffix}")
    zoo.export(case.model, case.path, dtype=case.dtype, plain=plain if plain.exists() else None)


def measured(case: Case, budget: float) -> Outcome:
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
            return Outcome(ModelTimes(reason=feeds))
        models = {"native": original}
        if found.record.converted:
            models["converted"] = saved(found.rewritten, Path(folder, f"converted{model.suffix}"))
        for name, programs in bounds(model, list(zip(sites, sized, strict=True)), target).items():
            models[name] = saved(model.splice(programs), Path(folder, f"{name.replace(' ', '_')}{model.suffix}"))
        times = race(target, models, feeds, RACE_SHARE * budget)
    forms = {str(choice.chosen) for choice in found.plan.choices}
    return Outcome(ModelTimes(with_one_bound(times)), tuple(sorted(forms)), alone(found.record), found.record.notes)


def with_one_bound(times: dict[str, Measurement]) -> dict[str, Measurement]:
    """The fastest of the bounds as the bound; what was not rewritten is as it came."""
    limits = [time for name, time in times.items() if name.startswith(BOUND)]
    found = {name: times.get(name, times["native"]) for name in ("native", "converted")}
    return found | ({BOUND: min(limits, key=lambda time: time.median_ms)} if limits else {})


def alone(record: Any) -> float | None:
    """How much faster the sites are in the forms that are fastest alone, their times added."""
    known = [[option.time.median_ms for option in choice.options if option.time] for choice in record.plan.choices]
    native = [
        option.time.median_ms
        for choice in record.plan.choices
        for option in choice.options
        if option.time and str(option.candidate) == "native"
    ]
    return sum(native) / sum(map(min, filter(None, known))) if native and len(native) == len(known) else None


def measured_elsewhere(case: Case, asked: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own, as plain values."""
    command = [sys.executable, "-m", "benchmarks.whole_models", str(asked.folder), "--key", case.key]
    command += ["--budget", str(asked.budget), "--target", case.target]
    command += [] if asked.models is None else ["--models", str(asked.models)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
        return found
    last = done.stderr.strip().rpartition("\n")[2]
    return dict(codec.to_object(Outcome(ModelTimes(reason=f"ended with {done.returncode}: {last}"))))


HEAD = ("model", "target", "type", "native ms", "converted", "layers alone", "room", "share of it", "forms")


def row(case: Case, result: Outcome) -> tuple[str, ...]:
    """A line of the table."""
    times, kind = result.times, case.dtype if case.numerics == "exact" else f"{case.dtype}, {case.numerics}"
    if not times.times:
        return (case.model, case.target, kind, "–", "–", "–", "–", "–", times.reason)
    before, after = times.times["native"], times.times["converted"]
    gain = comparison(after, before) if after != before else "1.00×"
    room, share = times.ratio("native", BOUND), times.captured
    shown = [f"{each:.2f}×" if each else "–" for each in (result.alone, room)]
    taken = f"{share:.0%}" if share is not None else "no room" if room else "–"
    return (case.model, case.target, kind, f"{before.median_ms:.4g}", gain, *shown, taken, ", ".join(result.forms))


def summary(done: Iterable[tuple[Case, Outcome]]) -> Iterator[str]:
    """Geometric mean and the worst of each target and type, and the median of the shares."""
    groups: dict[tuple[str, str, str], dict[str, ModelTimes]] = {}
    for case, result in done:
        if result.times.times:
            groups.setdefault((case.target, case.dtype, case.numerics), {})[case.model] = result.times
    for group, times in groups.items():
        gains = {name: each.ratio("native", "converted") or 1.0 for name, each in times.items()}
        worst = min(gains, key=lambda name: gains[name])
        shares = [each.captured for each in times.values() if each.captured is not None]
        mean = f"{', '.join(group)}: {geometric_mean(gains.values()):.2f}× of {len(gains)} models (geometric mean)"
        room = f"{statistics.median(shares):.0%} (median of {len(shares)})" if shares else "none has any"
        yield f"* {mean}, worst {gains[worst]:.2f}× ({worst}); share of the room {room}"


def show(all_cases: Iterable[Case], results: dict[str, Any]) -> None:
    """The table of what is done, in Markdown."""
    done = [
        (case, codec.from_object(Outcome, results[case.key], "results.json"))
        for case in all_cases
        if case.key in results
    ]
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for case, result in done:
        print(f"| {' | '.join(row(case, result))} |")
    print("\n" + "\n".join(summary(done)))


def run(asked: argparse.Namespace) -> None:
    """Measure what is missing, as long as there is time, and show the table."""
    started, file = time.monotonic(), asked.folder / "results.json"
    asked.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    wanted = list(cases(asked))
    missing = [case for case in wanted if case.key not in results]
    for number, case in enumerate(missing, 1):
        if time.monotonic() - started + 2 * asked.budget > 60 * asked.minutes > 0:
            break
        print(f"{number} of {len(missing)}: {case.key}", file=sys.stderr, flush=True)
        results[case.key] = measured_elsewhere(case, asked)
        file.write_text(json.dumps(results), encoding="utf-8")
    show(wanted, results)
    left = sum(case.key not in results for case in wanted)
    print(f"\n{len(wanted) - left} of {len(wanted)} are done{'; the same command goes on' if left else ''}")


def one(asked: argparse.Namespace) -> None:
    """A single case, for :func:`measured_elsewhere`."""
    (case,) = (each for each in cases(asked) if each.key == asked.key)
    try:
        make(case)
        result = measured(case, asked.budget)
    except SplitdeconvError as error:
        result = Outcome(ModelTimes(reason=str(error)))
    print(json.dumps(codec.to_object(result)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="exports and results.json, also of earlier runs")
    parser.add_argument("--models", type=Path, help="a folder with more models (.onnx, .tflite)")
    parser.add_argument("--target", action="append", help="default: onnxruntime, openvino, litert and torch")
    parser.add_argument("--dtype", action="append", choices=DTYPES)
    parser.add_argument("--only", default="*", help="a pattern of names")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of each conversion")
    parser.add_argument("--minutes", type=float, default=0.0, help="start nothing that ends later; 0: all of it")
    parser.add_argument("--key", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    one(asked) if asked.key else run(asked)


if __name__ == "__main__":
    main()
