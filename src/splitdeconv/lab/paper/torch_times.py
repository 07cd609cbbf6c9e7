"""A network's deconvs and the whole of it in PyTorch, by the conversion's own measurement."""

from __future__ import annotations

import math

import torch

from splitdeconv import torch as converter
from splitdeconv.lab import zoo
from splitdeconv.lab.paper.models import SEED
from splitdeconv.lab.paper.part import Progress
from splitdeconv.lab.paper.times import FORMS, DeconvTimes, Times, alone
from splitdeconv.lowerings import candidates
from splitdeconv.results.bench import NATIVE, SPLIT, ZERO_INSERT, fixed_split
from splitdeconv.results.plan import Choice
from splitdeconv.targets.torch import Torch
from splitdeconv.torch import measure
from splitdeconv.torch_modules import layers
from splitdeconv.torch_modules.forms import all_forms
from splitdeconv.torch_modules.interpret import Form

_FULL = f"{SPLIT}:full"
_CHOICE = 0.5  # part of a deconv's seconds in which its form is chosen; NZP, native, SD and that form have the rest


def time_module(name: str, target: str, seconds: float, progress: Progress, forms: int = 0) -> Times:
    """Times of a network of the zoo in eager mode.

    Args:
        name: of the network.
        target: of PyTorch.
        seconds: for all its deconvs together, and as much again for the whole network.
        progress: told what is measured.
        forms: as :func:`splitdeconv.torch.convert` takes it.
    """
    network = zoo.build(name, SEED)
    example = network.sample(torch.Generator().manual_seed(SEED))
    runner = Torch(target.partition(":")[2])
    progress("choosing each deconv's form", 0.1)
    each = seconds / max(1, len(zoo.deconvs(name)))
    chosen = converter.convert(network, (example,), target, seconds=_CHOICE * each, forms=forms)
    progress("measuring the deconvs", 0.4)
    layers = tuple(_layer(choice, runner, (1 - _CHOICE) * each) for choice in converter.record(chosen).choices)
    progress("timing the whole network", 0.7)
    modules = {
        "native": network,
        "zero_insert": converter.convert(network, (example,), lowering="zero_insert"),
        "split": converter.convert(network, (example,), lowering=_FULL),
        "chosen": chosen,
    }
    ready = {form: runner.compile(modules[form]) for form in FORMS}
    times = runner.measure(ready, {"x": example.numpy()}, seconds, drop=math.inf)
    whole = {form: alone(time) for form, time in times.items()}
    notes = (
        "a deconv whose pads differ by side is computed with the smaller one on both, and cropped, as in PyTorch "
        "itself",
        "a deconv's form is chosen in a first run; the times are of a second one, of NZP, native, SD and that form",
    )
    return Times(layers, whole, runner.environment(), notes)


def _layer(choice: Choice, runner: Torch, seconds: float) -> DeconvTimes:
    """One deconv in the four forms, round by round."""
    deconv = choice.deconv
    forms = {measure.displayed(form): form for form in all_forms(deconv)}
    contiguous = {each: measure.displayed(Form(each, "NCHW")) for each in candidates(deconv, "NCHW")[0]}
    split = fixed_split(contiguous)
    wanted = {"native": NATIVE, "zero_insert": contiguous[ZERO_INSERT], "chosen": choice.chosen}
    if split is not None:
        wanted["split"] = contiguous[split]
    raced = {each: forms[each] for each in wanted.values()}
    layer = layers.Layer(measure.geometry_of(deconv), deconv)
    times, _ = measure.race(layer, raced, runner, seconds, math.inf)
    known = {form: alone(times[each]) for form, each in wanted.items() if each in times}
    return DeconvTimes(choice.site, deconv.describe(), known, str(choice.chosen), str(split or ""))
