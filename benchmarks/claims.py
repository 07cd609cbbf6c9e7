"""What a claim about a runtime is made of: all layers of a list, and whole models, with the ratios that must be met."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import splitdeconv
from splitdeconv import codec
from splitdeconv.cli import app
from splitdeconv.report import printed
from splitdeconv.results.bench import NATIVE, BenchRecord

LAYERS = Path(__file__).with_name("layers.json")
MODELS = Path(__file__).parents[2] / "shared" / "models"
NOISE = 0.97  # two compilations of the same model differ by up to 3 %: docs/decisions/noise.md


@dataclass(frozen=True)
class Claim:
    """Least geometric means over all layers of the list.

    Attributes:
        over_native: of the converted layers; none may be slower than native beyond the noise.
        over_zero_insert: the same, over the paper's baseline.
    """

    over_native: float
    over_zero_insert: float


def check(description: str, target: str, claim: Claim) -> None:
    """The command line of one claim's script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--layers", type=Path, default=LAYERS)
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of .onnx files; left out where absent")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--budget", type=float, default=240.0, help="seconds for the list, and for each model")
    parser.add_argument("--only", action="append", default=[], help="layers of the list that fit this pattern")
    parser.add_argument("--json", type=Path, help="write all times to this file")
    given = parser.parse_args()
    out = app.console()
    record = splitdeconv.bench(
        layers=given.layers, target=target, only=given.only, threads=given.threads, budget=given.budget
    )
    printed.benchmark(out, record, every=True)
    records = [record]
    for path in sorted(given.models.glob("*.onnx")):
        out.print()
        whole = splitdeconv.bench(path, target=target, threads=given.threads, budget=given.budget)
        printed.benchmark(out, whole)
        records.append(whole)
    if not given.models.is_dir():
        out.print(f"no folder {given.models}: whole models are left out")
    out.print()
    for line in verdicts(records, claim):
        out.print(line, markup=False)
    if given.json:
        given.json.write_text(codec.bench_to_json(records), encoding="utf-8")


def verdicts(records: Sequence[BenchRecord], claim: Claim) -> list[str]:
    """One line for each part of the claim: reached, or missed."""
    layers, *models = records
    means = {each.title: each for each in layers.summaries()}
    wanted = {"native / converted": claim.over_native, "zero_insert / converted": claim.over_zero_insert}
    lines = [
        f"{_mark(means[title].mean >= least)}: {title}, geometric mean {means[title].mean:.2f}×, wanted {least}×"
        for title, least in wanted.items()
    ]
    slow = [layer.name for layer in layers.layers if (layer.ratio(NATIVE, layer.chosen) or 1.0) < NOISE]
    lines.append(f"{_mark(not slow)}: no layer slower than native beyond the noise {', '.join(slow)}".rstrip())
    for record in models:
        ratio = record.model.ratio("native", "converted") if record.model else None
        if ratio is None:
            lines.append(f"unknown: {record.source} was not timed")
        else:
            lines.append(f"{_mark(ratio >= NOISE)}: {record.source}, native / converted {ratio:.2f}×")
    return lines


def _mark(reached: bool) -> str:
    return "reached" if reached else "MISSED"
