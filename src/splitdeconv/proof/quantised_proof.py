"""Proof that a rewritten quantised site equals the definition on stored integers.

Two questions that must not be mixed. Are all weights, scales and zero-points in their places? That is decided bit for
bit, with scales that are powers of two, so that float kernels between DequantizeLinear and QuantizeLinear are exact
too, and with weights of 7 bits, which no kernel saturates. And does the target compute the site's own numbers right?
Runtimes differ there by one step of the output where a sum falls between two steps; x86 processors without VNNI add
pairs of uint8 × int8 products in 16 bits, which saturates.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.ops import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Quantisation, Weights
from splitdeconv.formats.frontend import Frontend
from splitdeconv.formats.model import Site
from splitdeconv.lowerings import find_lowering
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.verdict import SiteProof
from splitdeconv.targets.target import CompileError, Target

PROOF_MACS = 20_000_000  # of the definition in one run; sizes are cut down to it
LARGEST_SUM = 2**23  # float32 holds whole numbers up to 2²⁴; half of it leaves room for the bias
SMALLEST_EXPONENT = -2  # of drawn weight scales
LARGEST_WEIGHT = 63  # two products of it with 255 stay below 2¹⁵
TIE_STEPS = 1  # of the output, by which two right ways to round may differ
OWN_FACTOR = 2  # by which a candidate may deviate further than the target's own deconv
TIE_SHARE = 0.01  # of the outputs that may differ so; a thousandth of it was seen (docs/quantised-onnx.md)


def proof_of_site(
    frontend: Frontend, model: Any, site: Site, program: Program, target: Target, seed: int = 0
) -> SiteProof:
    """Whether the site, as written for the model's format, equals the definition bit for bit on drawn values."""
    deconv = cut_down(site.deconv)
    weights = drawn_weights(deconv, site.weights, seed)
    x = _drawn_input(deconv, weights, seed)
    wanted = reference.quantised_deconv(x, weights, deconv)
    try:
        found = _run(frontend, model, site, program, deconv, weights, target, x)
    except CompileError as error:
        return SiteProof(site.id, False, target.name, f"it does not run: {error}")
    differing = int(np.count_nonzero(found != wanted)) if found.shape == wanted.shape else wanted.size
    detail = f"{differing} of {wanted.size} stored outputs differ" if differing else ""
    return SiteProof(site.id, differing == 0, target.name, detail)


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far stored outputs are from the definition.

    Attributes:
        share: of the outputs that differ.
        steps: largest difference, in steps of the output.
    """

    share: float
    steps: int


def wrong_numbers(frontend: Frontend, model: Any, site: Site, program: Program, target: Target) -> str | None:
    """What the target computes wrong with the site's own weights and scales, or None.

    Ties may be rounded either way; beyond that a candidate may deviate twice as far as the target's own deconv does.
    On a measuring target this is a reason to refuse the candidate. On any other it is a note about the processor, which
    holds for all other quantised convolutions of the model too.
    """
    try:
        found = deviation(frontend, model, site, program, target)
    except CompileError as error:
        return f"it does not run: {error}"
    if found.steps <= TIE_STEPS and found.share <= TIE_SHARE:
        return None
    native = find_lowering("native").lower(site.deconv, frontend.layout, Candidate("native"))
    try:
        own = deviation(frontend, model, site, native, target)
    except CompileError:
        own = Deviation(0.0, 0)
    if found.steps <= OWN_FACTOR * own.steps and found.share <= OWN_FACTOR * own.share:
        return None
    return (
        f"{found.share:.1%} of the stored outputs differ from the definition, by up to {found.steps} steps "
        f"({own.share:.1%} and {own.steps} for its own deconv): {target.name} saturates sums on this processor"
    )


def deviation(frontend: Frontend, model: Any, site: Site, program: Program, target: Target) -> Deviation:
    """The target's deviation with the site's own weights and scales, over inputs that bring out saturation.

    Raises:
        CompileError: the target does not take it.
    """
    deconv = cut_down(site.deconv)
    worst = Deviation(0.0, 0)
    for x in _telling_inputs(deconv, site.weights):
        wanted = reference.quantised_deconv(x, site.weights, deconv).astype(np.int32)
        found = _run(frontend, model, site, program, deconv, site.weights, target, x).astype(np.int32)
        steps = np.abs(found - wanted)
        share = max(0, np.count_nonzero(steps) - 1) / steps.size  # one tie is always allowed
        worst = Deviation(max(worst.share, share), max(worst.steps, int(steps.max())))
    return worst


def fingerprint(site: Site) -> tuple[str, ...]:
    """What :func:`wrong_numbers` depends on beside the geometry, for keys of what was found; empty for float sites.

    Whether a kernel saturates depends on the weights, so nothing may be taken over from another layer of equal shape.
    """
    quant = site.weights.quant
    if quant is None:
        return ()
    digest = hashlib.sha256(site.weights.kernel.tobytes())
    arrays = (site.weights.bias, quant.x_scale, quant.w_scale, quant.w_zero, quant.y_scale)
    for array in arrays:
        digest.update(b"" if array is None else np.asarray(array).tobytes())
    return (f"weights {digest.hexdigest()}", f"zero-points {quant.x_zero} {quant.y_zero}")


def _run(
    frontend: Frontend,
    model: Any,
    site: Site,
    program: Program,
    deconv: Deconv,
    weights: Weights,
    target: Target,
    x: Array,
) -> Array:
    """The site without its epilogue on stored ``x`` (NCHW); the stored output as NCHW."""
    small = replace(site, deconv=deconv, weights=weights)
    compiled = target.compile(frontend.emit(model, small, replace(program, deconv=deconv), weights))
    (y,) = compiled.run({"x": x if frontend.layout == "NCHW" else np.moveaxis(x, 1, -1)}).values()
    return y if frontend.layout == "NCHW" else np.moveaxis(y, -1, 1)


def cut_down(deconv: Deconv) -> Deconv:
    """The deconv over batch 1 and sizes small enough for a proof, yet with border and inside."""
    sizes = [size or 7 for size in deconv.in_sizes]
    taps = math.prod(deconv.kernel_shape)
    while taps * math.prod(sizes) > PROOF_MACS and max(sizes) > 3:
        largest = sizes.index(max(sizes))
        sizes[largest] = max(3, sizes[largest] * 2 // 3)
    for number, axis in enumerate(deconv.axes):
        while axis.out_size_of(sizes[number]) < 1:
            sizes[number] += 1
    return deconv.with_in_sizes(1, sizes)


def drawn_weights(deconv: Deconv, like: Weights, seed: int) -> Weights:
    """Weights of the site's types and granularity whose sums float32 holds; output scales that use the whole range."""
    quant = like.quant
    assert quant is not None, "a quantised site has its scales"
    rng = np.random.default_rng(seed)
    lowest, highest = (-LARGEST_WEIGHT, LARGEST_WEIGHT) if like.kernel.dtype == np.int8 else (0, 255)
    zero = int(np.clip(np.max(quant.w_zero, initial=-128), lowest, highest))
    products = deconv.in_channels // deconv.groups * math.prod(axis.kernel for axis in deconv.axes)
    largest = LARGEST_SUM * 2.0**SMALLEST_EXPONENT if quant.by_input else LARGEST_SUM
    share = min(1.0, largest / (products * 255 * LARGEST_WEIGHT))
    offsets = rng.integers(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1, deconv.kernel_shape)
    offsets = np.where(rng.random(deconv.kernel_shape) < share, offsets, 0)
    kernel = np.clip(zero + offsets, lowest, highest).astype(like.kernel.dtype)
    exponents = rng.integers(SMALLEST_EXPONENT, 1, quant.w_scale.shape)
    deviation = 74 * 37 * math.sqrt(max(1.0, products * share))  # of a sum of products of the two drawn ranges
    values = replace(
        quant,
        x_scale=np.float32(0.5),
        w_scale=np.asarray(2.0**exponents, np.float32),
        w_zero=np.full(quant.w_zero.shape, zero, np.int32),
        y_scale=np.float32(2.0 ** (math.ceil(math.log2(deviation / 64)) - 1)),
        **_drawn_zeros(quant, rng),
    )
    kind = np.float32 if quant.by_input else np.int32
    bias = None if like.bias is None else rng.integers(-4096, 4097, deconv.out_channels).astype(kind)
    return Weights(kernel, bias, values)


def _drawn_zeros(quant: Quantisation, rng: np.random.Generator) -> dict[str, Any]:
    """Zero-points anywhere in the range of the activations."""
    found = {}
    for name, dtype in (("x_zero", quant.x_type), ("y_zero", quant.y_type)):
        limits = np.iinfo(dtype)
        found[name] = int(rng.integers(limits.min, limits.max + 1))
    return found


def _drawn_input(deconv: Deconv, weights: Weights, seed: int) -> Array:
    """Stored input over the whole range of 8 bits; around the zero-point where the type has 16."""
    quant = weights.quant
    assert quant is not None
    limits = np.iinfo(quant.x_type)
    first = limits.min if limits.bits == 8 else int(np.clip(quant.x_zero - 128, limits.min, limits.max - 255))
    shape = (1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes))
    return np.random.default_rng(seed + 1).integers(first, first + 256, shape).astype(quant.x_type)


def _telling_inputs(deconv: Deconv, weights: Weights) -> Iterator[Array]:
    """Random values, and the largest everywhere, where sums of neighbouring products are largest."""
    drawn = _drawn_input(deconv, weights, seed=0)
    yield drawn
    yield np.full_like(drawn, np.iinfo(drawn.dtype).max)
