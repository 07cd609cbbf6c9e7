"""StyleGAN2 generators that modulate their weights in each run: native, every deconv split, and what measuring takes.

Each image is a group of its own. The networks are those of tests/fixtures/stylegan2.py, as wide as they are asked
for; ONNX models by PyTorch's newer exporter. Run on an idle machine:

    python -m benchmarks.run_time_weights [--only '256*'] [--target onnxruntime] [--seconds 20]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import product
from typing import Any

import torch
from tests.fixtures.stylegan2 import STYLES, Generator, exported

import splitdeconv
from splitdeconv.results.times import comparison

TARGETS = ("onnxruntime", "openvino", "torch")
HEAD = "| channels | images | target | native ms | split | measured | forms |\n|---|---|---|---|---|---|---|"


def model(channels: int, blocks: int, batch: int, target: str) -> Any:
    """The generator as a target takes it."""
    torch.manual_seed(0)
    network, styles = Generator(channels, blocks).eval(), torch.randn(batch, STYLES)
    return torch.export.export(network, (styles,)) if target == "torch" else exported(network, (styles,), dynamo=True)


def row(model: Any, target: str, seconds: float) -> str:
    """Whole-model times: of the original, of all deconvs split, and of the plan that measuring makes."""
    options: dict[str, Any] = {"target": target, "cache": False, "budget": seconds, "verify": False}
    split = splitdeconv.convert(model, lowering="split", **options).record
    plan = splitdeconv.convert(model, **options).record
    assert split.whole is not None, "something was rewritten"
    gain = comparison(split.whole.after, split.whole.before)
    gained = plan.whole is not None and plan.whole.kept
    chosen = comparison(plan.whole.after, plan.whole.before) if plan.whole and gained else "native stays"
    forms = sorted({str(choice.chosen) for choice in plan.plan.choices})
    return f"{target} | {split.whole.before.median_ms:.4g} | {gain} | {chosen} | {', '.join(forms)}"


def rows(given: argparse.Namespace) -> Iterator[str]:
    for channels, batch, target in product(given.channels, given.batch, given.target or TARGETS):
        if fnmatch(f"{channels}x{batch}", given.only):
            found = row(model(channels, given.blocks, batch, target), target, given.seconds)
            yield f"| {channels} | {batch} | {found} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--blocks", type=int, default=4, help="each doubles the 4×4 map")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--target", action="append", choices=TARGETS, help="repeatable; default: all of them")
    parser.add_argument("--only", default="*", help="pattern of channels and images, as 256x1")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each conversion, of which a row has two")
    print(HEAD)
    for line in rows(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
