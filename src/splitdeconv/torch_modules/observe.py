"""Which deconvs a module computes for its example inputs, and where."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that all PyTorch code uses
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from splitdeconv.torch_modules.arithmetic import Arithmetic
from splitdeconv.torch_modules.functions import Geometry, per_axis
from splitdeconv.torch_modules.layers import SeenLayer, layer_of
from splitdeconv.torch_modules.native import DECONVS

CONV_TRANSPOSE = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
DEFAULTS: dict[str, Any] = {
    "bias": None,
    "stride": 1,
    "padding": 0,
    "output_padding": 0,
    "groups": 1,
    "dilation": 1,
}


@dataclass(frozen=True, slots=True)
class Observation:
    """What one run showed.

    Attributes:
        layers: for each module (by name) the deconvs that its own ``forward`` computed.
        functional: the modules among them that are no ConvTranspose modules.
        in_shapes: for each module the shape of its first input, where that is a tensor.
        upsampled: the modules whose own ``forward`` computed a convolution right behind an upsampling that could be
            part of it: of nearest pixels by whole factors, or in front of a 1×1 convolution.
        around: for each module that computed a deconv, or a convolution behind an upsampling of nearest pixels, the
            arithmetic with constants around it.
    """

    layers: Mapping[str, tuple[SeenLayer, ...]] = field(default_factory=dict)
    functional: tuple[str, ...] = ()
    in_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    upsampled: tuple[str, ...] = ()
    around: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def observe(module: nn.Module, example_inputs: Sequence[Any]) -> Observation:
    """Run a copy of ``module`` in evaluation mode; ``module`` is not changed."""
    tried = copy_of(module)
    modules = dict(tried.named_modules())
    watch = _Watch(Arithmetic((*tried.parameters(), *tried.buffers())))
    for name, each in modules.items():
        if isinstance(each, torch.jit.ScriptModule):
            continue  # takes no such hooks, and calls nothing that they could see
        each.register_forward_pre_hook(watch.enter(name))
        each.register_forward_hook(watch.leave, always_call=True)
        each.training = False  # not eval(), which exported modules refuse
    with torch.no_grad(), watch:
        results = tried(*example_inputs)
    for each in tree_leaves(results):
        watch.arithmetic.read(each)
    functional = [name for name in watch.layers if not isinstance(modules[name], CONV_TRANSPOSE)]
    layers = {name: tuple(found) for name, found in watch.layers.items()}
    return Observation(layers, tuple(functional), watch.in_shapes, tuple(watch.upsampled), watch.arithmetic.around())


def copy_of(module: nn.Module) -> nn.Module:
    """A deep copy; also of modules that hold a computed weight, as the older weight_norm leaves behind."""
    memo: dict[int, Any] = {}
    for each in module.modules():
        for value in vars(each).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)


def call_arguments(args: Sequence[Any], kwargs: Mapping[str, Any], rank: int) -> tuple[Any, Any, Any, Geometry]:
    """Input, weight, bias and the numbers of a ``conv_transpose*`` call, which may name its arguments or not."""
    found = {**DEFAULTS, **dict(zip(ARGUMENTS, args, strict=False)), **kwargs}
    numbers = [per_axis(found[name], rank) for name in ("stride", "padding", "output_padding", "dilation")]
    stride, padding, output_padding, dilation = numbers
    groups = found["groups"]
    if not isinstance(groups, fx.Node):  # as it is where a batch of open size is folded into groups
        groups = int(groups)
    return found["input"], found["weight"], found["bias"], Geometry(stride, padding, output_padding, groups, dilation)


class _Watch(TorchFunctionMode):
    """Sees ``conv_transpose*`` calls, convolutions right behind an upsampling, and the modules that make them.

    Args:
        arithmetic: is told of all calls.
    """

    def __init__(self, arithmetic: Arithmetic) -> None:
        super().__init__()
        self.arithmetic = arithmetic
        self.layers: dict[str, list[SeenLayer]] = {}
        self.in_shapes: dict[str, tuple[int, ...]] = {}
        self.upsampled: dict[str, None] = {}
        self._enlarged = WeakIdKeyDictionary()  # what an upsampling made: whether it repeats each pixel
        self._inside: list[str] = []

    def enter(self, name: str) -> Callable[..., None]:
        """A hook that notes that the module's forward begins."""

        def entered(_: nn.Module, args: tuple[Any, ...]) -> None:
            self._inside.append(name)
            if args and isinstance(args[0], Tensor):
                self.in_shapes[name] = tuple(args[0].shape)

        return entered

    def leave(self, *_: Any) -> None:
        """A hook that notes that it ends."""
        self._inside.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Let the call pass, and remember it."""
        name = self._inside[-1] if self._inside else ""
        if func in DECONVS:
            x, weight, bias, geometry = call_arguments(args, kwargs or {}, DECONVS.index(func) + 1)
            self.layers.setdefault(name, []).append(layer_of(x.shape, weight, bias is not None, geometry))
        y = func(*args, **(kwargs or {}))
        self.arithmetic.call(func, args, kwargs or {}, y)
        if func in DECONVS:
            self.arithmetic.deconv(name, x, weight, y)
        if func is F.interpolate and args and args[0].dim() == y.dim():
            self._enlarge(args[0], y, str((kwargs or {}).get("mode", args[3] if len(args) > 3 else "nearest")))
        repeats = self._enlarged.get(args[0]) if func in CONVOLUTIONS and len(args) > 1 else None
        if repeats or (repeats is not None and max(args[1].shape[2:]) == 1):
            self.upsampled[name] = None
        if repeats:
            self.arithmetic.deconv(name, args[0], args[1], y)
        return y

    def _enlarge(self, x: Tensor, y: Tensor, mode: str) -> None:
        sizes = list(zip(x.shape[2:], y.shape[2:], strict=True))
        if x.numel() < y.numel() and all(before <= after for before, after in sizes):
            self._enlarged[y] = mode.startswith("nearest") and not any(after % before for before, after in sizes)
