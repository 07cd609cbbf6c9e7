"""Programs that TFLite's operators cannot say, or not with the same bits."""

from __future__ import annotations

from collections.abc import Iterator

from splitdeconv.deconv.ops import Add, Conv, DepthToSpace, Difference, NativeDeconv, Pad, Shape, Slice, Transpose
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.written import is_requantised
from splitdeconv.formats.tflite.padding import LARGEST_PAD_RANK, can_pad

CUSTOM = "TFLite does not define the custom operator, so that only runtimes which know it run the model"
LARGEST_RANK = 6  # of LiteRT's TRANSPOSE, and of its ADD where sizes are repeated


def refusal(program: Program, numerics: str, *, left_out: bool) -> str | None:
    """Why the program is not offered for a site, or None.

    Args:
        program: NHWC.
        numerics: ``exact``, ``fused`` or ``requantised``.
        left_out: whether the runtime has other kernels for the original than for the program.
    """
    quant = program.deconv.quant
    native = next((step.op for step in program.steps if isinstance(step.op, NativeDeconv)), None)
    if native is not None and native.simplified:
        return composite_refusal(program.deconv)
    if native is not None:
        return CUSTOM if program.deconv.custom else None
    if left_out and quant is not None and quant.activation == "float32":
        why = "no delegate takes the original, and LiteRT's own kernels quantise its input in another way"
        return why + _advice(program.deconv)
    if left_out and numerics != "fused" and not is_requantised(program.deconv):
        return (
            "no delegate takes the original, and LiteRT's own kernels round it otherwise than its rewritten form "
            f"(by 1 LSB), so its bits cannot be kept: --numerics fused allows it{_advice(program.deconv)}"
        )
    if quant is not None and any(isinstance(step.op, Add) for step in program.steps):
        return "it adds partial sums, which would requantise twice"
    if (reason := _beyond_operators(program)) is not None:
        return reason
    moves = any(isinstance(step.op, DepthToSpace) for step in program.steps)
    if quant is not None and quant.activation == "int16" and moves:
        return "LiteRT's DEPTH_TO_SPACE does not take int16"
    if quant is None or quant.activation != "float32":
        return None
    return (
        "it crops the input, which changes the range that hybrid kernels quantise it by"
        if _cuts_input(program)
        else None
    )


def _advice(deconv: Deconv) -> str:
    """What may help where sizes are open: delegates leave what computes its output shape."""
    return "; --input-shape fixes its sizes" if None in (deconv.batch, *deconv.in_sizes) else ""


def _beyond_operators(program: Program) -> str | None:
    """What LiteRT's operators cannot do of a program, or None."""
    if any(isinstance(step.op, DepthToSpace) and step.op.order == "channel_major" for step in program.steps):
        return "LiteRT's DEPTH_TO_SPACE takes the channels of groups in another order"
    if any(isinstance(step.op, Transpose) and len(step.op.perm) > LARGEST_RANK for step in program.steps):
        return f"LiteRT transposes at most {LARGEST_RANK} axes"
    made = program.shapes()[len(program.in_shapes) :]
    if any(
        isinstance(step.op, Add | Difference) and len(shape) > LARGEST_RANK
        for step, shape in zip(program.steps, made, strict=True)
    ):
        return f"LiteRT adds maps of at most {LARGEST_RANK} axes"
    if not all(can_pad(op, shape) for op, shape in _pads(program)):
        return f"LiteRT pads at most {LARGEST_PAD_RANK} axes, and joins them only where their sizes are fixed"
    return None


def composite_refusal(deconv: Deconv) -> str | None:
    """Why what is none in the model cannot be one TRANSPOSE_CONV, or None."""
    if len(deconv.axes) != 2 or deconv.groups > 1 or any(axis.dilation > 1 for axis in deconv.axes):
        return "LiteRT's TRANSPOSE_CONV has two axes, no groups and no dilation"
    if deconv.quant is not None:
        return "LiteRT rounds the results of TRANSPOSE_CONV otherwise than those of convolutions"
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
