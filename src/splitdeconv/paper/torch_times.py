"""A network's deconvs and the whole of it in PyTorch, by the conversion's own measurement."""

from __future__ import annotations

import math
from dataclasses import asdict

import torch

from splitdeconv import torch as converter
from splitdeconv import zoo
from splitdeconv.comparison import SPLIT
from splitdeconv.paper.models import SEED
from splitdeconv.paper.part import Progress
from splitdeconv.paper.times import Layer, Time, Times, layer_from
from splitdeconv.results import Candidate, Choice
from splitdeconv.targets.torch import Torch

_FULL = f"{SPLIT}:full"
_FORMS = ("native", "zero_insert", "split", "chosen")


def time_module(name: str, target: str, seconds: float, progress: Progress) -> Times:
    """Times of a network of the zoo in eager mode.

    Args:
        name: of the network.
        target: of PyTorch.
        seconds: for all its deconvs together, and as much again for the whole network.
        progress: told what is measured.
    """
    network = zoo.build(name, SEED)
    example = network.sample(torch.Generator().manual_seed(SEED))
    progress("measuring the deconvs", 0.1)
    each = seconds / max(1, len(zoo.deconvs(name)))
    chosen = converter.convert(network, (example,), target, seconds=each)
    found = converter.record(chosen)
    layers = tuple(_layer(choice) for choice in found.choices)
    progress("timing the whole network", 0.6)
    runner = Torch(target.partition(":")[2])
    modules = {
        "native": network,
        "zero_insert": converter.convert(network, (example,), lowering="zero_insert"),
        "split": converter.convert(network, (example,), lowering=_FULL),
        "chosen": chosen,
    }
    ready = {Candidate(form): runner.compile(modules[form]) for form in _FORMS}
    times = runner.measure(ready, {"x": example.numpy()}, seconds, drop=math.inf)
    whole = {str(form): Time(time.median_ms, time.low_ms, time.high_ms, time.rounds) for form, time in times.items()}
    notes = (
        "a deconv whose pads differ by side is computed with the smaller one on both, and cropped, as in PyTorch "
        "itself",
        "a form of a deconv that takes more than twice the fastest one's time is timed in three rounds",
    )
    return Times(layers, whole, asdict(runner.environment()), notes)


def _layer(choice: Choice) -> Layer:
    timed = {option.candidate: option.time for option in choice.options}
    return layer_from(choice.site, choice.deconv.describe(), timed, choice.chosen)
