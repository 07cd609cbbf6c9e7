"""From the attributes of ConvTranspose and Conv to axes: every attribute and every version of the operators.

Source: ONNX operators ConvTranspose-1, -11 and -22. Version 1's text gives the odd pad of ``output_shape`` to the
other side than version 11's; runtimes use version 11's rule for all versions, and so does this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from splitdeconv.deconv.layers import ConvAxis
from splitdeconv.deconv.ops import Size
from splitdeconv.deconv.spec import Axis
from splitdeconv.formats.onnx.graph import is_standard

Attributes = Mapping[str, Any]

_TYPES = {
    "auto_pad": ir.AttributeType.STRING,
    "dilations": ir.AttributeType.INTS,
    "group": ir.AttributeType.INT,
    "kernel_shape": ir.AttributeType.INTS,
    "output_padding": ir.AttributeType.INTS,
    "output_shape": ir.AttributeType.INTS,
    "pads": ir.AttributeType.INTS,
    "strides": ir.AttributeType.INTS,
}
_AUTOMATIC = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


class RunTimeGeometryError(Exception):
    """The geometry is only known at run time; the message is the reason for skipping the node."""


class ContradictionError(Exception):
    """The node contradicts itself or its input; the message is the reason for skipping it."""


def read_attributes(node: ir.Node) -> Attributes:
    """All attributes as plain values.

    Raises:
        ValueError: one of them is not of its type.
        RunTimeGeometryError: one of them is a parameter of the function that holds the node.
    """
    for attribute in node.attributes.values():
        wanted = _TYPES.get(attribute.name, attribute.type)
        if attribute.type != wanted:
            raise ValueError(f"{attribute.name} has type {attribute.type.name}, wanted {wanted.name}")
        if attribute.is_ref():
            parameter = f"attribute '{attribute.name}' is a parameter of the function"
            raise RunTimeGeometryError(f"{parameter}, so it differs from call to call")
    return {attribute.name: attribute.value for attribute in node.attributes.values()}


def stated_integers(node: ir.Node, name: str) -> Sequence[int]:
    """An attribute of whole numbers, as far as the node itself states it."""
    found = node.attributes.get(name)
    return () if found is None or found.is_ref() else found.as_ints()


def has_other_sizes(node: ir.Node) -> bool:
    """Whether runtimes make other sizes of a ConvTranspose than inference: of SAME with output_padding."""
    found = node.attributes.get("auto_pad") if is_standard(node, "ConvTranspose") else None
    same = found is not None and str(found.value).startswith("SAME")
    return same and any(stated_integers(node, "output_padding")) and not stated_integers(node, "output_shape")


def axes_from(attributes: Attributes, kernel: Sequence[int], in_sizes: Sequence[Size]) -> tuple[Axis, ...]:
    """The axes of a ConvTranspose.

    Args:
        attributes: by name; missing, None and empty ones have their defaults.
        kernel: spatial sizes of its weight.
        in_sizes: spatial sizes of its input, None where unknown.

    Raises:
        ValueError: attributes that contradict each other, the weight or the input.
        RunTimeGeometryError: the pads depend on a size that is unknown.
    """
    rank = len(kernel)
    stated = list(attributes.get("kernel_shape") or kernel)
    if stated != list(kernel):
        raise ValueError(f"kernel_shape is {stated}, but the weight's kernel is {list(kernel)}")
    strides = _per_axis(attributes, "strides", rank, 1)
    dilations = _per_axis(attributes, "dilations", rank, 1)
    output_pads = _per_axis(attributes, "output_padding", rank, 0)
    shapes = _output_shape(attributes, rank)
    automatic = attributes.get("auto_pad") or "NOTSET"
    pads = list(attributes.get("pads") or [0] * (2 * rank))
    if len(pads) != 2 * rank or min(pads) < 0:
        raise ValueError(f"pads is {pads}, wanted {2 * rank} numbers that are at least 0")
    if automatic.startswith("SAME") and any(output_pads) and not any(shapes):
        raise ValueError(
            f"auto_pad is {automatic} with output_padding {output_pads}, of which runtimes make other sizes"
        )
    if automatic not in _AUTOMATIC:
        raise ValueError(f"auto_pad is '{automatic}', wanted one of {', '.join(_AUTOMATIC)}")
    axes = []
    for index in range(rank):
        plain = Axis(kernel[index], strides[index], dilations[index], 0, 0, output_pads[index])
        begin, end = _pads(plain, automatic, in_sizes[index], shapes[index], (pads[index], pads[rank + index]))
        axes.append(Axis(plain.kernel, plain.stride, plain.dilation, begin, end, plain.output_pad, in_sizes[index]))
    return tuple(axes)


def conv_axes(attributes: Attributes, kernel: Sequence[int], in_sizes: Sequence[int]) -> tuple[ConvAxis, ...]:
    """The axes of a Conv, automatic pads included; arguments as for :func:`axes_from`, all sizes known.

    Raises:
        ValueError: attributes that contradict each other or the weight.
    """
    rank = len(kernel)
    strides = _per_axis(attributes, "strides", rank, 1)
    dilations = _per_axis(attributes, "dilations", rank, 1)
    automatic = attributes.get("auto_pad") or "NOTSET"
    pads = list(attributes.get("pads") or [0] * (2 * rank))
    axes = []
    for size, taps, stride, dilation, *explicit in zip(
        in_sizes, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True
    ):
        same = ConvAxis.same(size, taps, stride, dilation)
        pads_of = {"SAME_UPPER": (same.pad_begin, same.pad_end), "SAME_LOWER": (same.pad_end, same.pad_begin)}
        axes.append(ConvAxis(size, taps, stride, dilation, *pads_of.get(automatic, explicit)))
    return tuple(axes)


def _per_axis(attributes: Attributes, name: str, rank: int, default: int) -> list[int]:
    found = list(attributes.get(name) or [default] * rank)
    if len(found) != rank:
        raise ValueError(f"{name} has {len(found)} numbers, wanted {rank}, one for each spatial axis")
    if min(found) < default:
        raise ValueError(f"{name} is {found}, wanted numbers that are at least {default}")
    return found


def _output_shape(attributes: Attributes, rank: int) -> list[Size]:
    """The ``output_shape`` attribute's spatial sizes; some exporters put batch and channels before them."""
    found = attributes.get("output_shape")
    if not found:
        return [None] * rank
    if len(found) not in (rank, rank + 2):
        raise ValueError(f"output_shape has {len(found)} numbers, wanted {rank}, one for each spatial axis")
    return list(found[-rank:])


def _pads(plain: Axis, automatic: str, in_size: Size, out_size: Size, explicit: tuple[int, int]) -> tuple[int, int]:
    """Pads of one axis; ``plain`` is the axis without any."""
    if out_size is not None:
        if in_size is None:
            raise RunTimeGeometryError("output_shape is fixed while the input size is open, and so are the pads")
        total = plain.out_size_of(in_size) - out_size
        if total <= -plain.stride:
            longest = plain.out_size_of(in_size) + plain.stride - 1
            raise ValueError(f"output_shape is {out_size}, wanted at most {longest} for an input of {in_size}")
        return (0, total) if total < 0 else _halves(total, automatic)
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        # Runtimes and ONNX's shape inference leave the output short rather than pad it where the kernel is too small.
        return _halves(max(0, plain.tail - plain.stride), automatic)
    return (0, 0) if automatic == "VALID" else explicit


def _halves(total: int, automatic: str) -> tuple[int, int]:
    """Both pads; the odd one goes to the end for SAME_UPPER, else to the begin."""
    small, large = total // 2, total - total // 2
    return (small, large) if automatic == "SAME_UPPER" else (large, small)
