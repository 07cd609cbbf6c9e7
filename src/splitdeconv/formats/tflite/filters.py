"""Filters and biases of a program's convolutions, with their quantisation; values are copied, never requantised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.weights import Array, Weights, conv_channels, conv_filter
from splitdeconv.formats.tflite.nodes import Constant, Node, zero_points
from splitdeconv.formats.tflite.schema import Builtin, tfl
from splitdeconv.formats.tflite.writer import GraphWriter

_DEQUANTIZE_VERSION = 3  # float16 too
_BIAS_TYPES = {"int8": "int32", "uint8": "int32", "int16": "int64"}


class FilterWriter:
    """Writes the constants of one site."""

    def __init__(self, writer: GraphWriter, node: Node, weights: Weights, *, plain: bool) -> None:
        self.writer, self.node, self.weights, self.plain = writer, node, weights, plain
        self.kernel_like = node.graph.tensors[node.kernel.tensor]

    @property
    def bias_type(self) -> int:
        """What the operator says of its bias's type; 0 (float32) says nothing."""
        options = self.node.graph.operators[self.node.operator].builtinOptions
        return 0 if self.plain else int(options.quantizedBiasType)

    def operands(self, conv: Conv, number: int) -> list[int]:
        """Filter OHWI and bias (if there is one) of a convolution."""
        name = f"{self.node.id}/conv{number}"
        zero = 0 if self.plain else zero_points(self.kernel_like)
        filled = conv_filter(self.weights.kernel, conv, zero)
        quantization = _repeated(self.kernel_like.quantization, conv)
        values = np.ascontiguousarray(filled.transpose(0, 2, 3, 1))
        kernel = self._operand(values, name + "/filter", quantization, self.node.kernel)
        bias = self._zero_bias(conv) if self.weights.bias is None or not conv.has_bias else self.weights.bias
        bias = conv_channels(bias, conv)
        return [kernel, self._bias(bias, name + "/bias", _repeated(self._bias_quantization(), conv))]

    def _zero_bias(self, conv: Conv) -> Array:
        """LiteRT's CONV_2D wants a bias, TRANSPOSE_CONV does not."""
        dtype = _BIAS_TYPES.get("" if self.plain else self.node.graph.type_name(self.node.source), "float32")
        return np.zeros(conv.out_channels, dtype)

    def plain_bias(self) -> int:
        """The bias of the deconv for an addition to the whole output; float models only."""
        assert self.weights.bias is not None, "the deconv says that it has a bias"
        return self._bias(np.asarray(self.weights.bias), f"{self.node.id}/bias", None)

    def native_kernel(self) -> int:
        """The kernel as TRANSPOSE_CONV takes it, OHWI."""
        values = np.ascontiguousarray(self.weights.kernel.transpose(1, 2, 3, 0))
        return self._operand(values, f"{self.node.id}/kernel", self.kernel_like.quantization, self.node.kernel)

    def native_bias(self) -> list[int]:
        """The bias as TRANSPOSE_CONV takes it, if there is one."""
        if self.weights.bias is None:
            return []
        return [self._bias(np.asarray(self.weights.bias), f"{self.node.id}/bias", self._bias_quantization())]

    def _bias(self, values: Array, name: str, quantization: Any) -> int:
        if self.plain:
            return self.writer.constant(np.ascontiguousarray(values, np.float32), name)
        if self.node.graph.type_name(self.node.source) == "float32" and values.dtype != np.float32:
            constant = self.node.bias or self.node.kernel
            return self._dequantized(values, name, self.node.graph.tensors[constant.tensor].quantization)
        return self.writer.constant(np.ascontiguousarray(values), name, quantization)

    def _operand(self, values: Array, name: str, quantization: Any, constant: Constant) -> int:
        if self.plain:
            return self.writer.constant(np.ascontiguousarray(values, np.float32), name)
        if constant.operand == constant.tensor:
            return self.writer.constant(values, name, quantization)
        return self._dequantized(values, name, quantization)

    def _dequantized(self, values: Array, name: str, quantization: Any) -> int:
        """A constant behind a DEQUANTIZE, as the original was."""
        stored = self.writer.constant(values, name, quantization)
        float_like = tfl.TensorT(type=tfl.TensorType.FLOAT32)
        opened = self.writer.tensor(float_like, values.shape, name + "/float32")
        self.writer.operator(Builtin.DEQUANTIZE, _DEQUANTIZE_VERSION, [stored], [opened], tfl.DequantizeOptionsT())
        return opened

    def _bias_quantization(self) -> Any:
        """As stored, or the product of input and weight scales where the epilogue brings the bias."""
        node = self.node
        if node.bias is not None:
            return node.graph.tensors[node.bias.tensor].quantization
        source = node.graph.tensors[node.source].quantization
        kernel = self.kernel_like.quantization
        if source is None or source.scale is None or kernel is None or kernel.scale is None:
            return None
        scale = (np.asarray(source.scale[0], np.float32) * np.asarray(kernel.scale, np.float32)).astype(np.float32)
        return tfl.QuantizationParametersT(scale=scale, zeroPoint=np.zeros(len(scale), np.int64))


def _repeated(quantization: Any, conv: Conv) -> Any:
    """Per-channel parameters in the order of the convolution's outputs."""
    if quantization is None or quantization.scale is None or len(quantization.scale) <= 1:
        return quantization
    scale = conv_channels(np.asarray(quantization.scale, np.float32), conv)
    zero: Sequence[int] | None = quantization.zeroPoint
    points = np.zeros(len(scale), np.int64)
    if zero is not None and len(zero):
        points = conv_channels(np.broadcast_to(np.asarray(zero, np.int64), (conv.out_channels,)), conv)
    return tfl.QuantizationParametersT(scale=scale, zeroPoint=points, quantizedDimension=0)
