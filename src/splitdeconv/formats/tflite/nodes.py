"""The transposed convolutions of a model, as its operators state them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.deconv.weights import Weights
from splitdeconv.errors import InputError
from splitdeconv.formats.tflite.epilogue import Epilogue, find_epilogue
from splitdeconv.formats.tflite.graph import Graph, text
from splitdeconv.formats.tflite.schema import ACTIVATIONS, tfl
from splitdeconv.formats.tflite.shapes import shape_value
from splitdeconv.formats.tflite.units import quantisation
from splitdeconv.results.plan import Skipped

_FLOATS = ("float32", "float16")
_QUANTISED = {("int8", "int8"), ("uint8", "uint8"), ("int16", "int8")}


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant operand.

    Attributes:
        tensor: index of the tensor that holds the values.
        operand: index of the tensor that the operator reads: the same, or what a DEQUANTIZE makes of it.
    """

    tensor: int
    operand: int


@dataclass(frozen=True, slots=True)
class Node:
    """One TRANSPOSE_CONV that can be rewritten.

    Attributes:
        id: unique in the model.
        graph: the subgraph.
        operator: its index there.
        deconv: its geometry, with what its epilogue crops already taken off.
        source: input tensor.
        output: output tensor of the operator itself.
        kernel, bias: its constants; tensors OHWI and (O,).
        epilogue: the operators after it that join it.
        notes: what the user should know.
    """

    id: str
    graph: Graph
    operator: int
    deconv: Deconv
    source: int
    output: int
    kernel: Constant
    bias: Constant | None
    epilogue: Epilogue
    notes: tuple[str, ...]

    @property
    def result(self) -> int:
        """Tensor that the rewritten deconv makes."""
        return self.epilogue.result

    def weights(self) -> Weights:
        """Its values as stored: kernel IOHW, and the bias with what the epilogue adds to it."""
        kernel = self.graph.content(self.kernel.tensor)
        assert kernel is not None, "nodes have constant kernels"
        bias = None if self.bias is None else self.graph.content(self.bias.tensor)
        bias = None if bias is None else bias.reshape(-1)  # a folded batch norm leaves it as (1, 1, 1, O)
        bias = self.epilogue.add_to(bias, self.deconv.out_channels)
        quant = None
        if self.deconv.quant is not None:
            quant = quantisation(self.graph, self.source, self.kernel.tensor, self.result)
        return Weights(kernel.transpose(3, 0, 1, 2), bias, quant)


def find_nodes(root: Any, numerics: str) -> list[Node | Skipped]:
    """All deconvs of all subgraphs, in order.

    Raises:
        InputError: a deconv contradicts its input.
    """
    return [_Reader(graph, operator, name).node(numerics) for name, graph, operator in named_operators(root)]


def named_operators(root: Any) -> Iterator[tuple[str, Graph, int]]:
    """Every deconv with its site's name, which is unique: name, subgraph, operator."""
    taken: set[str] = set()
    for number in range(len(root.subgraphs)):
        graph = Graph(root, number)
        for operator in range(len(graph.operators)):
            if _is_deconv(graph.name(operator)):
                name = _unique(_name(graph, operator), taken)
                taken.add(name)
                yield name, graph, operator


def nodes_of(root: Any, numerics: str) -> Iterator[Node]:
    """The deconvs that can be rewritten."""
    return (node for node in find_nodes(root, numerics) if isinstance(node, Node))


def _is_deconv(name: str) -> bool:
    """By the operator's name; custom operators choose their own."""
    low = name.lower()
    return ("transpose" in low and "conv" in low) or "deconv" in low


def _name(graph: Graph, operator: int) -> str:
    """First of the names that the converter joined for the output."""
    outputs = graph.outputs_of(operator)
    name = text(graph.tensors[outputs[0]].name).split(";")[0] if outputs else ""
    return name or f"subgraph{graph.number}/operator{operator}"


def _unique(name: str, taken: set[str]) -> str:
    number, candidate = 1, name
    while candidate in taken:
        number += 1
        candidate = f"{name}#{number}"
    return candidate


class _No(Exception):  # noqa: N818  # not an error: a reason on its way out
    """Why a deconv cannot be rewritten."""


