"""Recognising quantised deconvs: ConvTranspose between DequantizeLinear and QuantizeLinear (QDQ form).

    DequantizeLinear(x) ─┐
    DequantizeLinear(w) ─┼ ConvTranspose ─ [element-wise epilogue] ─ QuantizeLinear
    DequantizeLinear(b) ─┘  (or a float bias)

The stored weights may be initializers (ONNX Runtime's quantiser) or a QuantizeLinear of constants (PyTorch, NNCF).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from splitdeconv.frontends.onnx.constants import constant
from splitdeconv.frontends.onnx.epilogue import Stage, find_tail
from splitdeconv.frontends.onnx.graph import Place, is_standard
from splitdeconv.spec import Quant
from splitdeconv.weights import Array, Quantisation, Weights

_TYPES = ("uint8", "int8")
_OUTPUT_CHANNELS = 1  # axis of a ConvTranspose's weight, (in_channels, out_channels // groups, …)
_SCALE_ROUNDING = 2.0**-22  # how far a bias scale may be from x_scale·w_scale: two roundings of float32


class UnsupportedError(Exception):
    """A quantisation that cannot be carried over; the message is the reason for skipping the node."""


@dataclass(frozen=True)
class Qdq:
    """A quantised deconv in the graph.

    Attributes:
        x: its stored input.
        weight: its stored weights; ``bias`` the stored or float bias, or None.
        values: scales and zero-points.
        stages: the element-wise nodes between it and ``output``.
        output: the QuantizeLinear behind it.
    """

    x: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    values: Quantisation
    stages: tuple[Stage, ...]
    output: ir.Node

    def kernel(self, opset: int) -> Array:
        """The stored weights."""
        found = constant(self.weight, opset)
        assert found is not None, "a located site has constant weights"
        return found

    def read_bias(self, opset: int) -> Array | None:
        """The bias: int32 in units of ``x_scale·w_scale``, or float."""
        return None if self.bias is None else constant(self.bias, opset)

    def quant(self) -> Quant:
        """The quantisation without its values."""
        weight = self.weight.dtype
        name = "int8" if weight is None else weight.numpy().name
        return Quant(self.values.x_type, str(name), self.values.w_scale.ndim > 0, forms(str(name)))


def forms(weight: str) -> tuple[str, ...]:
    """The forms in which quantised_emit writes a convolution; uint8 weights need not be moved to be uint8."""
    return ("qdq", "qlinear", "qlinear_u8") if weight == "int8" else ("qdq", "qlinear")


def read_qdq(place: Place) -> Qdq | None:
    """The quantised deconv at ``place``, or None where it is a float one.

    Raises:
        UnsupportedError: it is quantised in a way that cannot be carried over.
    """
    x, weight, bias = (*place.node.inputs, None)[:3]
    from_x, from_weight = _dequantize(x), _dequantize(weight)
    if from_x is None or from_weight is None:
        return None
    kernel = constant(from_weight.inputs[0], place.opset)
    real = constant(weight, place.opset)
    if kernel is None or real is None or kernel.ndim < 3:
        return None
    groups = place.node.attributes.get("group")
    channels = kernel.shape[1] * (groups.as_int() if groups is not None and not groups.is_ref() else 1)
    stages = find_tail(place, kernel.ndim, channels, None).stages
    output = _quantize_behind(stages[-1].node if stages else place.node)
    if output is None or output.graph is not place.node.graph:
        return None
    values = _values(place, from_x, from_weight, output, kernel)
    stored, source = from_weight.inputs[0], from_x.inputs[0]
    assert stored is not None, "its constant was read"
    assert source is not None, "a DequantizeLinear has an input"
    _set_type(stored, kernel)
    return Qdq(source, stored, _stored_bias(place, bias, values, channels), values, stages, output)


def quantised_notes(weights: Weights) -> tuple[str, ...]:
    """What the user should know when the site is rewritten."""
    if weights.bias is None or weights.bias.dtype.kind != "f":
        return ()
    return ("its float bias becomes int32 in QLinearConv, rounded as ONNX Runtime does to the model's own QDQ form",)


def _set_type(stored: ir.Value, kernel: Array) -> None:
    """State the type of weights that a QuantizeLinear of constants makes; files leave it out."""
    if stored.dtype is None:
        stored.type = ir.TensorType(ir.DataType.from_numpy(kernel.dtype))


def _dequantize(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and is_standard(node, "DequantizeLinear") else None


def _quantize_behind(last: ir.Node) -> ir.Node | None:
    """The QuantizeLinear that alone reads the output of ``last``."""
    uses = tuple(last.outputs[0].uses())
    if len(uses) != 1 or uses[0].idx != 0 or last.outputs[0].is_graph_output():
        return None
    return uses[0].node if is_standard(uses[0].node, "QuantizeLinear") else None


def _values(place: Place, from_x: ir.Node, from_weight: ir.Node, output: ir.Node, kernel: Array) -> Quantisation:
    """Scales and zero-points of input, weights and output."""
    x_scale, x_zero, x_type = _per_tensor(from_x, place.opset, "input")
    y_scale, y_zero, y_type = _per_tensor(output, place.opset, "output")
    if kernel.dtype.name not in _TYPES:
        raise UnsupportedError(f"its weights are quantised as {kernel.dtype.name}, wanted int8 or uint8")
    w_scale, w_zero = _parameters(from_weight, place.opset, "weights")
    w_zero = np.zeros(w_scale.shape, np.int32) if w_zero is None else w_zero.astype(np.int32)
    if w_scale.size == 1:
        w_scale, w_zero = w_scale.reshape(()), w_zero.reshape(())
    else:
        axis = _integer(from_weight, "axis", 1) % kernel.ndim
        if axis != _OUTPUT_CHANNELS or w_scale.shape != (kernel.shape[_OUTPUT_CHANNELS],):
            raise UnsupportedError(
                f"its weights are quantised along axis {axis} with {list(w_scale.shape)} scales; "
                f"wanted one for each output channel (axis {_OUTPUT_CHANNELS})"
            )
    return Quantisation(x_type, x_scale, x_zero, w_scale, w_zero, y_type, y_scale, y_zero)


def _per_tensor(node: ir.Node, opset: int, what: str) -> tuple[Array, int, str]:
    """Scale, zero-point and stored type of an activation."""
    scale, zero = _parameters(node, opset, what)
    if scale.size != 1:
        raise UnsupportedError(f"its {what} has a scale for each channel, wanted one")
    name = _stored_type(node) if zero is None else zero.dtype.name
    if name not in _TYPES:
        raise UnsupportedError(f"its {what} is quantised as {name}, wanted uint8 or int8")
    return scale.reshape(()), 0 if zero is None else int(zero.reshape(())), name


def _stored_type(node: ir.Node) -> str:
    """The quantised type of a node without a zero-point."""
    if node.op_type == "QuantizeLinear":
        stated = _integer(node, "output_dtype", 0)
        return str(ir.DataType(stated).numpy().name) if stated else "uint8"
    source = node.inputs[0]
    producer = None if source is None else source.producer()
    if producer is not None and is_standard(producer, "QuantizeLinear"):
        return _stored_type(producer)
    return "an unknown type" if source is None or source.dtype is None else str(source.dtype.numpy().name)


def _parameters(node: ir.Node, opset: int, what: str) -> tuple[Array, Array | None]:
    """Scale and zero-point as stored."""
    scale = constant(node.inputs[1], opset) if len(node.inputs) > 1 else None
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = constant(given, opset)
    if scale is None or (given is not None and zero is None):
        raise UnsupportedError(f"the scale or zero-point of its {what} is computed at run time")
    if scale.dtype != np.float32:
        raise UnsupportedError(f"the scale of its {what} is {scale.dtype.name}, wanted float32")
    if _integer(node, "block_size", 0):
        raise UnsupportedError(f"its {what} has a scale for each block, wanted one for each channel or tensor")
    return scale, zero


def _integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None or attribute.is_ref() else int(attribute.as_int())


def _stored_bias(place: Place, bias: ir.Value | None, values: Quantisation, channels: int) -> ir.Value | None:
    """The int32 bias if its unit is that of the sums, else the float one."""
    node = _dequantize(bias)
    if bias is None or node is None:
        return bias
    stored, (scale, zero) = node.inputs[0], _parameters(node, place.opset, "bias")
    assert stored is not None, "a DequantizeLinear has an input"
    known = constant(stored, place.opset)
    unit = values.bias_scale(channels)
    whole = known is not None and known.dtype == np.int32 and (zero is None or not zero.any())
    fits = scale.size in (1, channels) and np.allclose(scale, unit, rtol=_SCALE_ROUNDING, atol=0)
    return stored if whole and fits else bias
