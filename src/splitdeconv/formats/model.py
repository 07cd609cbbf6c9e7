"""A deconv as it stands in a model: what a front-end finds and what the rest of the road works on."""

from __future__ import annotations

from dataclasses import dataclass

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Weights
from splitdeconv.results.plan import Skipped


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One deconv that can be rewritten.

    Attributes:
        id: unique in the model; the node's name, or one made from its output.
        deconv: its geometry.
        weights: its trained values, as they are stored (integers in quantised models).
        epilogue: operators that follow and that may be done before the rearrangement, in order.
        where: graph, subgraph or function that holds it.
        notes: what the user should know when it is rewritten.
    """

    id: str
    deconv: Deconv
    weights: Weights
    epilogue: tuple[str, ...] = ()
    where: str = "graph"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model.

    Attributes:
        name: as the model has it.
        dtype: a NumPy name.
        shape: sizes, None where the model leaves them open; None altogether where even the rank is open.
        fixed: its elements, where only one set of values makes sense; empty otherwise.
        quantised: whether its integers stand for real numbers, so that every value of the type is valid.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    quantised: bool = False
    fixed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Findings:
    """All deconvs of a model.

    Attributes:
        sites: those that can be rewritten, in the model's order.
        skipped: those that cannot, with their reasons.
        other_macs: multiply-accumulates of all other convolutions and matrix products, or None where sizes are unknown.
    """

    sites: tuple[Site, ...]
    skipped: tuple[Skipped, ...]
    other_macs: int | None = None
