"""The measured choice: every form of a layer on a torch target, and the rule that picks one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.ops import Conv, NativeDeconv
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate, Refusal
from splitdeconv.measuring.rounds import DROP_RATIO
from splitdeconv.results.plan import Choice, Cost, Option, SiteTable
from splitdeconv.results.times import Measurement
from splitdeconv.targets import Compiled, CompileError
from splitdeconv.targets.torch import Setting, Torch
from splitdeconv.torch_modules.forms import all_forms
from splitdeconv.torch_modules.functions import Geometry
from splitdeconv.torch_modules.interpret import Form
from splitdeconv.torch_modules.layers import Layer
from splitdeconv.torch_modules.modules import (
    SplitConvTranspose1d,
    SplitConvTranspose2d,
    SplitConvTranspose3d,
    freeze_module,
)

# The order in which forms are measured, in multiply-accumulates; fitted by eye to benchmarks/torch_layers.py.
MOVED_WEIGHT = 12  # for each element that is read or written
CONV_WEIGHT = 400_000  # for calling one more convolution
MEASURED = {"eager": 24, "compiled": 10}  # forms measured beside native: compiling one takes seconds

MODULES = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SPLIT_MODULES = (SplitConvTranspose1d, SplitConvTranspose2d, SplitConvTranspose3d)


def choose_measured(
    site: str, layer: Layer, target: Torch, seconds: float, forms: int = 0
) -> tuple[Choice, str | None]:
    """Measure the promising forms of a layer; returns the choice and the name of the chosen form (None: native).

    Native stays unless a form beats it beyond the noise, by the rule that holds for all measuring targets.

    Args:
        seconds: for all forms together.
        forms: how many are measured beside native; 0 for as many as are worth it on the target.
    """
    own, *others = promising(layer.deconv, target.setting)
    measured = {displayed(form): form for form in (own, *others[: forms or None])}
    times, refusals = race(layer, measured, target, seconds)
    options = tuple(Option(each, _cost(layer.deconv, form), times.get(each)) for each, form in measured.items())
    refused = {refusal.candidate for refusal in refusals}
    options = tuple(option for option in options if option.candidate not in refused)
    refusals = [*candidates(layer.deconv, "NCHW")[1], *refusals]
    choice = planner.choose(SiteTable(site, layer.deconv, options, tuple(refusals)), Overrides(), "fastest")
    return choice, None if choice.chosen == NATIVE else str(measured[choice.chosen])


def race(
    layer: Layer, forms: Mapping[Candidate, Form], target: Torch, seconds: float, drop: float = DROP_RATIO
) -> tuple[dict[Candidate, Measurement], list[Refusal]]:
    """Times of a layer in each of ``forms``, round by round; and those that do not run, with the reasons.

    Args:
        seconds, drop: as :func:`splitdeconv.measuring.rounds.interleaved` takes them.
    """
    ready: dict[Candidate, Compiled] = {}
    refusals: list[Refusal] = []
    own, x = _native_module(layer), _input(layer)
    for candidate, form in forms.items():
        reason = target.refuse(lower(layer.deconv, form.program_layout, form.candidate))
        if reason:
            refusals.append(Refusal(candidate, reason))
            continue
        try:
            module = own if form == Form(NATIVE, "NCHW") else _split_module(layer, form, own)
            ready[candidate] = target.compile(module, (x,))
        except CompileError as error:
            refusals.append(Refusal(candidate, str(error)))
    return target.measure(ready, {"x": x.numpy()}, seconds, drop=drop), refusals


def geometry_of(deconv: Deconv) -> Geometry:
    """The numeric arguments with which PyTorch computes ``deconv``, whose pads are the same at both ends."""
    axes = deconv.axes
    return Geometry(
        deconv.strides,
        tuple(axis.pad_begin for axis in axes),
        tuple(axis.output_pad for axis in axes),
        deconv.groups,
        tuple(axis.dilation for axis in axes),
    )


def promising(deconv: Deconv, setting: Setting) -> list[Form]:
    """``native``, which the others must beat, and the forms that are worth measuring, the most promising first."""
    last = setting.memory_format == "channels_last" and len(deconv.axes) > 1
    own, *others = all_forms(deconv)
    ranked = sorted(others, key=lambda form: _score(deconv, form, last))
    return [own, *ranked[: MEASURED[setting.mode]]]


def _score(deconv: Deconv, form: Form, channels_last: bool) -> float:
    """The expected time, in multiply-accumulates: arithmetic, data movement, and the start of each convolution."""
    cost = _cost(deconv, form)
    source = deconv.in_channels * prod(size or 1 for size in deconv.in_sizes)
    result = deconv.out_channels * prod(size or 1 for size in deconv.out_sizes)
    converted = {"NCHW": 0, "NHWC": source + result, "NHWC-NCHW": source}[form.layout]
    if channels_last:
        converted = {"NCHW": source + result, "NHWC": 0, "NHWC-NCHW": result}[form.layout]
    moved = cost.moved + 2 * converted * (deconv.batch or 1)
    return cost.macs + MOVED_WEIGHT * moved + CONV_WEIGHT * cost.convs


def _input(layer: Layer) -> Tensor:
    """Random numbers of the layer's input shape."""
    shape = (layer.deconv.batch or 1, layer.deconv.in_channels, *(size or 1 for size in layer.deconv.in_sizes))
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def displayed(form: Form) -> Candidate:
    """The candidate under which a form stands in tables, with its layout."""
    if form == Form(NATIVE, "NCHW"):
        return NATIVE
    return replace(form.candidate, layout=form.layout)


def _native_module(layer: Layer) -> nn.Module:
    """PyTorch's own deconv with random weights."""
    return _module(MODULES, layer).eval()


def _split_module(layer: Layer, form: Form, own: nn.Module) -> nn.Module:
    """Ours in one form, frozen, with the parameters of ``own``."""
    module = _module(SPLIT_MODULES, layer, device="meta").eval()
    module.weight, module.bias = own.weight, own.bias
    module.lowering = str(form)
    freeze_module(module)
    return module


def _module(classes: Sequence[type[nn.Module]], layer: Layer, **options: Any) -> Any:
    deconv = layer.deconv
    stride, padding, output_padding, groups, dilation = layer.geometry
    kernel = tuple(axis.kernel for axis in deconv.axes)
    return classes[len(kernel) - 1](
        deconv.in_channels,
        deconv.out_channels,
        kernel,
        stride,
        padding,
        output_padding,
        groups,
        deconv.has_bias,
        dilation,
        **options,
    )


def _cost(deconv: Deconv, form: Form) -> Cost:
    program = lower(deconv, form.program_layout, form.candidate)
    convs = sum(isinstance(step.op, Conv | NativeDeconv) for step in program.steps)
    return Cost(program.macs(), program.moved(), convs)
