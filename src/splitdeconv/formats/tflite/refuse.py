"""Programs that TFLite's operators cannot say, or not with the same bits."""

from __future__ import annotations

from splitdeconv.deconv.ops import Add, Conv, DepthToSpace, NativeDeconv, Program, Slice
from splitdeconv.formats.tflite.nodes import Node


def refusal(node: Node, program: Program, numerics: str) -> str | None:
    """Why the program is not offered for a site, or None."""
    quant = program.deconv.quant
    if any(isinstance(step.op, NativeDeconv) for step in program.steps):
        return None
    if node.rounds_elsewhere and numerics == "exact":
        return (
            "XNNPACK leaves the original to LiteRT's other kernels, which round differently (1 LSB), so its bits "
            "cannot be kept: --numerics fused allows it"
        )
    if quant is not None and any(isinstance(step.op, Add) for step in program.steps):
        return "it adds partial sums, which would requantise twice"
    moves = any(isinstance(step.op, DepthToSpace) for step in program.steps)
    if quant is not None and quant.activation == "int16" and moves:
        return "LiteRT's DEPTH_TO_SPACE does not take int16"
    if quant is None or quant.activation != "float32":
        return None
    if _cuts_input(program):
        return "it crops the input, which changes the range that hybrid kernels quantise it by"
    if any(isinstance(step.op, Conv) and set(step.op.kernel) == {1} for step in program.steps):
        return "LiteRT quantises a hybrid 1×1 convolution's input pixel by pixel, a deconv's as a whole"
    return None


def _cuts_input(program: Program) -> bool:
    """Whether a convolution sees less than the whole input."""
    from_input = {0}
    for number, step in enumerate(program.steps):
        if isinstance(step.op, Slice) and from_input & set(step.inputs):
            return True
        if not isinstance(step.op, Conv) and from_input & set(step.inputs):
            from_input.add(number + 1)
    return False
