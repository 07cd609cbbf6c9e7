"""Where a split belongs beside LiteRT's exporter for PyTorch and its quantiser: each order made, proved and timed.

    python -m benchmarks.litert_orders [--width 64] [--budget 20]

Wants the extra `zoo`. Before the exporter the split is `splitdeconv.torch.convert`, behind it `splitdeconv.convert`;
both prove their result. Prints a row for each order: milliseconds (medians of interleaved rounds, XNNPACK on one
thread), the largest error over the largest output against PyTorch's float32, and operators.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from torch import nn

import splitdeconv
import splitdeconv.torch

ROUNDS, CALIBRATION, SIZE = 60, 8, 8
ORDERS = (
    ("export",),
    ("export", "split"),
    ("split", "export"),
    ("export", "quantise"),
    ("export", "quantise", "split"),
    ("export", "split", "quantise"),
    ("split", "export", "quantise"),
)


def generator(width: int) -> nn.Module:
    """Three 4×4/2 deconvs, which the exporter takes as they are."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 3, 4, 2, 1),
        nn.Tanh(),
    ).eval()


def example(width: int, seed: int) -> torch.Tensor:
    """An input."""
    return torch.randn(1, 4 * width, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def made(order: tuple[str, ...], width: int, budget: float, folder: Path) -> Path:
    """The file that one order gives."""
    net, file = generator(width), folder / ("-".join(order) + ".tflite")
    if order[0] == "split":
        net = splitdeconv.torch.convert(net, (example(width, 0),), target="generic")
    litert_torch.convert(net, (example(width, 0),)).export(str(file))
    for step in order[order.index("export") + 1 :]:
        if step == "split":
            found = splitdeconv.convert(file.read_bytes(), target="litert", threads=1, budget=budget)
            file.write_bytes(bytes(found.model))  # type: ignore[call-overload]  # a TFLite model as an object is bytes
        else:
            quantise(file, width)
    return file


def quantise(file: Path, width: int) -> None:
    """LiteRT's static quantisation: int8 maps, int8 weights for each channel."""
    made = quantizer.Quantizer(str(file), recipe.static_wi8_ai8())
    name = next(iter(Interpreter(str(file)).get_signature_list()))
    batches = [{"args_0": example(width, seed).numpy()} for seed in range(1, CALIBRATION + 1)]
    file.write_bytes(made.quantize(made.calibrate({name: batches})).quantized_model)


def runner(file: Path, x: Any) -> tuple[Callable[[], None], Callable[[], Any]]:
    """What runs a file on ``x``, and what reads its output; real numbers in both, also of int8 files."""
    interpreter = Interpreter(str(file), num_threads=1)
    interpreter.allocate_tensors()
    (given,), (wanted,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = given["quantization"]
    stored = np.clip(np.round(x / scale) + zero, -128, 127) if scale else x
    interpreter.set_tensor(given["index"], stored.astype(given["dtype"]))

    def read() -> Any:
        found, (scale, zero) = interpreter.get_tensor(wanted["index"]), wanted["quantization"]
        return scale * (found.astype(np.float32) - zero) if scale else found

    return interpreter.invoke, read


def milliseconds(calls: Mapping[str, Callable[[], None]]) -> dict[str, float]:
    """Medians of interleaved rounds."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    """Make, time and print all orders."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--budget", type=float, default=20.0)
    given = parser.parse_args()
    x = example(given.width, 0)
    wanted = generator(given.width)(x).detach().numpy()
    with TemporaryDirectory() as folder:
        files = {" → ".join(order): made(order, given.width, given.budget, Path(folder)) for order in ORDERS}
        runners = {name: runner(file, x.numpy()) for name, file in files.items()}
        times = milliseconds({name: run for name, (run, _) in runners.items()})
        for name, (_, read) in runners.items():
            error = np.abs(read() - wanted).max() / np.abs(wanted).max()
            count = len(Interpreter(str(files[name]))._get_ops_details())
            print(f"| {name} | {times[name]:.3g} | {error:.1e} | {count} |")


if __name__ == "__main__":
    main()
