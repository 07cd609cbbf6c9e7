"""``python -m splitdeconv.lab.zoo.train OUT.onnx``: train the generator of faces anew; some minutes.

It learns to draw what ``drawing`` draws from the same sixteen numbers; the loss is the mean absolute error of pixels
plus a multiple of the mean squared one. Seed, steps and threads are fixed: maps as small as these gain nothing from a
second thread, and the order of the sums stays the same. On another processor or with another version of PyTorch the
weights differ slightly all the same.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR

from splitdeconv.lab.zoo.drawing import NUMBERS, draw
from splitdeconv.lab.zoo.faces import Faces
from splitdeconv.lab.zoo.quiet import quiet
from splitdeconv.lab.zoo.to_onnx import write

SEED, STEPS, BATCH = 0, 3600, 24
SHARPNESS = 3.0  # weight of the squared error, which makes small things such as mouths count
RATE, WARM_UP = 3e-3, 100  # of Adam, falling as a cosine after some steps


def train(steps: int = STEPS, *, seed: int = SEED) -> Faces:
    """A trained generator in evaluation mode; prints the loss now and then."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Faces()
    network.to(memory_format=torch.channels_last)  # a quarter faster on processors
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    warm_up = min(WARM_UP, steps // 2)
    schedule = LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / (warm_up + 1)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    started, mean = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        z = torch.randn(BATCH, NUMBERS, generator=generator)
        error = (network(z) - draw(z)).abs()
        loss = (error + SHARPNESS * error**2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 0 or step == steps:
            print(f"step {step} of {steps}: loss {mean:.4f}, {time.monotonic() - started:.0f} s", flush=True)  # noqa: T201
    network.eval()
    return network


def main(path: Path) -> None:
    """Train and write the ONNX file."""
    torch.set_num_threads(1)
    network = train()
    with quiet():
        write(network, path, "float32", SEED)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "faces.onnx"))
