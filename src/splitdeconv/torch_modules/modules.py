"""Modules that stand in for ``torch.nn.ConvTranspose{1,2,3}d``.

They *are* such modules: subclasses with the same constructor, the same parameters and the same state dict. Only the
computation differs. The original parameter stays the one that is trained, saved, decayed, averaged and parametrised;
the filters of the convolutions are split from it when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from splitdeconv.torch_modules.cache import Frozen, KeptFilters, Packed, can_keep, keep
from splitdeconv.torch_modules.flat import positional
from splitdeconv.torch_modules.functions import (
    BY_RULE,
    Geometry,
    apply_split,
    inference_lowering,
    is_channels_last,
    plan,
    weight_shape,
)
from splitdeconv.torch_modules.native import DECONVS
from splitdeconv.torch_modules.packed import can_compile_packed, can_pack

NATIVE_FORM = "native@NCHW"
FILTERS = "_split_filter"  # name of the buffers of a frozen module, followed by a number


class KeepsFilters:
    """A module that keeps split filters in evaluation mode, see :mod:`splitdeconv.torch_modules.cache`.

    Attributes:
        lowering: a lowering by name (``split_rows``, ``split:crop``, ``split_phases@NHWC``), or None for the default
            rule. See :func:`splitdeconv.torch_modules.forms.find_form`.
    """

    lowering: str | None = None
    _kept: KeptFilters | None = None
    _frozen: Frozen | None = None
    _packed: Packed | None = None

    def _deconvolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        module, frozen = _module(self), self._frozen
        if module.training or x.dim() < weight.dim() - 1 or not weight.numel():
            return apply_split(x, weight, bias, (), geometry, self.lowering)
        if torch.compiler.is_dynamo_compiling():
            return self._deconvolve_compiled(x, weight, bias, geometry)
        last = is_channels_last(x) or is_channels_last(weight)
        lowering, packs = self.lowering, can_pack(x, (weight, bias))
        if lowering is None and packs:
            lowering = inference_lowering(weight_shape(weight), bias is not None, geometry, last)
            if lowering == NATIVE_FORM:
                return DECONVS[len(geometry.stride) - 1](x, weight, bias, *geometry)
        if frozen is not None:
            if lowering != frozen.lowering.replace("@NCHW", "@NHWC-NCHW"):  # whose filters are the same
                lowering = frozen.lowering
            filters, packed = self._frozen_filters(frozen, x, geometry, lowering)
            return apply_split(x, weight, bias, filters, geometry, lowering, packed)
        if not can_keep((weight, bias)):
            return apply_split(x, weight, bias, (), geometry, self.lowering)
        # the filters do not depend on the output pad, so calls with different output sizes share them
        unpadded = geometry._replace(output_padding=(0,) * len(geometry.stride))
        form, found = plan(weight_shape(weight), bias is not None, unpadded, lowering, last)
        packed_for = _in_shape(x, len(geometry.stride)) if packs and found.pack is not None else ()
        if self._kept is None or not self._kept.serve(found, (weight, bias), packed_for):
            self._kept = keep(found, weight, bias, packed_for)
        return apply_split(x, weight, bias, self._kept.filters, geometry, str(form), bool(packed_for))

    def _deconvolve_compiled(self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
        """The call as ``torch.compile`` and ``torch.export`` see it: nothing is kept, and what is packed is used."""
        frozen, packed = self._frozen, self._packed
        if frozen is None:
            by_rule = self.lowering is None and can_compile_packed((x, weight, bias))
            return apply_split(x, weight, bias, (), geometry, BY_RULE if by_rule else self.lowering)
        inference = can_compile_packed((x,))
        if inference and self.lowering is None and frozen.by_rule == NATIVE_FORM:
            return DECONVS[len(geometry.stride) - 1](x, weight, bias, *geometry)
        if inference and packed is not None and packed.in_shape == _in_shape(x, len(geometry.stride)):
            return apply_split(x, weight, bias, packed.filters, geometry, packed.lowering, packed=True)
        return apply_split(x, weight, bias, self._held_filters(frozen), geometry, frozen.lowering)

    def _frozen_filters(
        self, frozen: Frozen, x: Tensor, geometry: Geometry, lowering: str
    ) -> tuple[Sequence[Tensor | None], bool]:
        """The buffers, or the same in oneDNN's order where this call may use it; and which of the two."""
        buffers, packed = self._held_filters(frozen), self._packed
        if not can_pack(x, buffers):
            return buffers, False
        in_shape, threads = _in_shape(x, len(geometry.stride)), torch.get_num_threads()
        if packed is None or (packed.in_shape, packed.threads, packed.lowering) != (in_shape, threads, lowering):
            _, found = plan(*frozen.parameters, geometry, lowering, channels_last=False)
            if found.pack is None:
                return buffers, False
            with torch.inference_mode(mode=False), torch.no_grad():
                packed = self._packed = Packed(in_shape, threads, lowering, found.pack(buffers, in_shape))
        return packed.filters, True

    def _held_filters(self, frozen: Frozen) -> tuple[Tensor | None, ...]:
        module = _module(self)
        return tuple(getattr(module, f"{FILTERS}{n}") if here else None for n, here in enumerate(frozen.present))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Load the parameters; filters are split from them, and not loaded."""
        thaw_module(_module(self))
        own = {name: value for name, value in state_dict.items() if not name.startswith(prefix + FILTERS)}
        super()._load_from_state_dict(own, prefix, *args)  # type: ignore[misc]  # of nn.Module

    def __getstate__(self) -> Mapping[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_kept", "_packed")}


class SplitConvTranspose(KeepsFilters):
    """What the modules of all ranks share."""

    def __init__(self, *args: Any, lowering: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lowering = lowering
        if lowering is not None and not is_uninitialised(_module(self)):
            _check_lowering(_module(self))

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: A002  # torch's own name
        """The deconv of ``input``, ``(N, in_channels, *sizes)`` or without ``N``.

        Args:
            input: as ``torch.nn.ConvTranspose*`` takes it.
            output_size: wanted output size, which decides the output pad as in PyTorch.
        """
        module = _module(self)
        output_padding = module._output_padding(
            input,
            output_size,
            module.stride,
            module.padding,
            module.kernel_size,
            len(module.kernel_size),
            module.dilation,
        )
        geometry = geometry_of(module, tuple(int(pad) for pad in output_padding))
        return self._deconvolve(input, module.weight, module.bias, geometry)

    def train(self, mode: bool = True) -> Any:
        """As in PyTorch. Filters that were kept are forgotten; training also ends what :func:`freeze` began."""
        self._kept = None
        if mode:
            thaw_module(_module(self))
        return super().train(mode)  # type: ignore[misc]  # of nn.Module

    def extra_repr(self) -> str:
        """The constructor's arguments, as PyTorch prints them, and the lowering where one was named."""
        text = str(super().extra_repr())  # type: ignore[misc]  # of nn.Module
        return text if self.lowering is None else f"{text}, lowering='{self.lowering}'"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self._kept = None
        super()._apply(fn, recurse)  # type: ignore[misc]  # of nn.Module
        if self._frozen is not None:
            freeze_module(_module(self))  # the layout follows the parameter's memory format
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        frozen = self._frozen is not None
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._kept = None
        if frozen:
            freeze_module(_module(self))


