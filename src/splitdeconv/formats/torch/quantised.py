"""Quantised calls of PT2E graphs as sites, and alone as graphs of stored integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx, nn

from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Quantisation, Weights
from splitdeconv.formats.torch.exchange import call_numbers
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.torch_modules import graphs
from splitdeconv.torch_modules.flat import Flat
from splitdeconv.torch_modules.quantised import (
    NO_SCALE,
    PER_TENSOR,
    quantised_geometry,
    replace_quantised,
    stored_weight,
    tail_of,
)

CONVS = (
    torch.ops.aten.conv_transpose1d.default,
    torch.ops.aten.conv_transpose2d.input,
    torch.ops.aten.conv_transpose3d.input,
)


def read_quantised(module: fx.GraphModule, call: graphs.Call) -> tuple[Deconv, Weights] | str:
    """Geometry and values of a quantised call, or why it is left alone."""
    weight, tail = stored_weight(module, call), tail_of(call)
    if isinstance(weight, str):
        return weight
    if tail is None:
        return NO_SCALE
    if str(call.x.target) != PER_TENSOR:
        return "its input is not dequantised right before it"
    deconv, layer = quantised_geometry(weight, call), call.layer()
    if layer is not None:
        deconv = deconv.with_in_sizes(layer.deconv.batch, layer.deconv.in_sizes)
    x_scale, x_zero, *_, x_type = call.x.args[1:6]
    y_scale, y_zero, *_, y_type = tail.quantize.args[1:6]
    scales = torch.tensor(weight.node.args[1]) if weight.scales is None else weight.scales
    quant = Quantisation(
        x_type=_name(x_type),
        x_scale=np.float32(x_scale),
        x_zero=int(x_zero),
        w_scale=scales.detach().cpu().float().numpy(),
        w_zero=np.zeros(tuple(scales.shape), np.int32),
        y_type=_name(y_type),
        y_scale=np.float32(y_scale),
        y_zero=int(y_zero),
        w_axis=1 if weight.axis is None else weight.axis,
    )
    bias = None if call.bias is None else graphs.value_of(call.bias)
    stored = bias is None or (call.bias is not None and call.bias.op == "get_attr")
    if not stored:
        return "its bias is computed in the graph, not stored in it"
    values = None if bias is None else bias.detach().cpu().float().numpy()
    return deconv, Weights(weight.values.cpu().numpy(), values, quant)


def quantised_layer(deconv: Deconv, weights: Weights, program: Program, lowering: str | None) -> Flat:
    """One quantised deconv under ``program``, from stored integers to stored integers."""
    quant = weights.quant
    assert quant is not None, "quantised weights have their scales"
    root, graph = nn.Module(), fx.Graph()
    x = graph.placeholder("x")
    operators = torch.ops.quantized_decomposed
    whole = _dequantised(graph, x, quant.x_scale, quant.x_zero, quant.x_type)
    kernel = _stored(root, graph, "kernel", weights.kernel)
    if quant.w_scale.ndim:
        scales, zeros = (
            _stored(root, graph, name, values) for name, values in (("scale", quant.w_scale), ("zero", quant.w_zero))
        )
        arguments = (kernel, scales, zeros, quant.w_axis, *_limits(str(weights.kernel.dtype)))
        kernel = graph.call_function(operators.dequantize_per_channel.default, arguments)
    else:
        kernel = _dequantised(graph, kernel, quant.w_scale, 0, str(weights.kernel.dtype))
    bias = None
    if weights.bias is not None:
        unit = 1.0 if weights.bias.dtype.kind == "f" else quant.bias_scale(deconv.out_channels)
        bias = _stored(root, graph, "bias", np.asarray(weights.bias * unit, np.float32))
    numbers = call_numbers(deconv)
    y = graph.call_function(CONVS[len(deconv.axes) - 1], (whole, kernel, bias, *map(_listed, numbers)))
    y = graph.call_function(
        operators.quantize_per_tensor.default, (y, float(quant.y_scale), quant.y_zero, *_limits(quant.y_type))
    )
    graph.output(y)
    module = fx.GraphModule(root, graph)
    if program.name != str(NATIVE):
        (call,) = graphs.find_calls(module)
        reason = replace_quantised(module, call, lowering)
        assert reason is None, reason
        graphs.finish(module)
    return Flat(module)


def _listed(numbers: Any) -> Any:
    return list(numbers) if isinstance(numbers, tuple) else numbers


def _dequantised(graph: fx.Graph, node: fx.Node, scale: Any, zero: int, dtype: str) -> fx.Node:
    arguments = (node, float(scale), zero, *_limits(dtype))
    return graph.call_function(torch.ops.quantized_decomposed.dequantize_per_tensor.default, arguments)


def _stored(root: nn.Module, graph: fx.Graph, name: str, values: Any) -> fx.Node:
    root.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))
    return graph.get_attr(name)


def _limits(dtype: str) -> tuple[int, int, torch.dtype]:
    limits = np.iinfo(dtype)
    return limits.min, limits.max, getattr(torch, dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
