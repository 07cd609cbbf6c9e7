"""Filters and biases of a program's convolutions, with their quantisation; copied, unless sums were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.requantised import requantised_filter, sums_taps
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights, conv_channels, conv_filter, deconv_kernel
from splitdeconv.formats.tflite.conv_operators import operator_of
from splitdeconv.formats.tflite.geometry import FILTER_AXES
from splitdeconv.formats.tflite.schema import TYPE_NAMES, Builtin, tfl
from splitdeconv.formats.tflite.types import FLOAT32, SiteTypes
from splitdeconv.formats.tflite.units import zero_point
from splitdeconv.formats.tflite.writer import GraphWriter

_DEQUANTIZE_VERSION = 3  # float16 too
_BIAS_TYPES = {"int8": "int32", "uint8": "int32", "int16": "int64"}


class FilterWriter:
    """Writes the constants of one site, with the types and quantisation of ``types``."""

    def __init__(self, writer: GraphWriter, name: str, weights: Weights, types: SiteTypes) -> None:
        self.writer, self.name, self.weights, self.types = writer, name, weights, types

    def operands(self, conv: Conv, number: int) -> list[int]:
        """Filter and bias of a convolution, as its operator takes them."""
        name = f"{self.name}/conv{number}"
        if self.weights.quant is not None and not self.weights.quant.is_hybrid and sums_taps(conv):
            return self._requantised(conv, name)
        filled = conv_filter(self.weights.kernel, conv, zero_point(self.types.kernel))
        kind = operator_of(conv)
        order = np.argsort(FILTER_AXES[kind])
        quantization = _repeated(self.types.kernel.quantization, conv, FILTER_AXES[kind][0])
        kernel = self._filter(np.ascontiguousarray(filled.transpose(order)), name + "/filter", quantization)
        bias = self._zero_bias(conv) if self.weights.bias is None or not conv.has_bias else self.weights.bias
        bias = conv_channels(bias, conv)
        return [kernel, self._bias(bias, name + "/bias", _repeated(self.types.bias, conv, 0))]

    def _requantised(self, conv: Conv, name: str) -> list[int]:
        """Filter OHWI and bias of a convolution whose sums of weights are quantised anew."""
        found = requantised_filter(self.weights, conv)
        values = np.ascontiguousarray(np.moveaxis(found.values, 1, -1))
        zero = found.zero.astype(np.int64)
        quantization = tfl.QuantizationParametersT(scale=found.scale, zeroPoint=zero, quantizedDimension=0)
        unit = np.asarray(self.types.source.quantization.scale[0], np.float32) * found.scale
        of_bias = tfl.QuantizationParametersT(scale=unit, zeroPoint=np.zeros(unit.size, np.int64))
        bias = conv_channels(self._zero_bias(conv), conv) if found.bias is None else found.bias
        return [self._filter(values, name + "/filter", quantization), self._bias(bias, name + "/bias", of_bias)]

    def _zero_bias(self, conv: Conv) -> Array:
        """LiteRT's CONV_2D wants a bias, TRANSPOSE_CONV does not."""
        dtype = TYPE_NAMES[self.types.bias_type] if self.types.bias_type else _BIAS_TYPES.get(self.types.maps)
        return np.zeros(conv.out_channels, dtype or "float32")

    def whole_bias(self) -> int:
        """The bias of the deconv for an addition to the whole output; float models only."""
        assert self.weights.bias is not None, "the deconv says that it has a bias"
        return self._bias(self.weights.bias, f"{self.name}/bias", None)

    def native(self, deconv: Deconv, kind: str = "TRANSPOSE_CONV") -> list[int]:
        """Kernel and bias (if there is one) of the whole deconv, as the operator ``kind`` takes them."""
        order = np.argsort(FILTER_AXES[kind])
        values = np.ascontiguousarray(deconv_kernel(self.weights.kernel, deconv).transpose(order))
        kernel = self._filter(values, f"{self.name}/kernel", self.types.kernel.quantization)
        if self.weights.bias is None or not deconv.has_bias:
            return [kernel]
        return [kernel, self._bias(self.weights.bias, f"{self.name}/bias", self.types.bias)]

    def _bias(self, values: Array, name: str, quantization: Any) -> int:
        packed = self.types.maps == "float32" and values.dtype != np.float32
        write = self._opened if packed else self.writer.constant
        return write(np.ascontiguousarray(values), name, quantization)

    def _filter(self, values: Array, name: str, quantization: Any) -> int:
        write = self._opened if self.types.opened else self.writer.constant
        return write(values, name, quantization)

    def _opened(self, values: Array, name: str, quantization: Any) -> int:
        """A constant behind a DEQUANTIZE, as the original was."""
        stored = self.writer.constant(values, name, quantization)
        opened = self.writer.tensor(FLOAT32, values.shape, name + "/float32")
        self.writer.operator(Builtin.DEQUANTIZE, _DEQUANTIZE_VERSION, [stored], [opened], tfl.DequantizeOptionsT())
        return opened


def _repeated(quantization: Any, conv: Conv, axis: int) -> Any:
    """Per-channel parameters in the order of the convolution's outputs, which are ``axis`` of the values."""
    if quantization is None or quantization.scale is None or len(quantization.scale) <= 1:
        return quantization
    scale = conv_channels(np.asarray(quantization.scale, np.float32), conv)
    zero: Sequence[int] | None = quantization.zeroPoint
    points = np.zeros(len(scale), np.int64)
    if zero is not None and len(zero):
        points = conv_channels(np.broadcast_to(np.asarray(zero, np.int64), (conv.out_channels,)), conv)
    return tfl.QuantizationParametersT(scale=scale, zeroPoint=points, quantizedDimension=axis)