class SplitConvTranspose1d(SplitConvTranspose, nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` by ordinary convolutions.

    Args:
        lowering: see :class:`SplitConvTranspose`; all other arguments as in PyTorch.
    """


class SplitConvTranspose2d(SplitConvTranspose, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` by ordinary convolutions; arguments as :class:`SplitConvTranspose1d`."""


class SplitConvTranspose3d(SplitConvTranspose, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` by ordinary convolutions; arguments as :class:`SplitConvTranspose1d`."""


class SplitCall(KeepsFilters, nn.Module):
    """A functional ``conv_transpose*`` call of a graph; the parameters come as inputs.

    Args:
        geometry: numeric arguments of the call.
        lowering: see :class:`KeepsFilters`.
    """

    def __init__(self, geometry: Geometry, lowering: str | None) -> None:
        super().__init__()
        self.geometry = geometry
        self.lowering = lowering

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """The deconv of ``x``; shapes as in :func:`splitdeconv.torch.split_conv_transpose2d`."""
        return self._deconvolve(x, weight, bias, self.geometry)

    def extra_repr(self) -> str:
        """The call's arguments."""
        return f"{self.geometry}, lowering={self.lowering!r}"


class LazySplitConvTranspose1d(SplitConvTranspose, nn.LazyConvTranspose1d):
    """As :class:`SplitConvTranspose1d`; ``in_channels`` comes from the first input."""

    cls_to_become = SplitConvTranspose1d


class LazySplitConvTranspose2d(SplitConvTranspose, nn.LazyConvTranspose2d):
    """As :class:`SplitConvTranspose2d`; ``in_channels`` comes from the first input."""

    cls_to_become = SplitConvTranspose2d


class LazySplitConvTranspose3d(SplitConvTranspose, nn.LazyConvTranspose3d):
    """As :class:`SplitConvTranspose3d`; ``in_channels`` comes from the first input."""

    cls_to_become = SplitConvTranspose3d


def freeze(module: nn.Module, example_inputs: Sequence[Any] | Tensor | None = None) -> nn.Module:
    """Split all filters of ``module`` once and keep them as buffers, for inference, export and CUDA graphs.

    In evaluation mode the split modules in ``module`` then use these buffers alone: a compiled or exported graph holds
    the filters as constants and no work on the parameters. The buffers are contiguous and persistent, as exporters want
    them: they move and change type with the module, and are in its state dict while it is frozen. Loading a state dict
    splits anew, whether it has them or not. Changing a parameter in place while the module is frozen does not: call
    ``freeze`` again. ``module.train()`` or :func:`thaw` ends it.

    Args:
        module: with split modules or calls in it.
        example_inputs: a tensor, or several positional inputs, with which the frozen module is run once. On the CPU, in
            float32, the filters are then packed for inputs of these sizes, and code that is compiled for these sizes
            uses that.

    Returns:
        ``module`` itself, in evaluation mode.
    """
    with suppress(NotImplementedError):  # exported modules have no modes
        module.eval()
    for each in module.modules():
        if isinstance(each, SplitConvTranspose) and not is_uninitialised(_module(each)):
            freeze_module(_module(each))
        elif isinstance(each, fx.GraphModule):
            _freeze_calls(each)
    if example_inputs is not None:
        with torch.no_grad():
            module(*positional(example_inputs))
    return module


def thaw(module: nn.Module) -> nn.Module:
    """Undo :func:`freeze`; returns ``module`` itself."""
    for each in module.modules():
        if isinstance(each, KeepsFilters):
            thaw_module(_module(each))
    return module


def freeze_module(module: Any) -> None:
    """Make the buffers of one split module."""
    _refresh_weight(module)
    _freeze(module, module.weight, module.bias, geometry_of(module, module.output_padding))


def _freeze_calls(module: fx.GraphModule) -> None:
    """Make the buffers of the calls in a graph whose parameters are stored in it."""
    for node in module.graph.nodes:
        split = module.get_submodule(node.target) if node.op == "call_module" else None
        parameters = node.args[1:]
        if isinstance(split, SplitCall) and all(each is None or each.op == "get_attr" for each in parameters):
            weight, bias = (None if each is None else attrgetter(each.target)(module) for each in parameters)
            _freeze(split, weight, bias, split.geometry)


def _freeze(module: Any, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> None:
    thaw_module(module)
    form, found = plan(weight_shape(weight), bias is not None, geometry, module.lowering, is_channels_last(weight))
    with torch.inference_mode(mode=False), torch.no_grad():
        filters = found.split(weight, bias)
        for number, tensor in enumerate(filters):
            if tensor is not None:
                made = tensor.detach().clone(memory_format=torch.contiguous_format)
                module.register_buffer(f"{FILTERS}{number}", made)
    parameters = weight_shape(weight), bias is not None
    by_rule = inference_lowering(*parameters, geometry, is_channels_last(weight))
    module._frozen = Frozen(str(form), tuple(tensor is not None for tensor in filters), parameters, by_rule)


def thaw_module(module: Any) -> None:
    """Drop the buffers of one split module."""
    if module._frozen is None:
        return
    for number, here in enumerate(module._frozen.present):
        if here:
            delattr(module, f"{FILTERS}{number}")
    module._frozen = module._packed = None


def _refresh_weight(module: Any) -> None:
    """Let the hooks of the older weight_norm and spectral_norm compute the weight, as they do before each forward."""
    for hook in module._forward_pre_hooks.values():  # there is no public way to ask for them
        if isinstance(hook, WeightNorm | SpectralNorm):
            hook(module, None)


def _check_lowering(module: Any) -> None:
    """Raise what :func:`find_form` raises for a lowering that the module cannot have."""
    geometry = geometry_of(module, module.output_padding)
    plan(weight_shape(module.weight), module.bias is not None, geometry, module.lowering, channels_last=False)


def geometry_of(module: Any, output_padding: tuple[int, ...]) -> Geometry:
    """The numeric arguments of a module."""
    return Geometry(module.stride, module.padding, output_padding, module.groups, module.dilation)


def is_uninitialised(module: Any) -> bool:
    """Whether a lazy module has not seen an input yet."""
    return any(isinstance(each, nn.parameter.UninitializedTensorMixin) for each in (module.weight, module.bias))


def _in_shape(x: Tensor, rank: int) -> tuple[int, ...]:
    """``(N, C, *sizes)`` of an input that may lack ``N``."""
    return tuple(x.shape) if x.dim() == rank + 2 else (1, *x.shape)


def _module(split: KeepsFilters) -> Any:
    """The same object, as the module that it also is."""
    return cast("Any", split)
