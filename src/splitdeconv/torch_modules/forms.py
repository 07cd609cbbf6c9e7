"""Which form a deconv takes in PyTorch: by a documented rule, or by name."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

from splitdeconv.deconv.ops import Layout
from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import UsageError
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.torch_modules.interpret import Form, FormLayout

NOMINAL_SIZE = 16  # pixels on each axis: between the first and the last layers of the usual decoders
LAYOUTS: tuple[FormLayout, ...] = ("NCHW", "NHWC", "NHWC-NCHW")


@lru_cache(maxsize=4096)
def find_form(deconv: Deconv, name: str | None, channels_last: bool) -> Form:
    """The form for ``deconv``.

    Args:
        deconv: its sizes are not looked at.
        name: ``lowering[:window][:form][@layout]``, with a layout of ``LAYOUTS``, or None for the rule of
            :func:`default_form`. Without a layout the program works in the memory format of the input.
        channels_last: whether the input (or the parameter) is in channels-last memory format.

    Raises:
        UsageError: no such lowering, or it refuses this deconv; the message says why.
    """
    own: Layout = "NHWC" if channels_last else "NCHW"
    if name is None:
        return default_form(deconv, own)
    text, _, layout = name.partition("@")
    if layout and layout not in LAYOUTS:
        raise UsageError(f"lowering '{name}': no layout is called '{layout}'; there are {', '.join(LAYOUTS)}")
    wanted = next((each for each in LAYOUTS if each == layout), own)
    found, refused = candidates(deconv, "NHWC" if wanted == "NHWC" else "NCHW")
    matching = [candidate for candidate in found if candidate.matches(text)]
    if matching:
        return Form(matching[0], wanted)
    reasons = [refusal.reason for refusal in refused if refusal.candidate.lowering == text.split(":")[0]]
    if reasons:
        raise UsageError(f"lowering '{name}' does not apply to {deconv.describe()}: {reasons[0]}")
    raise UsageError(f"no form is called '{name}'; for {deconv.describe()} there are {', '.join(map(str, found))}")


def default_form(deconv: Deconv, layout: Layout) -> Form:
    """The rule without measuring: one merged convolution with the fewest multiply-accumulates.

    ``split`` with the window (crop, union or the paper's full one) that has the fewest multiply-accumulates over a map
    of ``NOMINAL_SIZE`` pixels on each axis; of equal ones the one that moves fewer elements. Channels go to space by
    ``pixel_shuffle`` where the strides allow it, and by reshape, transpose, reshape otherwise.
    """
    nominal = _nominal(deconv)
    found = [each for each in candidates(nominal, layout)[0] if each.lowering == "split"]
    return Form(min(found, key=lambda each: _work(nominal, layout, each)), layout)


def inference_form(deconv: Deconv, channels_last: bool) -> Form:
    """The rule for inference in float32 on the CPU, where :mod:`splitdeconv.torch_modules.packed` applies.

    PyTorch's own deconv where the rule's form was not faster beyond the noise (table in `docs/pytorch.md`): with two
    or three axes and no stride above 2 if taps overlap, or if the maps are channels-last. Else :func:`default_form`, on
    contiguous maps with the convolutions in channels-last memory where taps overlap.
    """
    overlaps = any(axis.extent > axis.stride for axis in deconv.axes)
    if len(deconv.axes) > 1 and max(deconv.strides) <= 2 and (overlaps or channels_last):
        return Form(NATIVE, "NCHW")
    form = default_form(deconv, "NHWC" if channels_last else "NCHW")
    return Form(form.candidate, "NHWC-NCHW") if overlaps and not channels_last else form


def _nominal(deconv: Deconv) -> Deconv:
    """The same deconv over a map of nominal size, so that neither sizes nor output pads change the choice."""
    axes = [dataclasses.replace(axis, output_pad=0, in_size=None) for axis in deconv.axes]
    least = [max(0, -axis.tail) // axis.stride + 1 for axis in axes]
    sized = tuple(axis.with_in_size(NOMINAL_SIZE + size) for axis, size in zip(axes, least, strict=True))
    return dataclasses.replace(deconv, axes=sized, batch=1)


def _work(deconv: Deconv, layout: Layout, candidate: Candidate) -> tuple[int, int, int]:
    program = lower(deconv, layout, candidate)
    return program.macs(), program.moved(), len(program.steps)
