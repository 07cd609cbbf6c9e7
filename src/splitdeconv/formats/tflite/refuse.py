"""Programs that TFLite's operators cannot say, or not with the same bits."""

from __future__ import annotations

from collections.abc import Iterator

from splitdeconv.deconv.ops import Add, Conv, DepthToSpace, NativeDeconv, Pad, Program, Shape, Slice
from splitdeconv.formats.tflite.padding import LARGEST_PAD_RANK, can_pad


def refusal(program: Program, numerics: str, *, left_out: bool) -> str | None:
    """Why the program is not offered for a site, or None.

    Args:
        program: NHWC.
        numerics: ``exact`` or ``fused``.
        left_out: whether the runtime has other kernels for the original than for the program.
    """
    quant = program.deconv.quant
    if any(isinstance(step.op, NativeDeconv) for step in program.steps):
        return None
    if left_out and quant is not None and quant.activation == "float32":
        return "no delegate takes the original, and LiteRT's own kernels quantise its input in another way"
    if left_out and numerics == "exact":
        return (
            "no delegate takes the original, and LiteRT's own kernels round it otherwise than its rewritten form "
            "(by 1 LSB), so its bits cannot be kept: --numerics fused allows it"
        )
    if quant is not None and any(isinstance(step.op, Add) for step in program.steps):
        return "it adds partial sums, which would requantise twice"
    if not all(can_pad(op, shape) for op, shape in _pads(program)):
        return f"LiteRT pads at most {LARGEST_PAD_RANK} axes, and joins them only where their sizes are fixed"
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


def unportable(program: Program) -> str | None:
    """What some of LiteRT's sets of kernels lack."""
    quant = program.deconv.quant
    moves = any(isinstance(step.op, DepthToSpace) for step in program.steps)
    if quant is not None and quant.activation == "int8" and moves:
        return "LiteRT's reference kernels have no DEPTH_TO_SPACE of int8 (version 2)"
    return None


def _pads(program: Program) -> Iterator[tuple[Pad, Shape]]:
    """Its pads of maps, with the shapes that they pad; those of convolutions have four axes."""
    shapes = program.shapes()
    return ((step.op, shapes[step.inputs[0]]) for step in program.steps if isinstance(step.op, Pad))


def _cuts_input(program: Program) -> bool:
    """Whether a convolution sees less than the whole input."""
    from_input = {0}
    for number, step in enumerate(program.steps):
        if isinstance(step.op, Slice) and from_input & set(step.inputs):
            return True
        if not isinstance(step.op, Conv) and from_input & set(step.inputs):
            from_input.add(number + 1)
    return False
