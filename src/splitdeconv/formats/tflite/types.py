"""Types and quantisation of the tensors that a site is written with: its own, or those of weights on trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.tflite.node import Node
from splitdeconv.formats.tflite.schema import TYPE_NAMES, tensor_type, tfl

FLOAT32 = tfl.TensorT(type=tfl.TensorType.FLOAT32)


@dataclass(frozen=True, slots=True)
class SiteTypes:
    """Tensors of the schema whose type and quantisation the written ones take.

    Attributes:
        source, result: of the maps before the convolutions and after them.
        kernel: of the filters as stored.
        opened: whether filters stand behind a DEQUANTIZE.
        bias: quantisation of the biases, or None.
        bias_type: what the operators say of the biases' type; 0 (float32) says nothing.
    """

    source: Any
    result: Any
    kernel: Any
    opened: bool
    bias: Any
    bias_type: int

    @classmethod
    def own(cls, node: Node) -> SiteTypes:
        """Those of the model."""
        tensors = node.graph.tensors
        source, kernel = tensors[node.operand], FLOAT32 if node.opens_sums else tensors[node.kernel.tensor]
        opened = node.kernel.operand != node.kernel.tensor and not node.opens_sums
        # The epilogue may bring a bias to a deconv that has none; its unit is that of the sums.
        bias = _sum_unit(source, kernel) if node.bias is None else tensors[node.bias.tensor].quantization
        return cls(source, tensors[node.result], kernel, opened, bias, _bias_type(node))

    @classmethod
    def of(cls, weights: Weights, node: Node) -> SiteTypes:
        """Those of weights on trial: float32, or with the quantisation that they bring."""
        quant = weights.quant
        if quant is None:
            return cls(FLOAT32, FLOAT32, FLOAT32, False, None, 0)
        kernel = _like(weights.kernel.dtype.name, quant.w_scale, quant.w_zero)
        if quant.is_hybrid:
            return cls(FLOAT32, FLOAT32, kernel, False, None, 0)
        source = _like(quant.x_type, quant.x_scale, quant.x_zero)
        result = _like(quant.y_type, quant.y_scale, quant.y_zero)
        return cls(source, result, kernel, False, _sum_unit(source, kernel), _bias_type(node))

    @property
    def maps(self) -> str:
        """Type of the maps, such as ``int8``."""
        return TYPE_NAMES[self.source.type]

    @property
    def is_hybrid(self) -> bool:
        """Whether operators take integer weights beside float maps."""
        return self.maps == "float32" and not self.opened and self.kernel.type != tfl.TensorType.FLOAT32


def _like(dtype: str, scale: Array, zero: Array | int) -> Any:
    scales = np.atleast_1d(np.asarray(scale, np.float32))
    zeros = np.broadcast_to(np.asarray(zero, np.int64), scales.shape).copy()
    quantization = tfl.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=0)
    return tfl.TensorT(type=tensor_type(np.empty(0, dtype)), quantization=quantization)


def _sum_unit(source: Any, kernel: Any) -> Any:
    """The quantisation of a sum of products: scales multiplied; None where the maps are float."""
    units = [each.quantization for each in (source, kernel)]
    if any(each is None or each.scale is None or not len(each.scale) for each in units):
        return None
    scale = np.asarray(units[0].scale[0], np.float32) * np.asarray(units[1].scale, np.float32)
    return tfl.QuantizationParametersT(scale=scale, zeroPoint=np.zeros(len(scale), np.int64))


def _bias_type(node: Node) -> int:
    return int(getattr(node.graph.operators[node.operator].builtinOptions, "quantizedBiasType", 0))
