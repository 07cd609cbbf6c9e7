"""Resize-convolutions in PyTorch, forward and in training, and zero insertions on every runtime.

    python -m benchmarks.resize_convolutions forward             # layers of benchmarks/resize_layers.json in PyTorch
    python -m benchmarks.resize_convolutions training            # the same, forward and backward
    python -m benchmarks.resize_convolutions step                # a training step of the zoo's VAE decoder
    python -m benchmarks.resize_convolutions zeros --target onnxruntime --target litert

Run each part on an idle machine; ``--seconds`` bounds the measuring of each layer, a line is printed when it is known,
and ``--only PATTERN`` goes on with the layers that are missing. ``forward`` times exported programs, eager and
compiled: the model's own operators, and what `convert` puts in their place. ``training`` is forward and backward of
`splitdeconv.torch`'s modules, eager; the faster of contiguous and channels-last maps on both sides. On ONNX Runtime,
OpenVINO and LiteRT the layers of ``forward`` are those of `splitdeconv bench --layers benchmarks/resize_layers.json`.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

import splitdeconv
from splitdeconv.cli import app
from splitdeconv.deconv.layers import ListedLayer, read_layers
from splitdeconv.formats.torch.exchange import WrittenLayer, examples_of
from splitdeconv.lab.zoo.modules import UpsampledConv2d
from splitdeconv.lab.zoo.vae import VAE
from splitdeconv.measuring import rounds
from splitdeconv.results.bench import EQUAL_WORK, NATIVE, geometric_mean
from splitdeconv.results.times import ratio
from splitdeconv.targets.target import KEEP_ALL
from splitdeconv.torch import SplitUpsampledConv2d

LAYERS = Path(__file__).with_name("resize_layers.json")
FORWARD = ("torch", "torch:cpu:compiled")
RUNTIMES = ("onnxruntime", "openvino", "litert", "torch")
FORMS = ("native:deconv", "split", "split_phases", "split_rows", "differences")  # of modules in training
ORIGINAL = "upsampling and convolution"
MEMORY = (torch.contiguous_format, torch.channels_last)
PARTS = ("forward", "training", "step", "zeros")
Line = tuple[str, float]  # what is printed of a layer, and its gain


def listed(which: str, only: str) -> list[ListedLayer]:
    """Layers of one set whose names fit a pattern."""
    every = read_layers(LAYERS).deconvs
    return [each for each in every if each.set == which and fnmatchcase(each.name, only)]


def on_target(layer: ListedLayer, target: str, seconds: float, threads: int) -> Line:
    """The layer's own nodes, the form that a conversion takes, and the convolution of least work."""
    asked: dict[str, Any] = {"target": target, "budget": seconds, "threads": threads}
    (found,) = splitdeconv.bench(layers=LAYERS, only=[layer.name], **asked).layers
    native, chosen = found.time(NATIVE), found.time(found.chosen)
    assert native is not None, "each target here runs the layers as they are written"
    assert chosen is not None, "what is chosen was timed"
    gain, limit = found.ratio(NATIVE, found.chosen) or 1.0, found.ratio(NATIVE, EQUAL_WORK)
    least = f"(least work {limit:.2f}×)" if limit else ""
    return f"{native.median_ms:9.3g} ms → {chosen.median_ms:9.3g} ms  {gain:5.2f}×  {found.chosen}  {least}", gain


def modules(layer: ListedLayer) -> Iterator[tuple[str, nn.Module]]:
    """The layer as it is written, and as one module in each form that takes it."""
    original = WrittenLayer(layer.deconv)
    yield ORIGINAL, original
    for form in FORMS:
        with contextlib.suppress(splitdeconv.SplitdeconvError):  # a form may refuse a layer
            yield form, as_one_module(original.conv, layer.deconv.strides, form)


def as_one_module(conv: nn.Conv2d, factor: int | tuple[int, ...], form: str) -> nn.Module:
    """A convolution and the upsampling in front of it."""
    channels = conv.in_channels, conv.out_channels
    made = SplitUpsampledConv2d(*channels, conv.kernel_size, padding=conv.padding, factor=factor, lowering=form)
    made.load_state_dict(conv.state_dict())
    return made


