"""Arithmetic with constants around a module's deconvs, as a run shows it: what folding would put into their weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name that all PyTorch code uses
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

_SCALES = ("mul", "div")  # what goes into weights from in front of them, whatever the borders are
_NAMES = {
    **dict.fromkeys(["add", "__add__", "__radd__"], "add"),
    **dict.fromkeys(["sub", "subtract", "__sub__", "__rsub__", "rsub"], "sub"),
    **dict.fromkeys(["mul", "multiply", "__mul__", "__rmul__"], "mul"),
    **dict.fromkeys(["div", "divide", "true_divide", "__truediv__"], "div"),
}


def is_channel_wise(shape: Sequence[int], channels: int, rank: int) -> bool:
    """Whether a tensor of ``shape`` has one number, or one for each channel of a map with ``rank`` spatial axes."""
    axis, count = len(shape) - rank - 1, math.prod(shape)
    return count == 1 or (axis in (0, 1) and count == channels == shape[axis])


@dataclass(eq=False, slots=True)
class _Made:
    """A map that a deconv made, or a step of arithmetic with a constant.

    Attributes:
        name: of the operator; empty of a deconv.
        source: the map that was read, if it is one of these.
        constant: shape of the constant; empty of a single number, None of a batch norm, which always fits.
        shape: of the map.
        readers: what read it; None for what is no such step.
    """

    name: str
    source: _Made | None
    constant: tuple[int, ...] | None
    shape: tuple[int, ...]
    readers: list[_Made | None] = field(default_factory=list)

    def fits(self, rank: int) -> bool:
        """Whether it is arithmetic of channels, of a map with ``rank`` spatial axes."""
        if self.constant is None:
            return True
        return len(self.shape) > rank and is_channel_wise(self.constant, self.shape[-rank - 1], rank)


@dataclass(frozen=True, slots=True)
class _Deconv:
    """One call: its module, the number of its spatial axes, the maps in front and behind."""

    name: str
    rank: int
    front: _Made | None
    behind: _Made


class Arithmetic:
    """Is told of every call of a run.

    Args:
        constants: parameters and buffers of the module.
    """

    def __init__(self, constants: Iterable[Tensor]) -> None:
        self._fixed, self._made = WeakIdKeyDictionary(), WeakIdKeyDictionary()
        self._deconvs: list[_Deconv] = []
        for each in constants:
            self._fixed[each] = True

    def deconv(self, name: str, x: Tensor, weight: Tensor, y: Tensor) -> None:
        """The module ``name`` has computed a deconv; told behind :meth:`call`. Only float32 is folded."""
        if weight in self._fixed and weight.dtype == torch.float32:
            self._made[y] = _Made("", None, None, tuple(y.shape))
            self._deconvs.append(_Deconv(name, weight.dim() - 2, self._made.get(x), self._made[y]))

    def call(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        """Some function has been called."""
        read = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        results = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        if read and all(each in self._fixed for each in read):
            for each in results:
                self._fixed[each] = True
            return
        step = self._step(func, args, kwargs, result)
        for each in read if results else ():
            self.read(each, step)
        if step is not None:
            self._made[result] = step

    def read(self, value: Any, by: _Made | None = None) -> None:
        """``value`` is read; without ``by`` by something else than arithmetic, such as the module's caller."""
        if isinstance(value, Tensor) and value in self._made:
            self._made[value].readers.append(by)

    def _step(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], y: Any) -> _Made | None:
        """The arithmetic with a constant that a call is, or None."""
        if func is F.batch_norm:
            return None if _is_training(args, kwargs) else _Made("batch_norm", self._made.get(args[0]), None, ())
        name = _NAMES.get(getattr(func, "__name__", ""))
        if name is None or kwargs or len(args) != 2:
            return None
        constant, x = args if self._is_constant(args[0]) else args[::-1]
        if not self._is_constant(constant) or (name == "div" and constant is args[0]):
            return None
        if x.shape != y.shape or x.dtype != y.dtype:
            return None
        shape = tuple(constant.shape) if isinstance(constant, Tensor) else ()
        return _Made(name, self._made.get(x), shape, tuple(x.shape))

    def _is_constant(self, value: Any) -> bool:
        if isinstance(value, Tensor):
            return value in self._fixed
        return isinstance(value, int | float) and not isinstance(value, bool)

    def around(self) -> dict[str, tuple[str, ...]]:
        """The operators around the deconvs of each module, in order; those between two belong to the first."""
        found: dict[str, tuple[str, ...]] = {}
        taken: set[_Made] = set()
        for deconv in self._deconvs:
            front, behind = _in_front(deconv, taken), _behind(deconv)
            taken.update(behind)
            if names := tuple(each.name for each in (*front, *behind)):
                found.setdefault(deconv.name, names)
        return found


def _behind(deconv: _Deconv) -> list[_Made]:
    found, last = list[_Made](), deconv.behind
    while len(last.readers) == 1 and (step := last.readers[0]) is not None and step.fits(deconv.rank):
        found.append(step)
        last = step
    return found


def _in_front(deconv: _Deconv, taken: set[_Made]) -> list[_Made]:
    found, first = list[_Made](), deconv.front
    while first is not None and first.name in _SCALES and first.fits(deconv.rank) and len(first.readers) == 1:
        if first in taken:
            break
        found.insert(0, first)
        first = first.source
    return found


def _is_training(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call of ``F.batch_norm`` takes its mean and variance from its map."""
    return bool(kwargs.get("training", args[5] if len(args) > 5 else False))
