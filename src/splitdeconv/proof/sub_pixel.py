"""Proof of sub-pixel convolutions as transposed ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from splitdeconv.deconv.sub_pixel import define_sub_pixel
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Model, SubPixelSite
from splitdeconv.proof.draw import INTEGERS_BELOW, cut_down
from splitdeconv.results.verdict import SiteProof
from splitdeconv.targets.target import CompileError, Target


def drawn_map(site: SubPixelSite, draw: Callable[[Sequence[int]], Array]) -> Array:
    """What ``draw`` makes for the map of a site; 1 where its sizes are open."""
    return draw((site.batch or 1, site.spec.in_channels, *(size or 1 for size in site.sizes)))


def as_fed(model: Model, x: Array) -> dict[str, Array]:
    """A map ``(N, C, *sizes)`` as its stand-alone models take it."""
    return {"x": x if model.layout == "NCHW" else np.ascontiguousarray(np.moveaxis(x, 1, -1))}


def prove_sub_pixel(model: Model, site: SubPixelSite, runner: Target) -> SiteProof:
    """Whether the deconv, as it is written, equals the convolution and its pixels bit for bit on whole numbers."""
    sizes = cut_down(replace(site.deconv, dtype="float32")).in_sizes
    small = replace(site, batch=1, sizes=tuple(max(size or 1, 3) for size in sizes))
    products = math.prod(site.kernel.shape[1:])
    largest = max(1, min(8, math.isqrt(INTEGERS_BELOW["float32"] // (products + 1))))
    rng = np.random.default_rng(0)

    def draw(shape: Sequence[int]) -> Array:
        return rng.integers(-largest, largest + 1, shape).astype(np.float32)

    x, kernel = drawn_map(small, draw), draw(site.kernel.shape)
    bias = None if site.bias is None else draw(site.bias.shape)
    try:
        (y,) = runner.compile(model.emit_sub_pixel(small, kernel, bias, turned=True)).run(as_fed(model, x)).values()
    except CompileError as error:
        return SiteProof(site.id, False, runner.name, f"it does not run: {error}", ran=False)
    y = y if model.layout == "NCHW" else np.moveaxis(y, -1, 1)
    wanted = define_sub_pixel(x, kernel, bias, site.spec)
    if y.shape != wanted.shape:
        return SiteProof(site.id, False, runner.name, f"its shape is {list(y.shape)}, wanted {list(wanted.shape)}")
    differing = int(np.count_nonzero(y != wanted))
    detail = f"{differing} of {y.size} outputs differ" if differing else ""
    return SiteProof(site.id, not differing, runner.name, detail)