def forward_and_backward(module: nn.Module, x: Tensor) -> Callable[[], None]:
    """One pass, with gradients of the map and of all parameters."""
    x = x.detach().requires_grad_()
    gradient = torch.randn_like(module(x))

    def run() -> None:
        module.zero_grad(set_to_none=True)
        x.grad = None
        module(x).backward(gradient)

    return run


def faster(runs: Mapping[str, Callable[[], Any]], seconds: float) -> Line:
    """The original in its better memory format against the best of all others."""
    times = rounds.interleaved(runs, seconds, drop=KEEP_ALL)
    before = min((each for each in times if each.startswith(ORIGINAL)), key=lambda each: times[each].median_ms)
    others = [each for each in times if not each.startswith(ORIGINAL)]
    after = min(others, key=lambda each: times[each].median_ms)
    gain = ratio(times[before], times[after])
    return f"{times[before].median_ms:9.3g} ms → {times[after].median_ms:9.3g} ms  {gain:5.2f}×  {after}", gain


def training(layer: ListedLayer, seconds: float) -> Line:
    """Forward and backward."""
    (x, *_), runs = examples_of(layer.deconv), {}
    for name, module in modules(layer):
        for memory in MEMORY:
            last = " channels-last" if memory == torch.channels_last else ""
            placed = copy.deepcopy(module).to(memory_format=memory)
            runs[f"{name}{last}"] = forward_and_backward(placed, x.contiguous(memory_format=memory))
    return faster(runs, seconds)


def merged(network: nn.Module, form: str) -> nn.Module:
    """The network with one module for each upsampling and its convolution."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, UpsampledConv2d):
                setattr(parent, name, as_one_module(child.conv, 2, form))
    return network


def training_step(network: VAE, batch: int) -> Callable[[], None]:
    """Forward, squared error, backward, and a step of stochastic gradient descent."""
    generator = torch.Generator().manual_seed(0)
    latent = network.sample(generator, batch)
    with torch.no_grad():
        wanted = torch.rand(network(latent).shape, generator=generator)
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-4)

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        F.mse_loss(network(latent), wanted).backward()
        optimiser.step()

    return run


def vae_step(width: int, batch: int, seconds: float) -> Line:
    """A training step of the VAE decoder."""
    runs: dict[str, Callable[[], None]] = {}
    for form in (ORIGINAL, *FORMS[:2]):
        torch.manual_seed(0)
        network = VAE(width)
        runs[form] = training_step(network if form == ORIGINAL else merged(network, form), batch)
    return faster(runs, seconds)


def section(title: str, lines: Iterator[tuple[str, Line]]) -> None:
    """A line for each layer, and the mean."""
    out, gains = app.console(), []
    for name, (text, gain) in lines:
        gains.append(gain)
        out.print(f"{title:32}{name:24}{text}", soft_wrap=True, markup=False)
    if len(gains) > 1:
        mean, worst = geometric_mean(gains), min(gains)
        out.print(f"{title}: geometric mean {mean:.2f}× of {len(gains)}, least {worst:.2f}×", soft_wrap=True)


def run_part(part: str, given: argparse.Namespace, targets: Sequence[str]) -> None:
    seconds = given.seconds
    if part in ("forward", "zeros"):
        layers = listed("resize" if part == "forward" else "zeros", given.only)
        for target in targets:
            section(
                f"{part} {target}", ((each.name, on_target(each, target, seconds, given.threads)) for each in layers)
            )
    elif part == "training":
        section(part, ((each.name, training(each, seconds)) for each in listed("resize", given.only)))
    else:
        lines = [(f"vae, width {given.width}", vae_step(given.width, given.batch, seconds))]
        section("training step", iter(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--target", action="append", default=[], help="of forward and zeros; repeatable")
    parser.add_argument("--only", default="*", help="layers whose names fit this pattern")
    parser.add_argument("--seconds", type=float, default=15.0, help="for each layer on each target")
    parser.add_argument("--threads", type=int, default=2, help="of the targets of forward and zeros")
    parser.add_argument("--width", type=int, default=128, help="of the VAE decoder")
    parser.add_argument("--batch", type=int, default=1, help="of the training step")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in given.parts or PARTS:
        run_part(part, given, given.target or (FORWARD if part == "forward" else RUNTIMES))


if __name__ == "__main__":
    main()
