"""Recognising quantised deconvs: ConvTranspose between DequantizeLinear and QuantizeLinear (QDQ form).

    DequantizeLinear(x) ─┐
    DequantizeLinear(w) ─┼ ConvTranspose ─ [element-wise epilogue, crops] ─ QuantizeLinear ─ [crops]
    DequantizeLinear(b) ─┘  (or a float bias)

The stored weights may be initializers (ONNX Runtime's quantiser, NNCF, PyTorch) or a QuantizeLinear of constants.
A crop behind the QuantizeLinear stands alone or between a DequantizeLinear and a QuantizeLinear with its parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.ops import Size
from splitdeconv.deconv.spec import Quant
from splitdeconv.deconv.structure import diagonal_of
from splitdeconv.deconv.weights import Array, Quantisation, Weights
from splitdeconv.formats.onnx.constants import constant, known_constant, packed
from splitdeconv.formats.onnx.crop import Crop, read_crop
from splitdeconv.formats.onnx.epilogue import Stage, Tail, find_tail, only_use
from splitdeconv.formats.onnx.graph import Place, dequantiser_of, integer, is_quantiser
from splitdeconv.formats.onnx.integer_filter import StoredKernel
from splitdeconv.formats.onnx.quantised_emit import forms
from splitdeconv.formats.onnx.quantisers import (
    INPUT_CHANNELS,
    OUTPUT_CHANNELS,
    STORED_AS,
    UnsupportedError,
    parameters,
    per_tensor,
    quantise_behind,
    read_values,
    stored_kernel,
)

_CHAIN = 20  # nodes between a stored constant and the weight that is made of it
_SCALE_ROUNDING = 2.0**-22  # how far a bias scale may be from x_scale·w_scale: two roundings of float32

SizesOf = Callable[[Array], Sequence[Size]]  # from a deconv's kernel to its output's spatial sizes, None where unknown

_FLOAT_NOTE = (
    "no integer kernel computes activations or weights of 16 bits, or a weight scale for each input channel: its "
    "convolutions are computed in float, as the original is"
)
_HALF_NOTE = (
    "its scales are float16, which rounds real numbers and sums where integer kernels do not: its convolutions are "
    "computed in float16 between DequantizeLinear and QuantizeLinear, as the original is"
)


@dataclass(frozen=True)
class Qdq:
    """A quantised deconv in the graph.

    Attributes:
        x: its stored input.
        weight: its stored weights; ``bias`` the stored or float bias, or None.
        values: scales and zero-points; those of input channels that have an output channel each, as of these.
        stages: the element-wise nodes behind it.
        crop: what all crops behind it cut off together, or None without one.
        nodes: everything behind it that belongs to it, in order; the last one's output is the stored output.
        diagonal: whether its dense kernel is zero between channels, so that it is a depthwise deconv.
    """

    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    values: Quantisation
    stages: tuple[Stage, ...]
    crop: Crop | None
    nodes: tuple[ir.Node, ...]
    diagonal: bool

    def kernel(self, opset: int) -> Array:
        """The weights as the model has them."""
        return known_constant(self.weight, opset)

    def stored_kernel(self, found: Array) -> Array:
        """The stored weights; those of 4 bits as 8 bits, and without those between channels that are 0."""
        kernel = stored_kernel(found)
        if not self.diagonal:
            return kernel
        diagonal = diagonal_of(kernel, _zero_along(kernel, self.values))
        assert diagonal is not None, "found to be zero between channels"
        return diagonal

    def read_bias(self, opset: int) -> Array | None:
        """The bias: int32 in units of ``x_scale·w_scale``, or float."""
        return None if self.bias is None else constant(self.bias, opset)

    def quant(self) -> Quant:
        """The quantisation without its values."""
        assert self.weight.dtype is not None, "set where it was read"
        weight = STORED_AS[str(self.weight.dtype.numpy().name)]
        return Quant(self.values.x_type, weight, self.values.w_scale.ndim > 0, forms(self.values, weight))


def read_qdq(place: Place, sizes_of: SizesOf) -> Qdq | None:
    """The quantised deconv at ``place``, or None where it is a float one.

    Args:
        place: the ConvTranspose.
        sizes_of: asked for the deconv's output sizes, without which some crops cannot be told.

    Raises:
        UnsupportedError: it is quantised in a way that cannot be carried over.
    """
    from_x, from_weight = dequantiser_of(place.node.inputs[0]), dequantiser_of(place.node.inputs[1])
    if from_x is None or from_weight is None:
        return None
    kernel = constant(from_weight.inputs[0], place.opset)
    if kernel is None or kernel.ndim < 3:
        return None
    groups = integer(place.node, "group", 1)
    sizes = sizes_of(kernel)
    tail = find_tail(place, kernel.ndim, kernel.shape[1] * groups, sizes)
    output = quantise_behind(tail.nodes[-1] if tail.nodes else place.node)
    if output is None or output.graph is not place.node.graph:
        return None
    values = read_values(place, from_x, from_weight, output, kernel, OUTPUT_CHANNELS)
    diagonal = groups == 1 and diagonal_of(stored_kernel(kernel), _zero_along(kernel, values)) is not None
    if values.by_input and (diagonal or groups == kernel.shape[0]):
        values = _by_output(values, 1 if diagonal else kernel.shape[1])
    group = Group(place, from_x, from_weight, output, values)
    return group.read(tail, sizes, kernel.shape[1] * groups, diagonal)


@dataclass(frozen=True)
class Group:
    """A deconv, or a convolution, and the quantisers around it.

    Attributes:
        place: of the node.
        from_x, from_weight: the DequantizeLinear nodes of its map and of its constant weight.
        output: the QuantizeLinear behind it.
        values: their scales and zero-points.
    """

    place: Place
    from_x: ir.Node
    from_weight: ir.Node
    output: ir.Node
    values: Quantisation

    def read(self, tail: Tail, sizes: Sequence[Size], channels: int, diagonal: bool = False) -> Qdq:
        """With what stands behind it.

        Args:
            tail: what stands between the node and ``output``.
            sizes, channels: of the node's output.
            diagonal: whether its kernel is zero between channels.
        """
        place = self.place
        crop, behind = _crops_behind(place, self.output, tail.crop, sizes)
        weight, x, bias = self.from_weight.inputs[0], self.from_x.inputs[0], (*place.node.inputs, None)[2]
        assert weight is not None, "its constant was read"
        assert x is not None, "a DequantizeLinear has an input"
        _set_type(weight, known_constant(weight, place.opset))
        bias = _stored_bias(place, bias, self.values, channels)
        nodes = (*tail.nodes, self.output, *behind)
        return Qdq(x, weight, bias, self.values, tail.stages, crop, nodes, diagonal)


def _zero_along(kernel: Array, values: Quantisation) -> Array:
    """The zero-point of a dense kernel, to be broadcast against it; one for all where input channels have scales."""
    zero = values.w_zero.max() if values.by_input else values.w_zero
    return np.reshape(zero, (1, -1, *(1,) * (kernel.ndim - 2)))


def _by_output(values: Quantisation, per_group: int) -> Quantisation:
    """Scales for each input channel as those of the output channels, which read only one input channel each."""
    scale, zero = (np.repeat(each, per_group) for each in (values.w_scale, values.w_zero))
    return replace(values, w_scale=scale, w_zero=zero, w_axis=OUTPUT_CHANNELS)


def _crops_behind(
    place: Place, output: ir.Node, crop: Crop | None, sizes: Sequence[Size]
) -> tuple[Crop | None, list[ir.Node]]:
    """The crops of the stored output, as one with ``crop``, which comes before it; and their nodes."""
    found: list[ir.Node] = []
    last = output
    while True:
        left = sizes if crop is None else crop.sizes_of(sizes)
        step = _crop_behind(place, last, output, left)
        if step is None:
            return crop, found
        more, nodes = step
        crop = more if crop is None else crop.then(more)
        found.extend(nodes)
        last = nodes[-1]


def _crop_behind(
    place: Place, last: ir.Node, output: ir.Node, sizes: Sequence[Size]
) -> tuple[Crop, list[ir.Node]] | None:
    """A crop that alone reads the stored output of ``last``, with the quantisers around it that change nothing."""
    nodes: list[ir.Node] = []
    use = only_use(last.outputs[0], place)
    if use is not None and is_quantiser(use[0], "DequantizeLinear"):
        nodes.append(use[0])
        use = only_use(use[0].outputs[0], place) if _same_parameters(use[0], output, place.opset) else None
    crop = None if use is None else read_crop(*use, place.opset, sizes)
    if use is None or crop is None:
        return None
    if not nodes:
        return crop, [use[0]]
    behind = quantise_behind(use[0])
    if behind is None or behind.graph is not place.node.graph or not _same_parameters(behind, output, place.opset):
        return None
    return crop, [*nodes, use[0], behind]


def _same_parameters(node: ir.Node, output: ir.Node, opset: int) -> bool:
    """Whether scale, zero-point and type are those of ``output``."""
    try:
        return per_tensor(node, opset, "output") == per_tensor(output, opset, "output")
    except UnsupportedError:
        return False


def unread_weight(place: Place) -> str:
    """Why the weights of the deconv at ``place`` cannot be read; nothing where they are computed at run time."""
    if stored := _packed_behind(place.node.inputs[1]):
        return f"its weights are stored {stored}, which only the runtime reads, so they stay as they are"
    node = dequantiser_of(place.node.inputs[1])
    if node is not None and constant(node.inputs[0], place.opset) is not None:
        scale = constant(node.inputs[1], place.opset)
        if scale is not None and scale.ndim > 1 and not integer(node, "block_size", 0):
            return (
                f"the scales of its weights have the shape {list(scale.shape)}: ONNX has one number or a list, "
                "and runtimes refuse the model as it is"
            )
    return ""


def _packed_behind(value: ir.Value | None) -> str:
    """How what ``value`` is made of is stored, as :func:`packed` says it."""
    for _ in range(_CHAIN):
        node = None if value is None else value.producer()
        if node is None or not node.inputs:
            return ""
        if stored := packed(node):
            return stored
        value = node.inputs[0]
    return ""


def read_stored_kernel(node: ir.Node, opset: int) -> StoredKernel | None:
    """The integers that a DequantizeLinear makes the weights of a float deconv of, or None where others are."""
    kernel = constant(node.inputs[0], opset)
    scale = constant(node.inputs[1], opset)
    zero = constant(node.inputs[2], opset) if len(node.inputs) > 2 else None
    if kernel is None or scale is None or kernel.dtype.name not in STORED_AS or integer(node, "block_size", 0):
        return None
    axis = integer(node, "axis", 1) % kernel.ndim
    if scale.size == 1:
        scale = scale.reshape(())
    elif axis not in (INPUT_CHANNELS, OUTPUT_CHANNELS) or scale.shape != (kernel.shape[axis],):
        return None
    zeros = np.zeros(scale.shape, np.int32) if zero is None else zero.astype(np.int32).reshape(scale.shape)
    if axis == INPUT_CHANNELS and np.ptp(zeros):
        return None
    stored = stored_kernel(kernel)
    return StoredKernel(lambda: stored, ir.DataType.from_numpy(stored.dtype), scale, zeros, axis)


def quantised_notes(weights: Weights) -> tuple[str, ...]:
    """What the user should know when the site is rewritten."""
    quant = weights.quant
    assert quant is not None, "a quantised site has its scales"
    if quant.is_half:
        return (_HALF_NOTE,)
    if forms(quant, weights.kernel.dtype.name) == ("float",):
        return (_FLOAT_NOTE,)
    if weights.bias is None or weights.bias.dtype.kind != "f":
        return ()
    return ("its float bias becomes int32 in QLinearConv, rounded as ONNX Runtime does to the model's own QDQ form",)


def _set_type(stored: ir.Value, kernel: Array) -> None:
    """State the type of weights that a QuantizeLinear of constants makes; files leave it out."""
    if stored.dtype is None:
        stored.type = ir.TensorType(ir.DataType.from_numpy(kernel.dtype))


def _stored_bias(place: Place, bias: ir.Value | None, values: Quantisation, channels: int) -> ir.Value | None:
    """The int32 bias if its unit is that of the sums, else the float one."""
    node = dequantiser_of(bias)
    if bias is None or node is None:
        return bias
    stored, (scale, zero) = node.inputs[0], parameters(node, place.opset, "bias")
    assert stored is not None, "a DequantizeLinear has an input"
    if values.by_input or values.is_half:
        return bias
    known = constant(stored, place.opset)
    unit = values.bias_scale(channels)
    whole = known is not None and known.dtype == np.int32 and (zero is None or not zero.any())
    fits = scale.size in (1, channels) and np.allclose(scale, unit, rtol=_SCALE_ROUNDING, atol=0)
    return stored if whole and fits else bias
