"""One site under trial: run with given values on a target, and held against its definition."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from splitdeconv.deconv.definition import Definition, define, requantised_steps, rounded
from splitdeconv.deconv.ops import NativeDeconv
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.deconv.written import is_requantised
from splitdeconv.formats.model import Model, Site
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.targets.target import Target


@dataclass(frozen=True, slots=True)
class Trial:
    """A site of a model over small sizes, with other weights than its own, on a target.

    Attributes:
        model, site: what is tried.
        deconv: the site's geometry with the trial's sizes.
        weights: the values; with their quantisation where the site has one.
        target: what runs it.
        beside: the map beside a stretched one, ``(N, C, *sizes)``, if there is one.
    """

    model: Model
    site: Site
    deconv: Deconv
    weights: Weights
    target: Target
    beside: tuple[Array, ...] = ()

    def run(self, program: Program, x: Array) -> Array:
        """The site's output without its epilogue, ``(N, O, *out_sizes)``; ``x`` is ``(N, C, *sizes)``.

        Raises:
            CompileError: the target does not take it.
        """
        small = replace(self.site, deconv=self.deconv, weights=self.weights)
        emitted = self.model.emit(small, replace(program, deconv=self.deconv), self.weights)
        channels_first = self.model.layout == "NCHW"
        maps = {"x": x, **{f"x{number}": each for number, each in enumerate(self.beside, start=1)}}
        feeds = {name: each if channels_first else np.moveaxis(each, 1, -1) for name, each in maps.items()}
        (y,) = self.target.compile(emitted).run(feeds | self.model.run_time(small, self.weights)).values()
        return y if channels_first else np.moveaxis(y, -1, 1)

    def native(self) -> Program:
        """The runtime's own deconv."""
        return lower(self.site.deconv, self.model.layout, NATIVE)

    def definition(self, x: Array) -> Definition:
        """What the output must be."""
        return define(x, self.weights, self.deconv, *self.beside)

    def numbers_of(self, program: Program, x: Array) -> Definition:
        """What a quantised ``program`` must give: the definition, but where it has filters quantised anew."""
        if not is_requantised(self.deconv) or isinstance(program.steps[0].op, NativeDeconv):
            return self.definition(x)
        assert self.weights.quant is not None, "only stored weights are quantised anew"
        small = replace(program, deconv=self.deconv)
        return rounded(requantised_steps(x, self.weights, small), self.weights.quant)
