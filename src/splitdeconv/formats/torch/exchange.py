"""Deconv modules made into split modules, and modules of a single deconv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn
from torch.nn.utils import parametrize

from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array, Weights, example_values
from splitdeconv.deconv.written import beside_shape, whole_pads
from splitdeconv.errors import UsageError
from splitdeconv.lowerings import LOWERINGS
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.torch_modules.forms import LAYOUTS
from splitdeconv.torch_modules.functions import Geometry
from splitdeconv.torch_modules.interpret import Form, FormLayout, interpret
from splitdeconv.torch_modules.modules import (
    LazySplitConvTranspose1d,
    LazySplitConvTranspose2d,
    LazySplitConvTranspose3d,
    SplitConvTranspose1d,
    SplitConvTranspose2d,
    SplitConvTranspose3d,
)
from splitdeconv.torch_modules.observe import CONV_TRANSPOSE

SPLIT_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.ConvTranspose1d: SplitConvTranspose1d,
    nn.ConvTranspose2d: SplitConvTranspose2d,
    nn.ConvTranspose3d: SplitConvTranspose3d,
    nn.LazyConvTranspose1d: LazySplitConvTranspose1d,
    nn.LazyConvTranspose2d: LazySplitConvTranspose2d,
    nn.LazyConvTranspose3d: LazySplitConvTranspose3d,
}
CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def own_class(module: nn.Module) -> Any:
    """The module's class without what a parametrisation put on top of it."""
    return parametrize.type_before_parametrizations(module)


def change_class(module: nn.Module, wanted: type[nn.Module]) -> None:
    """Exchange the class of ``module``, below the one that a parametrisation made for it."""
    if not parametrize.is_parametrized(module):
        module.__class__ = wanted
        return
    made = type(module)
    body = {name: value for name, value in vars(made).items() if name not in ("__dict__", "__weakref__")}
    module.__class__ = type(f"Parametrized{wanted.__name__}", (wanted,), body)


def make_split(module: Any, lowering: str | None) -> None:
    """Let a deconv module be computed by ordinary convolutions."""
    change_class(module, SPLIT_OF[own_class(module)])
    module.lowering = lowering


def refuse_module(module: nn.Module) -> str | None:
    """Why a deconv module is left alone, or None."""
    found = own_class(module)
    if found in SPLIT_OF:
        return None
    (native,) = [each for each in CONV_TRANSPOSE if isinstance(module, each)]
    if found.forward is not native.forward:
        return f"{found.__name__} overrides forward, which may do anything: its own code stays"
    return f"{found.__name__} is a subclass of {native.__name__} of its own: its class cannot be exchanged"


def refuse_compiled(module: nn.Module) -> str | None:
    """Why a deconv is left alone that is no module of PyTorch's own any more; None where it is one, or no deconv."""
    if isinstance(module, torch.jit.ScriptModule):
        code = str(module.graph) if hasattr(module, "graph") else ""
        if "conv_transpose" in code or "ConvTranspose" in module.original_name:
            return "is compiled by torch.jit: convert the module before it is scripted or traced"
    elif type(module).__module__.startswith("torch.ao.nn") and "ConvTranspose" in type(module).__name__:
        return "is quantised in eager mode, which keeps its weight packed: quantise the graph (PT2E) instead"
    return None


def is_form(program: Program) -> bool:
    """Whether a split module can be told to compute ``program``: whether it is a lowering's."""
    return Candidate.parse(program.name).lowering in LOWERINGS


def form_of(program: Program) -> Form:
    """The form in which a lowering's program runs."""
    return Form(replace(Candidate.parse(program.name), layout=""), layout_of(program))


def layout_of(program: Program) -> FormLayout:
    """The layout in which a program works inside."""
    return next((each for each in LAYOUTS if program.name.endswith(f"@{each}")), program.layout)


class Interpreted(nn.Module):
    """A deconv module that computes a program of no lowering, such as a bound of what lowerings can reach."""

    def __init__(self, program: Program, weights: Weights) -> None:
        super().__init__()
        self.routine = interpret(program)
        bias = None if weights.bias is None else torch.from_numpy(weights.bias)
        self.filters = nn.ParameterList()
        self.present = []
        for each in self.routine.split(torch.from_numpy(weights.kernel), bias):
            self.present.append(each is not None)
            if each is not None:
                self.filters.append(nn.Parameter(each.contiguous(), requires_grad=False))

    def forward(self, x: Tensor) -> Tensor:
        """The program's result for ``x``, ``(N, C, *sizes)``."""
        given = iter(self.filters)
        return self.routine.apply(x, [next(given) if here else None for here in self.present]).contiguous()


def displayed(form: Form) -> Candidate:
    """The candidate as which a form stands in tables: with its layout, where that is not the model's own."""
    return replace(form.candidate, layout="" if form.layout == "NCHW" else form.layout)


