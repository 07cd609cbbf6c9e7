"""From a ConvTranspose node's attributes to axes: every attribute and every version of the operator.

Source: ONNX operators ConvTranspose-1, -11 and -22. Version 1's text gives the odd pad of ``output_shape`` to the
other side than version 11's; runtimes use version 11's rule for all versions, and so does this.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from splitdeconv.errors import InputError
from splitdeconv.ops import Size
from splitdeconv.spec import Axis

_PARAMETER = "attribute '{}' is a parameter of the function, so it differs from call to call"


class RunTimeGeometryError(Exception):
    """The geometry is only known at run time; the message is the reason for skipping the node."""


def ints(node: ir.Node, name: str) -> list[int] | None:
    """A list attribute, or None where it is absent or empty."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return None
    if attribute.is_ref():
        raise RunTimeGeometryError(_PARAMETER.format(name))
    return [int(each) for each in attribute.as_ints()] or None


def text(node: ir.Node, name: str, default: str) -> str:
    """A string attribute."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    if attribute.is_ref():
        raise RunTimeGeometryError(_PARAMETER.format(name))
    return attribute.as_string() or default


def number(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    attribute = node.attributes.get(name)
    if attribute is None:
        return default
    if attribute.is_ref():
        raise RunTimeGeometryError(_PARAMETER.format(name))
    return attribute.as_int()


def read_axes(site: str, node: ir.Node, kernel: Sequence[int], in_sizes: Sequence[Size]) -> tuple[Axis, ...]:
    """The axes of a ConvTranspose node.

    Args:
        site: for messages.
        node: ConvTranspose.
        kernel: spatial sizes of its weight.
        in_sizes: spatial sizes of its input, None where unknown.

    Raises:
        InputError: attributes that contradict each other, the weight or the input.
        RunTimeGeometryError: the pads depend on a size that is unknown.
    """
    rank = len(kernel)
    stated = ints(node, "kernel_shape") or list(kernel)
    if stated != list(kernel):
        raise InputError(f"site '{site}': kernel_shape is {stated}, but the weight's kernel is {list(kernel)}")
    strides = _per_axis(site, node, "strides", rank, 1)
    dilations = _per_axis(site, node, "dilations", rank, 1)
    output_pads = _per_axis(site, node, "output_padding", rank, 0)
    shapes = _output_shape(site, node, rank)
    automatic = text(node, "auto_pad", "NOTSET")
    pads = ints(node, "pads") or [0] * (2 * rank)
    if len(pads) != 2 * rank or min(pads) < 0:
        raise InputError(f"site '{site}': pads is {pads}, wanted {2 * rank} numbers that are at least 0")
    if automatic not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise InputError(f"site '{site}': auto_pad is '{automatic}', wanted NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    axes = []
    for index in range(rank):
        try:
            plain = Axis(kernel[index], strides[index], dilations[index], 0, 0, output_pads[index])
            begin, end = _pads(plain, automatic, in_sizes[index], shapes[index], (pads[index], pads[rank + index]))
            axes.append(Axis(plain.kernel, plain.stride, plain.dilation, begin, end, plain.output_pad, in_sizes[index]))
        except ValueError as error:
            raise InputError(f"site '{site}', spatial axis {index}: {error}") from None
    return tuple(axes)


def _per_axis(site: str, node: ir.Node, name: str, rank: int, default: int) -> list[int]:
    found = ints(node, name) or [default] * rank
    if len(found) != rank:
        raise InputError(f"site '{site}': {name} has {len(found)} numbers, wanted {rank}, one for each spatial axis")
    if min(found) < default:
        raise InputError(f"site '{site}': {name} is {found}, wanted numbers that are at least {default}")
    return found


def _output_shape(site: str, node: ir.Node, rank: int) -> list[Size]:
    """The ``output_shape`` attribute's spatial sizes; some exporters put batch and channels before them."""
    found = ints(node, "output_shape")
    if found is None:
        return [None] * rank
    if len(found) not in (rank, rank + 2):
        raise InputError(
            f"site '{site}': output_shape has {len(found)} numbers, wanted {rank}, one for each spatial axis"
        )
    return list(found[-rank:])


def _pads(plain: Axis, automatic: str, in_size: Size, out_size: Size, explicit: tuple[int, int]) -> tuple[int, int]:
    """Pads of one axis; ``plain`` is the axis without any."""
    if out_size is not None:
        if in_size is None:
            raise RunTimeGeometryError(
                "output_shape is fixed while the input size is not known, so neither are the pads"
            )
        total = plain.out_size_of(in_size) - out_size
        if total <= -plain.stride:
            longest = plain.out_size_of(in_size) + plain.stride - 1
            raise ValueError(f"output_shape is {out_size}, which this input reaches only up to {longest}")
        return (0, total) if total < 0 else _halves(total, automatic)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        # Runtimes and ONNX's shape inference leave the output short rather than pad it where the kernel is too small.
        return _halves(max(0, plain.tail - plain.stride), automatic)
    return (0, 0) if automatic == "VALID" else explicit


def _halves(total: int, automatic: str) -> tuple[int, int]:
    """Both pads; the odd one goes to the end for SAME_UPPER, else to the begin."""
    small, large = total // 2, total - total // 2
    return (small, large) if automatic == "SAME_UPPER" else (large, small)
