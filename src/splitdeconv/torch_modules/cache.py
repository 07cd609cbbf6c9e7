"""Split filters that are kept in evaluation mode, and how they are known to be out of date."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splitdeconv.torch_modules.interpret import Filters, Routine


@dataclass(frozen=True, slots=True, eq=False)
class Mark:
    """The state of a tensor at one time.

    An in-place change raises the version; ``tensor.data = …`` does not, but changes the memory, which ``held`` keeps
    from being used again. Only a write *into* ``tensor.data`` leaves no trace, as everywhere in PyTorch.
    """

    tensor: weakref.ref[Tensor]
    version: int
    held: Tensor

    def is_current(self, tensor: Tensor) -> bool:
        """Whether ``tensor`` is the same object, with the same memory, type and values as then."""
        held = self.held
        same: bool = self.tensor() is tensor
        return same and bool(
            tensor._version == self.version  # as torch.autograd.graph documents it
            and tensor.data_ptr() == held.data_ptr()
            and tensor.dtype == held.dtype
            and tensor.device == held.device
            and tensor.stride() == held.stride()
        )


@dataclass(frozen=True, slots=True, eq=False)
class KeptFilters:
    """Split filters and what they were split from.

    Attributes:
        routine: that split them.
        marks: of the parameters.
        packed_for: the input shape that they were packed for, or empty where they are not.
        threads: PyTorch's number of worker threads then; oneDNN's order depends on it.
        filters: what the routine applies.
    """

    routine: Routine
    marks: tuple[Mark | None, ...]
    packed_for: tuple[int, ...]
    threads: int
    filters: Filters

    def serve(self, routine: Routine, parameters: Sequence[Tensor | None], packed_for: tuple[int, ...]) -> bool:
        """Whether these filters are what ``routine`` would split from ``parameters`` now, and packed as wanted."""
        if packed_for and self.threads != torch.get_num_threads():
            return False
        return (self.routine, self.packed_for) == (routine, packed_for) and all(
            mark is None if tensor is None else mark is not None and mark.is_current(tensor)
            for mark, tensor in zip(self.marks, parameters, strict=True)
        )


def keep(routine: Routine, weight: Tensor, bias: Tensor | None, packed_for: tuple[int, ...] = ()) -> KeptFilters:
    """The filters of ``routine``, usable under any gradient mode; those that are packed, where none is recorded."""
    with torch.inference_mode(mode=False), torch.no_grad():
        filters = tuple(None if tensor is None else tensor.detach() for tensor in routine.split(weight, bias))
        if packed_for and routine.pack is not None:
            filters = routine.pack(filters, packed_for)
        marks = tuple(None if tensor is None else _mark(tensor) for tensor in (weight, bias))
    return KeptFilters(routine, marks, packed_for, torch.get_num_threads(), filters)


def can_keep(parameters: Sequence[Tensor | None]) -> bool:
    """Whether filters split from these tensors may outlive the call.

    Not while a graph is recorded or traced, not where gradients must reach the parameters, and not for tensors that
    stand for others (``vmap``, ``functional_call`` with transformed tensors, fake tensors) or that keep no version.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    present = [tensor for tensor in parameters if tensor is not None]
    if not all(_is_plain(tensor) for tensor in present):
        return False
    return not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in present))


def _is_plain(tensor: Tensor) -> bool:
    """Whether the tensor holds its own values in memory and counts their versions."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_inference():
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def _mark(tensor: Tensor) -> Mark:
    return Mark(weakref.ref(tensor), tensor._version, tensor.detach())


@dataclass(frozen=True, slots=True)
class Frozen:
    """What a frozen module's buffers hold: the filters of one form.

    Attributes:
        lowering: with which the module was frozen, layout included.
        present: which of the routine's tensors there are; the others are None.
        parameters: shape of the weight, and whether there is a bias.
        by_rule: what the rule for inference takes, for modules that name no lowering.
    """

    lowering: str
    present: tuple[bool, ...]
    parameters: tuple[tuple[int, ...], bool]
    by_rule: str


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """The buffers of a frozen module in oneDNN's order.

    Attributes:
        in_shape: for which they were packed, ``(N, C, *sizes)``.
        threads: PyTorch's number of worker threads then; compiled code does not ask for it.
        lowering: the form that uses them.
        filters: what the routine applies.
    """

    in_shape: tuple[int, ...]
    threads: int
    lowering: str
    filters: Filters
