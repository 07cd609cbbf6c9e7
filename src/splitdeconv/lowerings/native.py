"""Leave the deconv to the runtime."""

from __future__ import annotations

from splitdeconv.lowerings.base import Builder
from splitdeconv.ops import Layout, NativeDeconv, Program
from splitdeconv.results import Candidate
from splitdeconv.spec import Deconv


class Native:
    """The runtime's own deconv, as the model has it.

    Before: ConvTranspose.
    After: the same node.
    """

    name = "native"
    source = "the runtime"
    summary = "the runtime's own deconv"

    def refuse(self, deconv: Deconv) -> str | None:
        return None

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        return (Candidate(self.name),)

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        return build.program(build.add(NativeDeconv(deconv, layout), build.x))
