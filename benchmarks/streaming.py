"""HiFi-GAN's generator (V1) in chunks: milliseconds a chunk and real-time factor, native and split.

The whole generator on a chunk alone is the lower bound: it keeps nothing, and its borders are wrong. Run on an idle
machine: python -m benchmarks.streaming [--width 512] [--rounds 20] [--rate 22050]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from tests.hifigan import HifiGan

import splitdeconv

CHUNKS = (1, 7, 32)  # frames
MELS, HOP = 80, 256


def export(width: int, path: Path) -> None:
    torch.manual_seed(0)
    frames = torch.export.Dim("frames", min=2)
    torch.onnx.export(
        HifiGan(MELS, width).eval(),
        (torch.randn(1, MELS, 50),),
        path,
        input_names=["mel"],
        output_names=["wave"],
        dynamic_shapes=({2: frames},),
        opset_version=18,
        external_data=False,
    )


def feeds(session: Any, frames: int) -> dict[str, np.ndarray]:
    made = {}
    for each in session.get_inputs():
        sizes = [size if isinstance(size, int) else frames for size in each.shape]
        made[each.name] = np.zeros(sizes, np.int64 if "int64" in each.type else np.float32)
    return made | {"mel": np.random.default_rng(0).standard_normal((1, MELS, frames), np.float32)}


def best(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each, interleaved: the median of the rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: float(np.median(found[1:])) for name, found in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=22_050, help="samples a second")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "hifigan.onnx"
        export(given.width, path)
        models: dict[str, Any] = {"whole on the chunk": onnx.load(path)}
        for lowering in ("native", "split"):
            found = splitdeconv.convert(path, stream={"mel": 2}, target="generic", lowering=lowering)
            models[lowering] = found.model
            print(f"{lowering}: {found.record.notes[0]}")
    sessions = {name: onnxruntime.InferenceSession(model.SerializeToString()) for name, model in models.items()}
    for frames in CHUNKS:
        runs = {name: partial(each.run, None, feeds(each, frames)) for name, each in sessions.items()}
        sound = frames * HOP / given.rate
        for name, seconds in best(runs, given.rounds).items():
            print(f"{frames:3} frames  {name:20} {seconds * 1e3:8.1f} ms   real-time factor {seconds / sound:.2f}")


if __name__ == "__main__":
    main()
