"""Proof of one site: equal bits on whole numbers, and the noise on real ones.

Two questions that must not be mixed. Are all weights, scales and zero-points in their places? That is decided bit for
bit, with whole numbers; of quantised sites with scales that are powers of two, so that float kernels between
DequantizeLinear and QuantizeLinear are exact too, and with weights of 7 bits, which no kernel saturates; of hybrid ones
with an input that kernels quantise without an error. And does the
target compute the site's own numbers right? Runtimes differ there by one step of the output where a sum falls between
two steps; x86 processors without VNNI add pairs of uint8 × int8 products in 16 bits, which saturates.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from splitdeconv.deconv.definition import Definition, define, ideal_steps, requantised_steps
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights, rounding_of
from splitdeconv.formats.model import Model, Site
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.proof.draw import beside, cut_down, drawn_input, drawn_weights, integers, telling_inputs
from splitdeconv.proof.errors import bound_of, error_of
from splitdeconv.proof.trial import Trial
from splitdeconv.results.verdict import OutputCheck, SiteProof
from splitdeconv.targets.target import CompileError, Target

TIE_STEPS = 1  # of the output, by which two right ways to round may differ
OWN_FACTOR = 2  # by which a candidate may deviate further than the target's own deconv
_IN_STEPS = "the original operators, in steps of the output's scale"
OPEN_SIZE = 8  # what an open size is taken to be
INTERPOLATED_ROUNDINGS = 16  # of float32, of the largest sum, for each pixel of an axis (docs/verification.md)
TIE_SHARE = 0.01  # of the outputs that may differ so; a thousandth of it was seen (docs/quantised-onnx.md)


def prove_site(model: Model, site: Site, program: Program, target: Target, seed: int = 0) -> SiteProof:
    """Whether the site, as it is written for the model's format, equals its definition bit for bit on whole numbers.

    The proof is about which weight goes where, so the sizes are cut down until it takes about a second. Formats and
    runtimes treat all float types alike in this, so it is done in float32, which every runtime has.
    """
    deconv = cut_down(site.deconv)
    if site.weights.quant is None:
        x, weights, others, wanted = _whole_numbers(replace(deconv, dtype="float32"), seed)
        trial = Trial(model, site, replace(deconv, dtype="float32"), weights, target, others)
    else:
        weights = drawn_weights(deconv, site.weights, seed)
        x = drawn_input(deconv, weights, seed)
        trial = Trial(model, site, deconv, weights, target, beside(deconv, seed))
        wanted = trial.definition(x)
    try:
        y = trial.run(program, x)
    except CompileError as error:
        return SiteProof(site.id, False, target.name, f"it does not run: {error}", ran=False)
    if y.shape != wanted.lowest.shape:
        found, right = list(y.shape), list(wanted.lowest.shape)
        return SiteProof(site.id, False, target.name, f"its shape is {found}, wanted {right}")
    differing = int(np.count_nonzero(wanted.misses(y)))
    what = "outputs" if y.dtype.kind == "f" else "stored outputs"
    detail = f"{differing} of {y.size} {what} differ" if differing else ""
    return SiteProof(site.id, differing == 0, target.name, detail, rounded=_is_interpolated(site.deconv))


@lru_cache(maxsize=4)
def _whole_numbers(deconv: Deconv, seed: int) -> tuple[Array, Weights, tuple[Array, ...], Definition]:
    """Input, weights, the map beside and what a float deconv makes of them: the same for each of its many forms."""
    x, weights = integers(deconv, seed)
    others = beside(deconv, seed)
    wanted = define(x, weights, deconv, *others)
    if _is_interpolated(deconv):
        wanted = _with_roundings(wanted, x, weights, deconv, *others)
    return x, weights, others, wanted


def _is_interpolated(deconv: Deconv) -> bool:
    return deconv.written_out is not None and deconv.written_out.interpolation is not None


def _with_roundings(wanted: Definition, x: Array, weights: Weights, deconv: Deconv, *others: Array) -> Definition:
    """What an interpolation may give whose places, weights and sums are rounded to float32.

    A place is off by as many roundings as it has pixels before it, and so is a weight; a sum by its products.
    """
    largest = define(np.abs(x), Weights(np.abs(weights.kernel)), deconv, *map(np.abs, others)).highest.max()
    size = max(size or 1 for size in deconv.in_sizes)
    near = INTERPOLATED_ROUNDINGS * rounding_of("float32") * size * float(largest)
    return Definition(wanted.lowest - near, wanted.highest + near)


def noise_of_site(model: Model, site: Site, program: Program, target: Target) -> OutputCheck | None:
    """Errors of the runtime's own deconv and of the program on real values; None where maps are stored integers.

    There every bit counts.
    """
    quant = site.weights.quant
    if quant is not None and not quant.is_hybrid:
        return None
    deconv = replace(cut_down(site.deconv), dtype="float32")
    weights = site.weights.as_type("float32") if quant is None else site.weights
    trial = Trial(model, site, deconv, weights, target, beside(deconv, 0))
    shape = (deconv.batch or 1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes))
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    wanted = trial.definition(x).lowest
    try:
        before = error_of(trial.run(trial.native(), x), wanted)
    except CompileError:
        before = 0.0  # the runtime has no such deconv; then the bound is the floor alone
    try:
        after = error_of(trial.run(program, x), wanted)
    except CompileError:
        after = math.inf
    return OutputCheck(site.id, before, after, bound_of(before, "float32"), "float64")


@dataclass(frozen=True, slots=True)
class Deviation:
    """How far stored outputs are from the definition.

    Attributes:
        share: of the outputs that differ.
        steps: largest difference, in steps of the output.
    """

    share: float
    steps: int


def wrong_numbers(model: Model, site: Site, program: Program, target: Target) -> str | None:
    """What the target computes wrong with the site's own weights and scales, or None; None of float maps too.

    Ties may be rounded either way, those that the definition knows where it does; beyond that a candidate may deviate
    twice as far as the target's own deconv does. On a measuring target this is a reason to refuse the candidate. On any
    other it is a note about the processor, which holds for all other quantised convolutions of the model too.
    """
    quant = site.weights.quant
    if quant is None or quant.is_hybrid:
        return None
    trial = Trial(model, site, cut_down(site.deconv), site.weights, target)
    try:
        found = deviation(trial, program)
    except CompileError as error:
        return f"it does not run: {error}"
    if found.steps == 0 or (not quant.fixed_point and found.steps <= TIE_STEPS and found.share <= TIE_SHARE):
        return None
    try:
        own = deviation(trial, trial.native())
    except CompileError:
        own = Deviation(0.0, 0)
    if found.steps <= OWN_FACTOR * own.steps and found.share <= OWN_FACTOR * own.share:
        return None
    return (
        f"{found.share:.1%} of the stored outputs differ from the definition, by up to {found.steps} steps "
        f"({own.share:.1%} and {own.steps} for its own deconv): {target.name} saturates sums on this processor"
    )


def deviation(trial: Trial, program: Program) -> Deviation:
    """The target's deviation with the site's own weights and scales, over inputs that bring out saturation.

    Raises:
        CompileError: the target does not take it.
    """
    worst = Deviation(0.0, 0)
    for x in telling_inputs(trial.deconv, trial.weights):
        steps = trial.numbers_of(program, x).steps(trial.run(program, x))
        share = max(0, np.count_nonzero(steps) - 1) / steps.size  # one tie is always allowed
        worst = Deviation(max(worst.share, share), max(worst.steps, int(steps.max())))
    return worst


def fingerprint(site: Site) -> tuple[str, ...]:
    """What :func:`wrong_numbers` depends on beside the geometry, for keys of what was found; empty for float maps.

    Whether a kernel saturates depends on the weights, so nothing may be taken over from another layer of equal shape.
    """
    quant = site.weights.quant
    if quant is None or quant.is_hybrid:
        return ()
    digest = hashlib.sha256(site.weights.kernel.tobytes())
    arrays = (site.weights.bias, quant.x_scale, quant.w_scale, quant.w_zero, quant.y_scale)
    for array in arrays:
        digest.update(b"" if array is None else np.asarray(array).tobytes())
    return (f"weights {digest.hexdigest()}", f"zero-points {quant.x_zero} {quant.y_zero}")


def check_requantised(site: Site, program: Program) -> tuple[OutputCheck, str]:
    """How far a site with filters quantised anew is from the original, and one sentence with the figures.

    On random stored inputs, with the site's own weights, without its epilogue; all in steps of the output's scale. Both
    are computed in float64 and rounded: what a runtime makes of them is another question (:func:`wrong_numbers`).
    """
    deconv, weights = cut_down(site.deconv), site.weights
    assert weights.quant is not None, "float filters are not quantised anew"
    x, limits = drawn_input(deconv, weights, seed=0), np.iinfo(weights.quant.y_type)
    both = ideal_steps(x, weights, deconv), requantised_steps(x, weights, replace(program, deconv=deconv))
    ideal, anew = (np.clip(each, limits.min, limits.max) for each in both)
    before, after = np.rint(ideal), np.rint(anew)
    distance, bound = np.abs(after - before), math.ceil(np.abs(anew - ideal).max()) + TIE_STEPS
    error_before, error_after = (math.sqrt(np.mean((each - ideal) ** 2)) for each in (before, after))
    figures = (
        f"site '{site.id}': filters quantised anew change its outputs by {distance.max():.0f} steps at most, "
        f"{distance.mean():.2f} on average; {np.mean(distance == 0):.1%} are equal; root mean square error against "
        f"float64 {error_before:.2f} steps before, {error_after:.2f} after"
    )
    return OutputCheck(site.id, 0.0, float(distance.max()), float(bound), _IN_STEPS), figures


def check_fused(model: Model, site: Site, program: Program, runner: Target) -> tuple[OutputCheck, str]:
    """How far a quantised site is from the original when its epilogue is folded in, and one sentence with the figures.

    Errors are in steps of the output's scale.

    Raises:
        CompileError: the runner does not take one of them.
    """
    deconv = site.deconv
    limits = np.iinfo(np.dtype(deconv.quant.activation if deconv.quant else "int8"))
    shape = (deconv.batch or 1, *(size or OPEN_SIZE for size in deconv.in_sizes), deconv.in_channels)
    x = np.random.default_rng(0).integers(limits.min, limits.max, shape, limits.dtype, endpoint=True)
    native = lower(deconv, model.layout, NATIVE)
    compiled = [runner.compile(model.emit(site, each)) for each in (native, program)]
    before, after = (next(iter(each.run({"x": x}).values())) for each in compiled)
    found = model.difference(site, x, before, after)
    figures = (
        f"site '{site.id}': fused numerics change {found.share:.1%} of its outputs, by {found.largest} steps at most "
        f"(expected: {found.bound}); root mean square error against float64 {found.error_before:.2f} steps before, "
        f"{found.error_after:.2f} after"
    )
    return OutputCheck(site.id, 0.0, float(found.largest), float(found.bound), _IN_STEPS), figures
