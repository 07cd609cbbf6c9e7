"""What ``--fold`` does alike in all formats: which operators around a site go into its weights, and why others stay.

A format says what its operators compute (:class:`Surroundings`), and puts :func:`new_values` into a copy of the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from splitdeconv.deconv.folding import (
    ChannelArithmetic,
    FoldingError,
    constant_response,
    in_type,
    scaled_kernel,
    together,
)
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Fold, Origin, Site
from splitdeconv.formats.way_back import FOLDED, KeptKernel, Rewriting, RewrittenSite
from splitdeconv.results.plan import Skipped

NodeT = TypeVar("NodeT")
RUN_TIME = "has its weights computed at run time: there are none to fold into"
QUANTISED = "is quantised: folding would quantise its weights anew"
BECAME_PART = "{} became part of its weights, and the file does not hold them as they were"


@dataclass(frozen=True, slots=True, eq=False)
class FoldedStep(Generic[NodeT]):
    """One operator that goes away.

    Attributes:
        node: as the format has it.
        name: of its kind.
        map_at: which of its inputs is the map.
        arithmetic: what it computes.
    """

    node: NodeT
    name: str
    map_at: int
    arithmetic: ChannelArithmetic


@dataclass(frozen=True, slots=True, eq=False)
class Around(Generic[NodeT]):
    """The operators that go away: in front of the site in the model's order, and behind it."""

    front: tuple[FoldedStep[NodeT], ...]
    behind: tuple[FoldedStep[NodeT], ...]

    @property
    def steps(self) -> tuple[FoldedStep[NodeT], ...]:
        """All of them, in order."""
        return (*self.front, *self.behind)


@dataclass(frozen=True, slots=True, eq=False)
class OwnValues:
    """The parameters of a site's operator: ``kernel`` IOHW, of a convolution (``is_conv``) OIHW, and ``bias``."""

    kernel: Array
    bias: Array | None
    is_conv: bool


class Surroundings(ABC, Generic[NodeT]):
    """What stands around the sites of one model."""

    @abstractmethod
    def behind(self, site: Site) -> tuple[FoldedStep[NodeT], ...]:
        """The first operators behind a site, as long as they are linear."""

    @abstractmethod
    def in_front(self, site: Site, taken: Set[NodeT]) -> tuple[FoldedStep[NodeT], ...]:
        """The linear operators that alone feed a deconv's map, but for those that are ``taken``."""

    @abstractmethod
    def refuse(self, site: Site, around: Around[NodeT]) -> str | None:
        """Why nothing may be folded into a float site, or None."""

    @abstractmethod
    def values(self, site: Site) -> OwnValues:
        """The parameters of a site that is not refused."""


def find_folds(
    sites: Sequence[Site], surroundings: Surroundings[NodeT]
) -> tuple[tuple[Fold, ...], tuple[Skipped, ...]]:
    """What can be folded around ``sites``, and which keep what they have, with the reason; others are left out."""
    folds, left = list[Fold](), list[Skipped]()
    taken: set[NodeT] = set()  # what stands between two sites becomes part of the first
    for site in sites:
        deconv, behind = site.deconv, surroundings.behind(site)
        plain = deconv.quant is None and deconv.written_out is None
        around = Around(surroundings.in_front(site, taken) if plain else (), behind)
        if not around.steps:
            continue
        reason = _refuse(site) or surroundings.refuse(site, around)
        if reason is None:
            try:
                folds.append(_fold(site, around, surroundings.values(site)))
                taken.update(step.node for step in behind)
                continue
            except FoldingError as error:
                reason = str(error)
        names = ", ".join(step.name for step in around.steps)
        left.append(Skipped(site.id, site.where, f"{names} not folded: {reason}"))
    return tuple(folds), tuple(left)


def _refuse(site: Site) -> str | None:
    """Why nothing may be folded into a site, whatever stands around it, or None."""
    if site.deconv.quant is not None:
        return QUANTISED
    return RUN_TIME if site.deconv.run_time else None


def _fold(site: Site, around: Around[NodeT], own: OwnValues) -> Fold:
    """What becomes of a site.

    Raises:
        FoldingError: its type does not hold the new weights, or borders meet less of a shift in front.
    """
    before = together((step.arithmetic for step in around.front), site.deconv.in_channels)
    after = together((step.arithmetic for step in around.behind), site.deconv.out_channels)
    fold = Fold(site, tuple(step.name for step in around.steps), before, after, Origin((around,)))
    new_values(fold, own)
    return fold


def new_values(fold: Fold, own: OwnValues) -> tuple[Array, Array | None]:
    """Kernel and bias of the site's operator, in the order of ``own``; without a bias where it needs none.

    Raises:
        FoldingError: their type does not hold them.
    """
    site, deconv = fold.site, fold.site.deconv
    groups = 1 if deconv.diagonal else deconv.groups
    front = fold.front.scale if deconv.written_out is None else np.ones(groups)  # such a kernel may read more maps
    first, second = (fold.behind.scale, front) if own.is_conv else (front, fold.behind.scale)
    shift = constant_response(site.weights, deconv, fold.front.shift)
    shift = shift if own.bias is None else shift + own.bias.reshape(-1).astype(np.float64)
    shift = shift * fold.behind.scale + fold.behind.shift
    kernel = scaled_kernel(own.kernel, groups, first, second)
    return kernel, in_type(shift, kernel.dtype) if own.bias is not None or shift.any() else None


def no_way_back(folds: Sequence[Fold]) -> Rewriting:
    """What ``restore`` is told of them."""
    sites = []
    for each in folds:
        deconv, lost = each.site.deconv, BECAME_PART.format(", ".join(each.operators))
        kernel = KeptKernel("", deconv.weights_shape, deconv.out_channels, deconv.groups, (), lost=lost)
        sites.append(RewrittenSite(each.site.id, each.site.where, False, FOLDED, 0, (), (), kernel))
    return Rewriting(tuple(sites), ())
