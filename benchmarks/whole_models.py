"""What ``splitdeconv convert`` makes of whole models: times before and after, as the user gets them.

The models are those in a folder, and the networks of the zoo, exported and quantised once. Each conversion starts
without a cache, in a process of its own; the times are those of its last comparison, original and result side by side.
Run it on an idle machine:

    python -m benchmarks.whole_models --folder ../shared/models --target onnxruntime --target openvino [--json FILE]
    python -m benchmarks.whole_models --zoo --dtype int8 --target onnxruntime
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from splitdeconv.lab import zoo
from splitdeconv.results.bench import geometric_mean

SUFFIXES = {"onnxruntime": ".onnx", "openvino": ".onnx", "litert": ".tflite"}


def converted(model: Path, target: str, budget: float) -> dict[str, Any]:
    """The record of one conversion."""
    with tempfile.TemporaryDirectory() as folder:
        out, record = Path(folder, "out" + model.suffix), Path(folder, "run.json")
        command = [sys.executable, "-m", "splitdeconv", "convert", str(model), str(out), "--target", target]
        options = ["--no-cache", "--budget", str(budget), "--json", str(record)]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
        if not record.exists():
            return {"error": done.stderr.strip().rpartition("\n")[2]}
        found: dict[str, Any] = json.loads(record.read_text())
        return found


def line(name: str, target: str, record: dict[str, Any]) -> tuple[str, float]:
    """One row of the table, and the gain: 1 where the model stayed as it was."""
    if "error" in record or record["whole"] is None:
        notes = record.get("error") or "; ".join(record["notes"][-2:])
        return f"{name:32}{target:13}{'–':>10}{'–':>10}{'1.00×':>8}  {notes}", 1.0
    whole = record["whole"]
    pairs = zip(whole["before"]["rounds_ms"], whole["after"]["rounds_ms"], strict=False)
    ratios = sorted(before / after for before, after in pairs)
    gain = ratios[len(ratios) // 2] if whole["kept"] else 1.0
    forms = sorted({choice["chosen"] for choice in record["plan"]["choices"]})
    times = f"{whole['before']['median_ms']:10.4g}{whole['after']['median_ms']:10.4g}"
    kept = "" if whole["kept"] else f" (taken back: {ratios[len(ratios) // 2]:.2f}×)"
    return f"{name:32}{target:13}{times}{gain:7.2f}×  {', '.join(forms)}{kept}", gain


def models(options: argparse.Namespace, folder: Path) -> Iterator[Path]:
    """The files of all models."""
    if options.folder is not None:
        yield from sorted(path for path in options.folder.iterdir() if path.suffix in (".onnx", ".tflite"))
    if options.zoo:
        for suffix in sorted({SUFFIXES[target.split(":")[0]] for target in options.target}):
            for name in zoo.NETWORKS:
                path = folder / f"{name}{suffix}"
                zoo.export(name, path, dtype=options.dtype)
                yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--zoo", action="store_true")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", default="", help="part of the names")
    parser.add_argument("--target", action="append", default=[])
    parser.add_argument("--budget", type=float, default=60.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    records: dict[str, dict[str, Any]] = {}
    gains: dict[str, list[float]] = {}
    print(f"{'model':32}{'target':13}{'ms before':>10}{'ms after':>10}{'gain':>8}  forms")
    with tempfile.TemporaryDirectory() as folder:
        for path in models(options, Path(folder)):
            for target in options.target:
                if path.suffix == SUFFIXES[target.split(":")[0]] and options.only in path.name:
                    record = records[f"{path.name} {target}"] = converted(path, target, options.budget)
                    text, gain = line(path.name, target, record)
                    gains.setdefault(target, []).append(gain)
                    print(text, flush=True)
    for target, each in gains.items():
        print(f"geometric mean on {target}: {geometric_mean(each):.2f}× of {len(each)}")
    if options.json is not None:
        options.json.write_text(json.dumps(records))


if __name__ == "__main__":
    main()
