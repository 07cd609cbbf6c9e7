"""From a layer and the name of a form to the work of a processor, or the reason why not."""

from __future__ import annotations

from functools import lru_cache

from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.layers import plain_work
from splitdeconv.accelerator.lowered import (
    UNKNOWN_SIZE,
    cropped_split,
    full_split,
    phase_by_phase,
    program_work,
    refuse,
    scattered,
)
from splitdeconv.accelerator.work import LayerWork
from splitdeconv.deconv.network import Layer
from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import UsageError
from splitdeconv.lowerings import LOWERINGS, candidates, lower

ZERO_INSERT = "zero_insert"
FULL = "split:full"
CROPPED = "split:cropped"
NATIVE = "native"

PAPER_FORMS = (ZERO_INSERT, FULL, CROPPED)
FORMS = (*PAPER_FORMS, "split:union", "split_phases", "split_rows", "split_row_groups", NATIVE)


def layer_work(layer: Layer, arch: Architecture, form: str) -> LayerWork | str:
    """The work of ``layer`` in ``form``, or why there is none.

    Args:
        layer: a deconv, or any other layer, which has one form only.
        arch: says whether and how the processor runs a deconv by itself.
        form: a candidate's name (``split:full``), or ``split:cropped``.

    Raises:
        UsageError: there is no such form.
    """
    if not isinstance(layer.spec, Deconv):
        return plain_work(layer)
    if None in layer.spec.in_sizes:
        return UNKNOWN_SIZE
    if form == NATIVE:
        return _native(layer, arch.deconv)
    return _lowered(layer, form)


@lru_cache(maxsize=1024)
def _native(layer: Layer, deconv: str) -> LayerWork | str:
    spec = layer.spec
    assert isinstance(spec, Deconv), "only deconvs come here"
    if deconv == "scattered":
        return scattered(spec, layer.nonzero)
    if deconv == "phases":
        return phase_by_phase(spec, layer.nonzero)
    return "the processor has no deconv of its own"


@lru_cache(maxsize=4096)
def _lowered(layer: Layer, form: str) -> LayerWork | str:
    spec = layer.spec
    assert isinstance(spec, Deconv), "only deconvs come here"
    if form in (FULL, CROPPED):
        return (full_split if form == FULL else cropped_split)(spec, layer.nonzero)
    found, refused = candidates(spec, "NHWC")
    for candidate in (each for each in found if each.matches(form)):
        program = lower(spec, "NHWC", candidate)
        return refuse(program) or program_work(program, layer.nonzero, str(candidate))
    for refusal in refused:
        if refusal.candidate.lowering == form.split(":", maxsplit=1)[0]:
            return refusal.reason
    if form.split(":", maxsplit=1)[0] not in LOWERINGS:
        raise UsageError(f"no form is called '{form}'; there are {', '.join(FORMS)}")
    return f"this deconv has no candidate '{form}'"
