"""StyleGAN2 generators that modulate their weights in each run: native, every deconv split, and what measuring takes.

Each image is a group of its own. The networks are those of tests/fixtures/stylegan2.py, as wide as they are asked
for; ONNX models by PyTorch's newer exporter. Run on an idle machine:

    python -m benchmarks.run_time_weights [--channels 256 512] [--blocks 4] [--batch 1 4] [--budget 60] [--only onnx*]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

import torch
from tests.fixtures.stylegan2 import STYLES, Generator, exported

import splitdeconv
from splitdeconv.results.times import comparison

TARGETS = ("onnxruntime", "openvino", "torch")
HEAD = "| channels | images | target | native ms | split | measured | forms |\n|---|---|---|---|---|---|---|"


def models(channels: int, blocks: int, batch: int) -> dict[str, Any]:
    """The generator as each target takes it."""
    torch.manual_seed(0)
    network, styles = Generator(channels, blocks).eval(), torch.randn(batch, STYLES)
    found = {"torch": torch.export.export(network, (styles,))}
    proto = exported(network, (styles,), dynamo=True)
    return {name: found.get(name, proto) for name in TARGETS}


def row(model: Any, target: str, budget: float) -> str:
    """Whole-model times: of the original, of all deconvs split, and of the plan that measuring makes."""
    options: dict[str, Any] = {"target": target, "cache": False, "budget": budget}
    split = splitdeconv.convert(model, lowering="split", **options).record
    plan = splitdeconv.convert(model, **options).record
    assert split.whole is not None, "something was rewritten"
    gain = comparison(split.whole.after, split.whole.before)
    gained = plan.whole is not None and plan.whole.kept
    chosen = comparison(plan.whole.after, plan.whole.before) if plan.whole and gained else "native stays"
    forms = sorted({str(choice.chosen) for choice in plan.plan.choices})
    return f"{target} | {split.whole.before.median_ms:.4g} | {gain} | {chosen} | {', '.join(forms)}"


def rows(given: argparse.Namespace) -> Iterator[str]:
    for channels in given.channels:
        for batch in given.batch:
            for target, model in models(channels, given.blocks, batch).items():
                if fnmatch(target, given.only):
                    yield f"| {channels} | {batch} | {row(model, target, given.budget)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--blocks", type=int, default=4, help="each doubles the 4×4 map")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--budget", type=float, default=60.0, help="seconds for each conversion")
    parser.add_argument("--only", default="*", help="pattern of targets")
    print(HEAD)
    for line in rows(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
