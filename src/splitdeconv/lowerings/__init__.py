"""The exact lowerings. One new module and one line in ``LOWERINGS`` make a new one.

Other packages bring theirs by entry points of the group ``splitdeconv.lowerings``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from splitdeconv import plugins
from splitdeconv.deconv.ops import Layout, Relayout
from splitdeconv.deconv.program import Program, Step
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.written import goes_before, without_beside
from splitdeconv.errors import SplitdeconvError, UsageError
from splitdeconv.lowerings.beside import with_beside
from splitdeconv.lowerings.candidate import RELAYOUT, Candidate, Refusal
from splitdeconv.lowerings.col2im import Col2Im
from splitdeconv.lowerings.convolve_first import ConvolveFirst
from splitdeconv.lowerings.differences import Differences
from splitdeconv.lowerings.lowering import Lowering
from splitdeconv.lowerings.native import Native
from splitdeconv.lowerings.separable import Separable
from splitdeconv.lowerings.split import Split
from splitdeconv.lowerings.split_phases import SplitPhases
from splitdeconv.lowerings.split_rows import SplitRowGroups, SplitRows
from splitdeconv.lowerings.zero_insert import ZeroInsert

LOWERINGS: dict[str, Lowering] = {
    lowering.name: lowering
    for lowering in (
        Native(),
        ZeroInsert(),
        Split(),
        SplitPhases(),
        SplitRows(),
        SplitRowGroups(),
        Separable(),
        ConvolveFirst(),
        Differences(),
        Col2Im(),
    )
}

__all__ = ["LOWERINGS", "Lowering", "candidates", "candidates_in", "find_lowering", "lower"]


def find_lowering(name: str) -> Lowering:
    """The lowering called ``name``.

    Raises:
        UsageError: there is none of that name.
    """
    try:
        return LOWERINGS[name]
    except KeyError:
        raise UsageError(f"no lowering is called '{name}'; there are {', '.join(LOWERINGS)}") from None


def candidates(deconv: Deconv, layout: Layout) -> tuple[list[Candidate], list[Refusal]]:
    """Every candidate of every lowering for ``deconv``, and the lowerings that refuse it with their reasons."""
    found: list[Candidate] = []
    refused: list[Refusal] = []
    own = without_beside(deconv)
    for lowering in LOWERINGS.values():
        if lowering.only_written_out and deconv.written_out is None:
            continue
        reason = _refusal(lowering, own)
        if reason is None:
            found.extend(_written(lowering.candidates(own, layout), deconv))
            refused.extend(lowering.refuse_windows(own))
        else:
            refused.append(Refusal(Candidate(lowering.name), reason))
    return found, refused


def _refusal(lowering: Lowering, deconv: Deconv) -> str | None:
    """Why a lowering does not apply; none splits what goes before the upsampling whole."""
    if goes_before(deconv) and not isinstance(lowering, Native | ConvolveFirst):
        return "all copies of a pixel meet the same taps, so that the phases are equal: see convolve_first"
    return lowering.refuse(deconv)


def candidates_in(deconv: Deconv, layout: str) -> list[Candidate]:
    """Every candidate for ``deconv`` that works in ``layout`` inside, whatever the layout of the model's maps is."""
    return [replace(each, layout=layout) for each in candidates(deconv, _program_layout(layout))[0]]


def _program_layout(layout: str) -> Layout:
    """The layout that a program is written for: that of its output."""
    return "NHWC" if layout == "NHWC" else "NCHW"


def _written(plain: Sequence[Candidate], deconv: Deconv) -> list[Candidate]:
    """Each candidate in each form of a quantised convolution; the runtime's own deconv has none."""
    forms = () if deconv.quant is None else deconv.quant.forms
    if not forms:
        return list(plain)
    return [
        replace(candidate, quant=form)
        for candidate in plain
        for form in (("",) if candidate.lowering == Native.name else forms)
    ]


@lru_cache(maxsize=4096)  # models repeat their layers, and every candidate is asked for more than once
def lower(deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
    """The program of ``candidate``, which must be one of :func:`candidates`, maybe with ``relayout`` after."""
    lowering = find_lowering(candidate.lowering)
    layout = _program_layout(candidate.layout) if candidate.layout else layout
    as_it_is = candidate.lowering == Native.name and not candidate.window  # in any layout
    if deconv.written_out and deconv.written_out.beside and not as_it_is:
        program = with_beside(lowering.lower(without_beside(deconv), layout, candidate), deconv)
    else:
        program = lowering.lower(deconv, layout, candidate)
    if candidate.after == RELAYOUT:
        program = replace(program, steps=(*program.steps, Step(Relayout(), (program.output,))))
    return replace(program, name=str(candidate), quant=candidate.quant, inserts_zeros=lowering.inserts_zeros)


def _of_other_packages() -> dict[str, Lowering]:
    """By name; with a warning for one that cannot be loaded, which must not stop everything else."""
    others: dict[str, Lowering] = {}
    known = plugins.registry("lowering", {})
    for name in known:
        try:
            lowering: Lowering = plugins.load("lowering", name, known)()
        except SplitdeconvError as error:
            warnings.warn(str(error), stacklevel=2)
        else:
            others[lowering.name] = lowering
    return others


LOWERINGS |= {name: lowering for name, lowering in _of_other_packages().items() if name not in LOWERINGS}
