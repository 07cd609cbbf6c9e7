"""The whole models of the benchmarks, as each runtime takes them, and results that a later run goes on from.

The models are those of a folder and the networks of the zoo. Each case is measured in a process of its own. What is
done stays in the folder that is named first: the exports, and a JSON file with the results.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from splitdeconv import SplitdeconvError
from splitdeconv.lab import zoo

SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".onnx", "litert": ".tflite", "torch": ".pt2"}
DTYPES = ("float32", "int8")
PATIENCE = 15  # budgets, and ...
SLOWEST_EXPORT = 600.0  # ... seconds, after which a case is given up

Found = dict[str, Any]  # of one case, as JSON; {"error": …} where it has no figures


@dataclass(frozen=True)
class Case:
    """A model on a target.

    Attributes:
        model: the file of the folder, or the network's name.
        target, dtype, numerics: what it is for, and how it is converted.
        path: of the file; that of a network is made when it is needed.
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

    @property
    def kind(self) -> str:
        """Its type as tables show it."""
        return self.dtype if self.numerics == "exact" else f"{self.dtype}, {self.numerics}"


Measure = Callable[[Case, float], Found]
Show = Callable[[Sequence[tuple[Case, Found]]], None]


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


def measured_elsewhere(case: Case, asked: argparse.Namespace) -> Found:
    """A case in a process of its own."""
    command = [sys.executable, "-m", f"benchmarks.{asked.name}", str(asked.folder), "--key", case.key]
    command += ["--budget", str(asked.budget), "--target", case.target]
    command += [] if asked.models is None else ["--models", str(asked.models)]
    patience = SLOWEST_EXPORT + PATIENCE * asked.budget
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=patience)
    except subprocess.TimeoutExpired:
        return {"error": f"took more than {patience:.0f} s"}
    if done.returncode:
        return {"error": f"ended with {done.returncode}: {done.stderr.strip().rpartition(chr(10))[2]}"}
    found: Found = json.loads(done.stdout.strip().rpartition("\n")[2])
    return found


def run(asked: argparse.Namespace, show: Show) -> None:
    """Measure what is missing, as long as there is time, and show all that is done."""
    started, file = time.monotonic(), asked.folder / f"{asked.name}.json"
    asked.folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Found] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    wanted = list(cases(asked))
    missing = [case for case in wanted if case.key not in results]
    for number, case in enumerate(missing, 1):
        if time.monotonic() - started + 2 * asked.budget > 60 * asked.minutes > 0:
            break
        print(f"{number} of {len(missing)}: {case.key}", file=sys.stderr, flush=True)
        results[case.key] = measured_elsewhere(case, asked)
        file.write_text(json.dumps(results), encoding="utf-8")
    show([(case, results[case.key]) for case in wanted if case.key in results])
    left = sum(case.key not in results for case in wanted)
    print(f"\n{len(wanted) - left} of {len(wanted)} are done{'; the same command goes on' if left else ''}")


def one(asked: argparse.Namespace, measure: Measure) -> None:
    """A single case, for :func:`measured_elsewhere`."""
    (case,) = (each for each in cases(asked) if each.key == asked.key)
    try:
        make(case)
        found = measure(case, asked.budget)
    except SplitdeconvError as error:
        found = {"error": str(error)}
    print(json.dumps(found))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, *rows)]
    return "\n".join((lines[0], "|" + "---|" * len(head), *lines[1:]))


def main(name: str, description: str | None, measure: Measure, show: Show) -> None:
    """The command line of a benchmark.

    Args:
        name: of its module, and of its file of results.
        description: for ``--help``.
        measure: the figures of one case within about so many seconds.
        show: prints all figures.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="exports and results, also of earlier runs")
    parser.add_argument("--models", type=Path, help="a folder with more models (.onnx, .tflite)")
    parser.add_argument("--target", action="append", help="default: onnxruntime, openvino, litert and torch")
    parser.add_argument("--dtype", action="append", choices=DTYPES)
    parser.add_argument("--only", default="*", help="a pattern of names")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of each case")
    parser.add_argument("--minutes", type=float, default=0.0, help="start nothing that ends later; 0: all of it")
    parser.add_argument("--key", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args(namespace=argparse.Namespace(name=name))
    one(asked, measure) if asked.key else run(asked, show)
