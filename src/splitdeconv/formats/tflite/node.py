"""A deconv of a TFLite model that can be rewritten."""

from __future__ import annotations

from dataclasses import dataclass

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Weights
from splitdeconv.deconv.written import sums_weights
from splitdeconv.formats.model import Site
from splitdeconv.formats.tflite.constants import folded
from splitdeconv.formats.tflite.epilogue import Epilogue
from splitdeconv.formats.tflite.geometry import as_stored_kernel
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.operands import Constant, float_values
from splitdeconv.formats.tflite.stretched import StretchedTensor
from splitdeconv.formats.tflite.units import quantisation


@dataclass(frozen=True, slots=True)
class Node:
    """One transposed convolution, or convolution of a stretched map, that can be rewritten.

    Attributes:
        id: unique in the model.
        graph: the subgraph.
        operator: its index there.
        deconv: its geometry, with what its epilogue crops already taken off.
        source: tensor that the rewritten deconv reads.
        operand: the map that the operator reads: the source, or the stretched map.
        output: output tensor of the operator itself.
        kernel, bias: its constants, as the operator has them.
        epilogue: the operators after it that join it.
        notes: what the user should know.
        stretched: the map that is stretched in front of it, or None for a transposed convolution.
    """

    id: str
    graph: Graph
    operator: int
    deconv: Deconv
    source: int
    operand: int
    output: int
    kernel: Constant
    bias: Constant | None
    epilogue: Epilogue
    notes: tuple[str, ...]
    stretched: StretchedTensor | None = None

    @property
    def result(self) -> int:
        """Tensor that the rewritten deconv makes."""
        return self.epilogue.result

    @property
    def opens_sums(self) -> bool:
        """Whether its weights stand behind a DEQUANTIZE, and sums of them do not fit into their stored type."""
        opened = self.kernel.operand != self.kernel.tensor
        return opened and self.stretched is not None and sums_weights(self.deconv)

    def weights(self) -> Weights:
        """Its values as stored: kernel IOHW, and the bias with what the epilogue adds to it."""
        kernel = folded(self.graph, self.kernel.tensor)
        assert kernel is not None, "nodes have constant kernels"
        if self.opens_sums:
            kernel = float_values(self.graph, self.kernel)
        kernel = as_stored_kernel(self.graph.name(self.operator), kernel)
        if self.stretched is not None:
            kernel = self.stretched.own_kernel(kernel)
        bias = None if self.bias is None else folded(self.graph, self.bias.tensor)
        bias = None if bias is None else bias.reshape(-1)  # a folded batch norm leaves it as (1, 1, 1, O)
        bias = self.epilogue.add_to(bias, self.deconv.out_channels)
        quant = None
        if self.deconv.quant is not None:
            quant = quantisation(self.graph, self.operand, self.kernel.tensor, self.result)
        return Weights(kernel, bias, quant)


def node_of(site: Site) -> Node:
    """The operator that a site is."""
    (node,) = site.origin.nodes
    assert isinstance(node, Node), "a site of a TFLite model"
    return node
