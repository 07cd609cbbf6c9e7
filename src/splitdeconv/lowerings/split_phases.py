"""One convolution per phase, without a single zero-filled tap."""

from __future__ import annotations

from itertools import product
from math import prod

from splitdeconv.deconv.ops import Layout
from splitdeconv.deconv.phases import merge
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering, too_many
from splitdeconv.lowerings.rearrange import from_phases, phase_forms
from splitdeconv.lowerings.split import leaves_phases_out


class SplitPhases(Lowering):
    """``prod(strides)`` convolutions, each with its own taps only, then interleaved.

    Before: deconv ``(N, I, *sizes)`` → ``(N, C, *out_sizes)``.
    After: for each phase Conv ``(N, C, *Q)``; then the rearrangement ``(N, C, *(Q·s))``, Slice.
    Source: this project.
    """

    name = "split_phases"
    source = "splitdeconv"
    summary = "one convolution per phase, no zero taps, then interleaved"

    def refuse(self, deconv: Deconv) -> str | None:
        if max(deconv.strides) == 1:
            return "all strides are 1: there is only one phase, which split already is"
        if leaves_phases_out(deconv):
            return "some phases have no taps, and their convolutions would compute zeros: split:taps leaves them out"
        return too_many(prod(deconv.strides), "convolutions")

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        return tuple(Candidate(self.name, form=form) for form in phase_forms(deconv, layout))

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        phases = product(*(axis.phases() for axis in deconv.axes))
        maps = [build.convolve(build.x, [merge([phase]) for phase in each], "block_major") for each in phases]
        whole = from_phases(build, maps, candidate.form)
        return build.program(build.crop_output(whole, [0] * len(deconv.axes)))
