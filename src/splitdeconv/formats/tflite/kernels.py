"""Which of LiteRT's kernels take a deconv: asked, not guessed."""

from __future__ import annotations

from collections.abc import Sequence

from splitdeconv.deconv.network import Compilable
from splitdeconv.formats.tflite.node import Node
from splitdeconv.targets.litert import LiteRt
from splitdeconv.targets.target import CompileError, Target


def left_out(nodes: Sequence[Node], model: Compilable, runner: Target) -> frozenset[str]:
    """Names of the deconvs for which the runtime takes other kernels than for their rewritten forms.

    A delegate (XNNPACK) that does not take a TRANSPOSE_CONV may take its convolutions. LiteRT's built-in kernels, too,
    round the results of 8-bit convolutions otherwise than those of 8-bit deconvs, and have other rules for the ranges
    of hybrid ones. In 16 bits, and in the reference kernels, integers are rounded by one function. A convolution of a
    stretched map is one before and after.

    Args:
        nodes: of the model.
        model: as it came.
        runner: what was named as its runtime.
    """
    quantised = [node for node in nodes if node.deconv.quant is not None and node.stretched is None]
    if not isinstance(runner, LiteRt):
        return frozenset()
    alike = ("int16", "int8", "uint8") if runner.kernels == "reference" else ("int16",)
    asked = [node for node in quantised if node.deconv.quant and node.deconv.quant.activation not in alike]
    if not asked:
        return frozenset()
    try:
        read = runner.compile(model, whole=True).read_by_delegates
    except CompileError:
        return frozenset()
    return frozenset(node.id for node in asked if node.graph.number == 0 and node.kernel.operand not in read)