def layer_module(deconv: Deconv) -> nn.Module:
    """PyTorch's own module of one deconv, in evaluation mode, with random weights.

    Raises:
        UsageError: pads that PyTorch's modules do not have.
    """
    numbers = call_numbers(deconv)
    kernel = tuple(axis.kernel for axis in deconv.axes)
    channels = deconv.in_channels, deconv.out_channels
    made = CONV_TRANSPOSE[len(kernel) - 1](
        *channels,
        kernel,
        numbers.stride,
        numbers.padding,
        numbers.output_padding,
        numbers.groups,
        deconv.has_bias,
        numbers.dilation,
    )
    module: nn.Module = made.eval()
    return module


class WrittenLayer(nn.Module):
    """A convolution of a stretched map as networks have it, with random weights.

    Args:
        deconv: written out; of definite sizes.
    """

    def __init__(self, deconv: Deconv) -> None:
        super().__init__()
        written = deconv.written_out
        assert written is not None, "asked of written-out deconvs only"
        self.stretch, self.factors = written.stretch, deconv.strides
        pads = whole_pads(deconv)
        by_conv = written.stretch == "repeat" and all(begin == end >= 0 for begin, end in pads)
        self.around = () if by_conv else tuple(count for pair in reversed(pads) for count in pair)
        own = [begin if by_conv else 0 for begin, _ in pads]
        conv, channels = CONV[len(pads) - 1], (deconv.in_channels + written.beside, deconv.out_channels)
        self.conv = conv(*channels, written.kernel, 1, own, written.dilations, deconv.groups, deconv.has_bias)

    def forward(self, x: Tensor, *beside: Tensor) -> Tensor:
        """``(N, C, *sizes)`` stretched, with zeros and pads as StyleGAN2's ``upfirdn2d`` has them, and convolved."""
        if self.stretch == "repeat":
            x = F.interpolate(x, scale_factor=[float(factor) for factor in self.factors], mode="nearest")
        else:
            outer, sizes = x.shape[:2], x.shape[2:]
            apart = [count for size in sizes for count in (size, 1)]
            behind = [count for factor in reversed(self.factors) for count in (0, factor - 1, 0, 0)]
            whole = [size * factor for size, factor in zip(sizes, self.factors, strict=True)]
            x = F.pad(x.reshape(*outer, *apart), behind).reshape(*outer, *whole)
        x = torch.cat([x, *beside], 1) if beside else x
        y: Tensor = self.conv(F.pad(x, self.around) if self.around else x)
        return y


def call_numbers(deconv: Deconv) -> Geometry:
    """The numeric arguments with which PyTorch computes ``deconv``.

    Raises:
        UsageError: it has none for these pads.
    """
    axes = deconv.axes
    ends = tuple(axis.output_pad + axis.pad_begin - axis.pad_end for axis in axes)
    if not all(_is_possible(axis, end) for axis, end in zip(axes, ends, strict=True)):
        raise UsageError(f"{deconv.describe()}: torch.nn.ConvTranspose has no such pads")
    pads = tuple(axis.pad_begin for axis in axes)
    return Geometry(deconv.strides, pads, ends, deconv.groups, tuple(axis.dilation for axis in axes))


def _is_possible(axis: Axis, output_pad: int) -> bool:
    return axis.pad_begin >= 0 and 0 <= output_pad < max(axis.stride, axis.dilation)


def examples_of(deconv: Deconv) -> tuple[Tensor, ...]:
    """Random numbers of the layer's input shape, and of the map's beside a stretched one."""
    shapes = [(deconv.batch, deconv.in_channels, *deconv.in_sizes)]
    if deconv.written_out and deconv.written_out.beside:
        shapes.append(beside_shape(deconv, "NCHW"))
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn([size or 1 for size in shape], generator=generator) for shape in shapes)


def set_weights(module: Any, weights: Weights) -> None:
    """Give a module of :func:`layer_module` its values."""
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(weights.kernel))
        if weights.bias is not None:
            module.bias.copy_(torch.from_numpy(weights.bias))


def weights_of(deconv: Deconv, parameters: Sequence[Tensor | None]) -> Weights:
    """The values of a weight and a bias as float32; random ones where a tensor holds none yet, or none of its own."""
    weight, bias = parameters
    return Weights(
        _values(weight, deconv.weights_shape), None if not deconv.has_bias else _values(bias, (deconv.out_channels,))
    )


def _values(tensor: Tensor | None, shape: tuple[int, ...]) -> Array:
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor is not None and tensor.device.type != "meta"
    if tensor is not None and plain and tuple(tensor.shape) == shape:
        values: Array = tensor.detach().to("cpu", torch.float32).numpy()
        return values
    return example_values(shape)
