"""Leave the deconv to the runtime."""

from __future__ import annotations

from splitdeconv.deconv.ops import Layout, NativeDeconv, Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering


class Native(Lowering):
    """The runtime's own deconv, as the model has it.

    Before: ConvTranspose, maybe with a crop behind it, or dense although its filter is zero between channels.
    After: the same nodes. Window ``simplified``: one depthwise or dense ConvTranspose with the crop in its pads.
    """

    name = "native"
    source = "the runtime"
    summary = "the runtime's own deconv"
    rank = 3

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        plain = Candidate(self.name)
        negative = any(min(axis.pad_begin, axis.pad_end) < 0 for axis in deconv.axes)
        simpler = (deconv.crop or deconv.diagonal) and not negative
        return (plain, Candidate(self.name, "simplified")) if simpler else (plain,)

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        simplified = candidate.window == "simplified"
        return build.program(build.add(NativeDeconv(deconv, layout, simplified), build.x))
