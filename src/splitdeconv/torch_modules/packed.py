"""Convolutions whose filters oneDNN has laid out for itself beforehand: inference in float32 on the CPU.

PyTorch's convolutions bring a plain filter into oneDNN's own order in every call; on small maps that takes as long as
the arithmetic. ``torch.ops.mkldnn`` has the operators with which ``torch.compile`` avoids this when it freezes a model.
They know no gradients, and a packed filter is quick only for the input size and number of threads it was packed for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from splitdeconv.deconv.ops import Conv
from splitdeconv.torch_modules.axes import to_nchw, to_nhwc

OPERATORS = (
    "_reorder_convolution_weight",
    "_convolution_pointwise",
    "_reorder_convolution_transpose_weight",
    "_convolution_transpose_pointwise",
)
PAGE_BYTES = 4096  # channels that lie a multiple of it apart meet in the same places of the first-level cache
WIDE = ((4, torch.complex128), (2, torch.float64))  # how many float32 can be moved as one, and as what

Counts = tuple[int, ...]


def is_available() -> bool:
    """Whether this build of PyTorch has the operators, and oneDNN is not turned off."""
    return bool(
        torch.backends.mkldnn.is_available()
        and torch._C._get_mkldnn_enabled()
        and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    )


def can_pack(x: Tensor, parameters: Sequence[Tensor | None]) -> bool:
    """Whether a call may use packed filters: plain float32 tensors on the CPU, nothing recorded, traced or recast."""
    given = [x, *(tensor for tensor in parameters if tensor is not None)]
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack():
        return False
    if torch.autograd.forward_ad._current_level >= 0 or not _is_inference(given):
        return False
    return all(_is_plain(tensor) for tensor in given) and x.numel() > 0 and is_available()


def can_compile_packed(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a call that ``torch.compile`` sees may use filters that are packed already; exported files may not."""
    given = [tensor for tensor in tensors if tensor is not None]
    if torch.compiler.is_exporting() or not _is_inference(given):
        return False
    return all(tensor.device.type == "cpu" and tensor.dtype == torch.float32 for tensor in given)


def _is_inference(given: Sequence[Tensor]) -> bool:
    """Whether nothing is differentiated and nothing recast."""
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
    return not recorded and not bool(torch.is_autocast_enabled("cpu"))


def _is_plain(tensor: Tensor) -> bool:
    """Whether it is float32 in ordinary memory of the CPU, and no stand-in for another tensor."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or tensor.dtype != torch.float32:
        return False
    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided
    return plain and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def pack(conv: Conv, weight: Tensor, shape: Sequence[int]) -> Tensor:
    """The filter of ``conv`` in oneDNN's order, for inputs of ``shape``, ``(N, C, *sizes)``."""
    padding, (begin, end) = pads(conv)
    sizes = [sum(each) for each in zip(shape[2:], begin, end, strict=True)]
    if len(sizes) == 1:  # oneDNN's operators here start at two axes
        weight, sizes = weight.unsqueeze(2), [1, *sizes]
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        weight, *_numbers(conv, padding), conv.groups, [*shape[:2], *sizes]
    )
    return packed


def convolve(conv: Conv, x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of ``x`` ``(N, C, *sizes)``, its uneven pads around it; channels-last in memory."""
    flat = len(conv.kernel) == 1
    padding, strides, dilations = _numbers(conv, pads(conv)[0])
    y: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x.unsqueeze(2) if flat else x, packed, bias, padding, strides, dilations, conv.groups, "none", [], ""
    )
    return y.squeeze(2) if flat else y


def pads(conv: Conv) -> tuple[Counts, tuple[Counts, Counts]]:
    """The pads that PyTorch's convolutions take themselves, and those that must be put around the input before."""
    none = (0,) * len(conv.kernel)
    if conv.pad_begin == conv.pad_end:
        return conv.pad_begin, (none, none)
    return none, (conv.pad_begin, conv.pad_end)


def _numbers(conv: Conv, padding: Counts) -> tuple[list[int], list[int], list[int]]:
    """Padding, strides and dilations, for two axes at least."""
    flat = len(padding) == 1
    dilations = [1, *conv.dilations] if flat else [*conv.dilations]
    return [0, *padding] if flat else [*padding], [1] * len(dilations), dilations


def channels_last(x: Tensor) -> Tensor:
    """The same map, channels innermost in memory."""
    last = to_nhwc(x)
    if not x.is_contiguous() or last.is_contiguous() or not _is_blocked(x):
        return to_nchw(last.contiguous())
    batch, channels = x.shape[:2]
    y = torch.empty(last.shape, dtype=x.dtype)
    for source, copy in zip(x.view(batch, channels, -1), y.view(batch, -1, channels), strict=True):
        copy.copy_(source.t())  # PyTorch has a blocked kernel for the transpose of one matrix, and for no other
    return to_nchw(y)


def _is_blocked(x: Tensor) -> bool:
    """Whether a copy in blocks is quicker: the channels' elements of a pixel drive each other out of the cache."""
    return bool(x.stride(1) * x.element_size() % PAGE_BYTES == 0)


def contiguous(x: Tensor) -> Tensor:
    """A contiguous copy of ``x``; neighbours that stay neighbours are moved as one wide element."""
    if x.is_contiguous():
        return x
    (wide,) = as_wide(x)
    return wide.contiguous().view(x.dtype)


def as_wide(*views: Tensor) -> tuple[Tensor, ...]:
    """The same views of equal shape with several float32 as one element, where all of them allow it."""
    for count, wide in WIDE:
        if all(_fits(view, count) for view in views):
            return tuple(view.view(wide) for view in views)
    return views


def _fits(view: Tensor, count: int) -> bool:
    """Whether the last axis is made of runs of ``count`` neighbours."""
    outer = (*view.stride()[:-1], view.shape[-1], view.storage_offset())
    return view.dtype == torch.float32 and view.stride(-1) == 1 and all(step % count == 0 for step in outer)
