"""Quantised deconvs of PT2E graphs: integer weights are split as integers, and every convolution is requantised once.

Before: dequantize(x), dequantize(weight) → conv_transpose → [relu] → quantize.
After:  dequantize(x), dequantize(filter) → conv → [relu] → quantize → dequantize, for every convolution; then the
        rearrangement, which stands between the same scales → quantize.
Backends that match quantised convolutions find them as they are used to, and no value is rounded twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.spec import Deconv, Quant
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.torch_modules.filters import bias_split, filter_split
from splitdeconv.torch_modules.forms import find_form
from splitdeconv.torch_modules.functions import deconv_of
from splitdeconv.torch_modules.graphs import Call, add_buffer, attribute
from splitdeconv.torch_modules.interpret import Form, operations

PER_TENSOR = "quantized_decomposed.dequantize_per_tensor.default"
PER_CHANNEL = "quantized_decomposed.dequantize_per_channel.default"
QUANTIZE = "quantized_decomposed.quantize_per_tensor.default"
INPUT_AXIS, OUTPUT_AXIS = 0, 1  # of the deconv's weight, IOHW
NO_SCALE = "its output is not quantised right away, so that the convolutions have no scale to be rounded to"
RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)


@dataclass(frozen=True, slots=True)
class Weight:
    """The quantised weight of a call.

    Attributes:
        node: its dequantize node.
        values: integers, IOHW.
        axis: whose channels have scales of their own, or None for one scale.
        scales: one for each channel of ``axis``, or None.
    """

    node: fx.Node
    values: Tensor
    axis: int | None = None
    scales: Tensor | None = None


@dataclass(frozen=True, slots=True)
class QuantisedTail:
    """What follows a call: perhaps a relu, and the quantize node."""

    last: fx.Node
    relu: Any
    quantize: fx.Node


def is_quantised(call: Call) -> bool:
    """Whether the weight of ``call`` is stored in integers."""
    return str(call.weight.target) in (PER_TENSOR, PER_CHANNEL)


def replace_quantised(module: fx.GraphModule, call: Call, lowering: str | None) -> str | None:
    """Write the convolutions of one quantised call into the graph; returns why not, or None when it is done."""
    weight, tail = stored_weight(module, call), tail_of(call)
    if isinstance(weight, str):
        return weight
    if tail is None:
        return NO_SCALE
    deconv = quantised_geometry(weight, call)
    form = quantised_form(deconv, lowering)
    if form.candidate == Candidate("native"):
        return "native was asked for"
    program, steps = operations(deconv, form)
    graph = module.graph
    with graph.inserting_before(tail.quantize):
        tracer = fx.proxy.GraphAppendingTracer(graph)
        filters: list[Any] = []
        for step in program.steps:
            if isinstance(step.op, Conv):
                nodes = (_filter(module, weight, step.op, call), _bias(module, call, step.op))
                filters += [None if node is None else fx.Proxy(node, tracer) for node in nodes]
        values = [fx.Proxy(call.x, tracer)]
        for step, (operation, inputs) in zip(program.steps, steps, strict=True):
            value: Any = operation([values[number] for number in inputs], filters)
            values.append(
                fx.Proxy(_requantise(graph, value.node, tail), tracer) if isinstance(step.op, Conv) else value
            )
    tail.last.replace_all_uses_with(values[-1].node)
    return None


def quantised_form(deconv: Deconv, lowering: str | None) -> Form:
    """The form that a quantised call takes: the first that ``lowering`` names, of ``split`` where it names none.

    Raises:
        UsageError: it does not apply.
    """
    return find_form(deconv, f"{(lowering or 'split').partition('@')[0]}@NCHW", channels_last=False)


def stored_weight(module: fx.GraphModule, call: Call) -> Weight | str:
    """The integers and scales of the weight, or why they cannot be split."""
    stored, *rest = call.weight.args
    if not isinstance(stored, fx.Node) or stored.op != "get_attr":
        return "its integer weights are computed in the graph, not stored in it"
    values = attribute(module, str(stored.target))
    if str(call.weight.target) == PER_TENSOR:
        reason = None if rest[1] == 0 else f"its weights have the zero-point {rest[1]}, wanted 0"
        return reason or Weight(call.weight, values)
    scale_node, zero_node, axis = rest[:3]
    assert isinstance(scale_node, fx.Node), "scales per channel are stored in the graph"
    if isinstance(zero_node, fx.Node) and attribute(module, str(zero_node.target)).any():
        return "its weights have zero-points other than 0"
    if axis not in (INPUT_AXIS, OUTPUT_AXIS):
        return f"its weights have a scale for each place of axis {axis}, wanted a channel axis"
    if axis == INPUT_AXIS and call.geometry.groups > 1:
        return "its weights have a scale for each input channel, which a grouped convolution cannot have"
    return Weight(call.weight, values, int(axis), attribute(module, str(scale_node.target)))


def tail_of(call: Call) -> QuantisedTail | None:
    """What follows the call, or None where its output is not quantised right away."""
    last, relu = call.node, None
    users = list(last.users)
    if len(users) == 1 and users[0].target in RELUS:
        last, relu = users[0], users[0].target
        users = list(last.users)
    found = [user for user in users if str(user.target) == QUANTIZE]
    return QuantisedTail(last, relu, found[0]) if len(users) == len(found) == 1 else None


def quantised_geometry(weight: Weight, call: Call) -> Deconv:
    """The deconv of a quantised call."""
    deconv = deconv_of(weight.values, call.bias is not None, call.geometry)
    integers = str(weight.values.dtype).removeprefix("torch.")
    quant = Quant(integers, integers, weight.axis is not None)
    return Deconv(
        deconv.axes, deconv.in_channels, deconv.out_channels, deconv.groups, None, has_bias=deconv.has_bias, quant=quant
    )


def _filter(module: fx.GraphModule, weight: Weight, conv: Conv, call: Call) -> fx.Node:
    """Nodes that give the dequantised filter of one convolution, its integers stored in the module."""
    split = filter_split(conv, weight.values.shape)
    integers = add_buffer(module, f"{call.node.name}_filter", split(weight.values))
    _, scale, zero, *rest = weight.node.args
    if weight.axis is None or weight.scales is None:
        return module.graph.call_function(weight.node.target, (integers, scale, zero, *rest))
    scales, axis = weight.scales, 1
    if weight.axis == OUTPUT_AXIS:
        scales, axis = bias_split(conv)(scales.repeat(conv.groups)), 0
    scale = add_buffer(module, f"{call.node.name}_scale", scales)
    zeros = torch.zeros(scales.shape, dtype=torch.int64)
    zero = add_buffer(module, f"{call.node.name}_zero_point", zeros)
    return module.graph.call_function(weight.node.target, (integers, scale, zero, axis, *rest[1:]))


def _bias(module: fx.GraphModule, call: Call, conv: Conv) -> fx.Node | None:
    """A node that gives the bias, repeated for the convolution's output channels."""
    if call.bias is None:
        return None
    channels = bias_split(conv)(torch.arange(conv.out_channels))
    index = add_buffer(module, f"{call.node.name}_channels", channels)
    return module.graph.call_function(torch.ops.aten.index_select.default, (call.bias, 0, index))


def _requantise(graph: fx.Graph, conv: fx.Node, tail: QuantisedTail) -> fx.Node:
    """The relu, quantize and dequantize nodes behind one convolution."""
    value = conv if tail.relu is None else graph.call_function(torch.ops.aten.relu.default, (conv,))
    numbers: Sequence[Any] = tail.quantize.args[1:]
    stored = graph.call_function(tail.quantize.target, (value, *numbers))
    return graph.call_function(torch.ops.quantized_decomposed.dequantize_per_tensor.default, (stored, *numbers))