class _Reader:
    """Reads one operator; raises ``_No`` with the reason where it cannot be rewritten."""

    def __init__(self, graph: Graph, operator: int, name: str) -> None:
        self.graph, self.operator, self.name = graph, operator, name

    def node(self, numerics: str) -> Node | Skipped:
        try:
            return self._node(numerics)
        except _No as no:
            return Skipped(self.name, self.graph.describe(), str(no))

    def _node(self, numerics: str) -> Node:
        kind = self.graph.name(self.operator)
        if kind == "CONV_3D_TRANSPOSE":
            raise _No("CONV_3D_TRANSPOSE is not rewritten: only deconvs of two spatial axes are")
        if kind != "TRANSPOSE_CONV":
            raise _No(f"custom operator '{kind}': its meaning is not part of the TFLite format, so it is left alone")
        operands = self.graph.inputs_of(self.operator)
        if len(operands) < 3 or min(operands[:3]) < 0 or not self.graph.outputs_of(self.operator):
            raise InputError(
                f"{self.name}: TRANSPOSE_CONV has {len(operands)} inputs, wanted output_shape, weights, input"
            )
        shape, kernel_operand, source = operands[:3]
        output = self.graph.outputs_of(self.operator)[0]
        kernel = self._constant(kernel_operand, "weights")
        bias = self._constant(operands[3], "bias") if len(operands) > 3 and operands[3] >= 0 else None
        deconv, notes = self._deconv(shape, kernel.tensor, source, output, bias)
        epilogue = find_epilogue(self.graph, self.operator, numerics)
        deconv = epilogue.applied(deconv)
        return Node(self.name, self.graph, self.operator, deconv, source, output, kernel, bias, epilogue, notes)

    def _constant(self, operand: int, what: str) -> Constant:
        if self.graph.content(operand) is not None:
            return Constant(operand, operand)
        producer = self.graph.producer(operand)
        if producer is not None and self.graph.name(producer) == "DEQUANTIZE":
            (tensor, *_) = self.graph.inputs_of(producer)
            if self.graph.content(tensor) is not None:
                return Constant(tensor, operand)
        found = self.graph.tensors[operand]
        if found.sparsity is not None:
            raise _No(f"its {what} are stored sparse")
        if producer is None and self.graph.root.buffers[found.buffer].data is not None:
            raise _No(f"its {what} are of type {self.graph.type_name(operand)}, which is not read here")
        raise _No(f"its {what} are not constant: they are {'an input' if producer is None else 'computed'}")

    def _deconv(
        self, shape: int, kernel: int, source: int, output: int, bias: Constant | None
    ) -> tuple[Deconv, tuple[str, ...]]:
        options = self.graph.operators[self.operator].builtinOptions
        if options is None or not isinstance(options, tfl.TransposeConvOptionsT):
            raise InputError(f"{self.name}: TRANSPOSE_CONV without its options, wanted strides and padding")
        if options.fusedActivationFunction not in ACTIVATIONS:
            raise _No(f"fused activation {options.fusedActivationFunction} is none that CONV_2D has")
        batch, *in_sizes, in_channels = self._four(self.graph.shape(source), "input")
        out_channels, *kernel_sizes, kernel_in = self._four(self.graph.shape(kernel), "weights")
        if in_channels != kernel_in:
            raise InputError(
                f"{self.name}: weights have {kernel_in} input channels, the input has {in_channels} (NHWC)"
            )
        assert out_channels is not None, "constants have known shapes"
        assert in_channels is not None, "constants have known shapes"
        out_sizes, notes = self._out_sizes(shape, output, batch, out_channels)
        axes = tuple(
            self._axis(in_size, out_size, kernel_size, stride, options.padding == tfl.Padding.SAME)
            for in_size, out_size, kernel_size, stride in zip(
                in_sizes, out_sizes, kernel_sizes, (options.strideH, options.strideW), strict=True
            )
        )
        dtype, quant = self._types(kernel, source, output)
        return Deconv(axes, in_channels, out_channels, 1, batch, dtype, bias is not None, quant), notes

    def _four(self, shape: tuple[int | None, ...], what: str) -> tuple[int | None, ...]:
        if len(shape) != 4:
            raise InputError(f"{self.name}: {what} has {len(shape)} axes, wanted 4")
        return shape

    def _out_sizes(
        self, shape: int, output: int, batch: int | None, out_channels: int
    ) -> tuple[list[int], tuple[str, ...]]:
        """Height and width; from the constant or computed output shape, or from the recorded one."""
        value = shape_value(self.graph, shape)
        notes: tuple[str, ...] = ()
        recorded = self.graph.shape(output)
        if value is None or len(value) != 4:
            value = list(recorded)
            notes = (
                f"its output shape is {'computed' if self.graph.producer(shape) is not None else 'an input'} of "
                f"the model; the recorded shape {value} is taken for good",
            )
        if len(value) != 4 or None in value[1:3]:
            raise _No("its output shape is computed from sizes that the model leaves open")
        if value[0] is not None and batch is not None and value[0] != batch:
            raise InputError(f"{self.name}: output shape {value} has another batch than the input ({batch})")
        if value[3] not in (None, out_channels):
            raise InputError(f"{self.name}: output shape {value} has another number of channels than {out_channels}")
        return [size for size in value[1:3] if size is not None], notes

    def _axis(self, in_size: int | None, out_size: int, kernel: int | None, stride: int, same: bool) -> Axis:
        if in_size is None:
            raise _No("its input's height or width is open, and its output shape is fixed")
        assert kernel is not None, "constants have known shapes"
        if stride < 1:
            raise InputError(f"{self.name}: stride is {stride}, wanted at least 1")
        forward = -(-out_size // stride) if same else (out_size - kernel + stride) // stride
        if forward != in_size:
            raise _No(f"its output size {out_size} does not belong to input size {in_size}, which LiteRT refuses")
        try:
            return same_axis(in_size, out_size, kernel, stride, same)
        except ValueError as error:
            raise InputError(f"{self.name}: {error}") from None

    def _types(self, kernel: int, source: int, output: int) -> tuple[str, Quant | None]:
        """Arithmetic and quantisation; the type of the weights decides how they meet the input."""
        activation, weight = self.graph.type_name(source), self.graph.type_name(kernel)
        operand = self.graph.type_name(self.graph.inputs_of(self.operator)[1])
        if self.graph.type_name(output) != activation:
            raise _No(f"its input is {activation}, its output {self.graph.type_name(output)}")
        if activation == "float32" and operand in _FLOATS:
            return "float32", None
        quantization = self.graph.tensors[kernel].quantization
        scales = 0 if quantization is None or quantization.scale is None else len(quantization.scale)
        if scales > 1 and quantization.quantizedDimension != 0:
            raise _No(f"its weights are quantised along axis {quantization.quantizedDimension}, not the outputs' (0)")
        if activation == "float32" and weight == "int8" and scales:
            return "float32", Quant("float32", "int8", scales > 1)
        if (activation, weight) not in _QUANTISED:
            raise _No(f"activations of {activation} with weights of {weight} are not supported")
        if not scales or not all(_scale_count(self.graph.tensors[tensor]) == 1 for tensor in (source, output)):
            raise _No("its quantisation is incomplete")
        return activation, Quant(activation, weight, scales > 1)


def _scale_count(tensor: Any) -> int:
    scale = None if tensor.quantization is None else tensor.quantization.scale
    return 0 if scale is None else len(scale)


def same_axis(in_size: int, out_size: int, kernel: int, stride: int, same: bool) -> Axis:
    """One axis of a TRANSPOSE_CONV, padded as its forward convolution over the output would be.

    Source: ``ComputePaddingHeightWidth`` in LiteRT's ``kernels/padding.h``: half of what is missing goes to the begin.

    Raises:
        ValueError: sizes that no deconv has.
    """
    forward = -(-out_size // stride) if same else (out_size - kernel + stride) // stride
    pad_begin = max(0, (forward - 1) * stride + kernel - out_size) // 2
    left = (in_size - 1) * stride + kernel - pad_begin - out_size
    return Axis(kernel, stride, 1, pad_begin, max(0, left), max(0, -left), in_size)
