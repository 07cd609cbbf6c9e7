"""PyTorch, layer by layer: native against every form, and against the limit, in one run.

    python benchmarks/torch_layers.py                                 # torch:cpu, eager
    python benchmarks/torch_layers.py torch:cpu:compiled torch:cpu:channels_last --batch 1 32 --json out.json

Layers are those of the usual decoders in 1-D, 2-D and 3-D. The choice is the one that ``convert(target=…)`` makes.
The limit is the plain convolution with the same useful multiply-accumulates on the same input, whose output is not
rearranged. Run it on an idle machine, or with ``--processor-time``; times hold only within a row.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.times import Measurement
from splitdeconv.targets.torch import Torch
from splitdeconv.torch.measure import choose_measured, displayed
from splitdeconv.torch_modules.forms import inference_form
from splitdeconv.torch_modules.functions import Geometry
from splitdeconv.torch_modules.layers import Layer, layer_of


@dataclass(frozen=True)
class Shape:
    """A layer: rank, channels, kernel, stride, pad, output pad and input size, the same on each axis."""

    rank: int
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    pad: int
    output_pad: int
    size: int


LAYERS = {
    "dcgan2": Shape(2, 128, 64, 5, 2, 2, 1, 16),
    "sngan2": Shape(2, 256, 128, 4, 2, 1, 0, 8),
    "sngan3": Shape(2, 128, 64, 4, 2, 1, 0, 16),
    "fst1": Shape(2, 128, 64, 3, 2, 1, 1, 64),
    "mde4": Shape(2, 256, 128, 3, 2, 1, 1, 24),
    "unet": Shape(2, 512, 256, 2, 2, 0, 0, 32),
    "pose": Shape(2, 256, 256, 4, 2, 1, 0, 32),
    "sr": Shape(2, 56, 1, 9, 3, 4, 2, 85),
    "fcn": Shape(2, 21, 21, 16, 8, 4, 0, 32),
    "vocoder1": Shape(1, 512, 256, 16, 8, 4, 0, 64),
    "vocoder2": Shape(1, 256, 128, 16, 8, 4, 0, 512),
    "vocoder4": Shape(1, 64, 32, 4, 2, 1, 0, 8192),
    "volume2": Shape(3, 64, 32, 2, 2, 0, 0, 24),
    "volume4": Shape(3, 32, 16, 4, 2, 1, 0, 24),
}
CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layer(shape: Shape, batch: int) -> Layer:
    """The layer as the converter sees it."""
    ones = (1,) * shape.rank
    geometry = Geometry(
        *(tuple(number * one for one in ones) for number in (shape.stride, shape.pad, shape.output_pad)), 1, ones
    )
    weight = torch.empty(shape.in_channels, shape.out_channels, *(shape.kernel * one for one in ones), device="meta")
    return layer_of((batch, shape.in_channels, *(shape.size * one for one in ones)), weight, True, geometry)


def limit(shape: Shape, batch: int, on, seconds: float) -> Measurement:
    """The plain convolution of the same work: kernel ceil(K/s), all phases as output channels, no rearrangement.

    Its input is larger by the kernel less 1, so that it has an output for each pixel of the layer's input.
    """
    kernel = -(-shape.kernel // shape.stride)
    share = (shape.kernel / (kernel * shape.stride)) ** shape.rank  # of its products that are useful
    channels = max(1, round(shape.out_channels * shape.stride**shape.rank * share))
    plain = CONVS[shape.rank - 1](shape.in_channels, channels, kernel).eval()
    x = torch.randn(batch, shape.in_channels, *(shape.size + kernel - 1,) * shape.rank).numpy()
    key = Candidate("limit")
    return on.measure({key: on.compile(plain)}, {"x": x}, seconds)[key]


def row(name: str, shape: Shape, batch: int, on, seconds: float) -> dict:
    """Everything about one layer on one target."""
    found = layer(shape, batch)
    choice, _ = choose_measured(name, found, on, seconds)
    times = {str(option.candidate): option.time for option in choice.options if option.time is not None}
    last = on.setting.memory_format == "channels_last" and shape.rank > 1
    rule = str(displayed(inference_form(found.deconv, last)))
    best = min(times, key=lambda each: times[each].median_ms)
    bound = limit(shape, batch, on, seconds / 4)
    return {
        "layer": name,
        "batch": batch,
        "native_ms": times["native"].median_ms,
        "chosen": str(choice.chosen),
        "chosen_ratio": times["native"].median_ms / times[str(choice.chosen)].median_ms,
        "best": best,
        "best_ratio": times["native"].median_ms / times[best].median_ms,
        "rule": rule,
        "rule_ratio": times["native"].median_ms / times[rule].median_ms if rule in times else None,
        "zero_insert_ratio": min(
            (time.median_ms for key, time in times.items() if key.startswith("zero_insert")), default=math.nan
        )
        / times["native"].median_ms,
        "limit_ms": bound.median_ms,
        "reason": choice.reason,
        "times": {key: asdict(time) for key, time in times.items()},
        "refusals": {str(refusal.candidate): refusal.reason for refusal in choice.refusals},
    }


def show(found: dict) -> str:
    """One line for the terminal."""
    rule = "–" if found["rule_ratio"] is None else f"{found['rule_ratio']:.2f}"
    return (
        f"{found['layer']:>10} {found['batch']:>3} {found['native_ms']:9.3f} {found['chosen_ratio']:6.2f}× "
        f"{found['best_ratio']:6.2f}× {rule:>6}× {found['limit_ms']:9.3f}  {found['best']}"
    )


def geometric_mean(ratios: list[float]) -> float:
    """Of positive numbers."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=["torch:cpu"], help="torch[:cuda][:compiled][:channels_last]…")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", default=list(LAYERS), choices=list(LAYERS))
    parser.add_argument("--seconds", type=float, default=4.0, help="measuring time per layer")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--processor-time", action="store_true", help="one thread, time of this process alone")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    record = []
    for text in chosen.targets:
        on = Torch(text.partition(":")[2], chosen.threads)
        if chosen.processor_time:
            on = Torch(text.partition(":")[2], threads=1, clock=time.process_time_ns)
        print(f"\n{on.environment()}\n     layer   N native ms chosen    best    rule    limit ms  best form")
        rows = []
        for batch in chosen.batch:
            for name in chosen.only:
                rows.append(row(name, LAYERS[name], batch, on, chosen.seconds))
                print(show(rows[-1]), flush=True)
        means = {key: geometric_mean([each[key] for each in rows]) for key in ("chosen_ratio", "best_ratio")}
        print(f"geometric mean: chosen {means['chosen_ratio']:.2f}×, best {means['best_ratio']:.2f}×")
        record.append({"environment": asdict(on.environment()), "rows": rows, "geometric_mean": means})
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
