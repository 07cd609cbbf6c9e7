"""Proof of folding: a site with operators in its weights, against the site and these operators in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from splitdeconv.deconv.definition import define
from splitdeconv.deconv.structure import dense_of
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.model import Fold, Site
from splitdeconv.proof.draw import beside, cut_down
from splitdeconv.proof.errors import bound_of, error_of
from splitdeconv.results.verdict import OutputCheck
from splitdeconv.workers.arrays import dtype_of


def check_fold(fold: Fold, site: Site) -> OutputCheck:
    """What rounding the folded weights once costs, beside what rounding after each operator does.

    Both sides are rounded to the site's type, and evaluated in float64 otherwise: which weight goes where is another
    question (:func:`sites.prove_site`), and so is what a runtime makes of it.

    Args:
        fold: with the site as it came.
        site: the same with folded weights.
    """
    deconv = replace(cut_down(fold.site.deconv), diagonal=False, groups=_groups(fold.site))
    dtype, further = dtype_of(deconv.dtype), beside(deconv, 0)
    shape = (deconv.batch or 1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes))
    x = np.random.default_rng(0).standard_normal(shape)

    def rounded(values: Array) -> Array:
        return values.astype(dtype).astype(np.float64)

    def convolved(values: Array, of: Site) -> Array:
        return define(values, _dense(of), deconv, *further).lowest

    exact = fold.behind.apply(convolved(fold.front.apply(x), fold.site))
    before = rounded(fold.behind.apply(rounded(convolved(rounded(fold.front.apply(x)), fold.site))))
    noise = error_of(before, exact)
    return OutputCheck(
        fold.site.id, noise, error_of(rounded(convolved(x, site)), exact), bound_of(noise, deconv.dtype), "float64"
    )


def _groups(site: Site) -> int:
    return 1 if site.deconv.diagonal else site.deconv.groups


def _dense(site: Site) -> Weights:
    """With zeros between channels where they were left out."""
    weights = site.weights
    return Weights(dense_of(weights.kernel), weights.bias) if site.deconv.diagonal else weights
