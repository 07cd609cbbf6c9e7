"""Proof that a rewritten model equals the original.

Three checks. Each rewritten site, as the front-end writes it, must equal the definition bit for bit on integer-valued
tensors, where every order of summation gives the same bits. On real-valued inputs each site's error against the
float64 definition, and each model output's error, may not exceed a small multiple of the original's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.ops import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import UsageError, VerificationError
from splitdeconv.formats.frontend import Frontend
from splitdeconv.formats.model import Input, Site
from splitdeconv.lowerings import find_lowering
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof import quantised_proof
from splitdeconv.proof.quantised_proof import cut_down
from splitdeconv.results.verdict import OutputCheck, SiteProof
from splitdeconv.targets.target import Compiled, CompileError, Target

# Both errors are sums of the same products in two orders, so they are of equal size up to chance; 4 leaves room for it.
NOISE_FACTOR = 4.0
# Roundings of the output's type that any result may carry where the original happens to be exact.
FLOOR_ROUNDINGS = 64
# Where float64 cannot be had, the original's noise is its own change when inputs move by this many roundings.
MOVED_ROUNDINGS = 16
# The same for models with rewritten quantised sites: half a step of 8 bits, which moves some values by one step.
MOVED_QUANTISED = 2**-9
INTEGERS_BELOW = {"float32": 2**24, "float64": 2**53}  # whole numbers that the type holds exactly
UNSTABLE = 0.01  # relative noise of an original that is fed with what it was not made for
OPEN_SIZES = (64, 96)  # for spatial sizes that the model leaves open: multiples of 32, as most encoders want
OPEN_BATCH = (1, 2)


def check_site(
    frontend: Frontend, model: Any, site: Site, program: Program, runner: Target
) -> tuple[SiteProof, OutputCheck | None]:
    """Proof that the site, as it is written for the model's format, equals the definition; and its noise.

    Quantised sites have no noise: there every bit counts.
    The proof is about which weight goes where, so the sizes are cut down until it takes about a second. Formats and
    runtimes treat all float types alike in this, so it is done in float32, which every runtime has.
    """
    if site.weights.quant is not None:
        return quantised_proof.proof_of_site(frontend, model, site, program, runner), None
    deconv = replace(cut_down(site.deconv), dtype="float32")
    x, weights = _integers(deconv, seed=0)
    proof = _proof(_Trial(frontend, model, site, deconv, runner), program, x, weights)
    rng = np.random.default_rng(0)
    noise = _noise(
        _Trial(frontend, model, site, deconv, runner),
        program,
        rng.standard_normal(x.shape).astype(np.float32),
        _as_type(site.weights, "float32"),
    )
    return proof, noise


def check_fused(frontend: Any, model: Any, site: Site, program: Program, runner: Target) -> tuple[OutputCheck, str]:
    """How far a quantised site is from the original when its epilogue is folded in, and one sentence with the figures.

    Errors are in steps of the output's scale.

    Args:
        frontend: one that has ``difference``.
    """
    deconv = site.deconv
    limits = np.iinfo(np.dtype(deconv.quant.activation if deconv.quant else "int8"))
    shape = (deconv.batch or 1, *_known(deconv.in_sizes), deconv.in_channels)
    x = np.random.default_rng(0).integers(limits.min, limits.max, shape, limits.dtype, endpoint=True)
    native = find_lowering("native").lower(deconv, frontend.layout, Candidate("native"))
    compiled = [runner.compile(frontend.emit(model, site, each)) for each in (native, program)]
    before, after = (next(iter(each.run({"x": x}).values())) for each in compiled)
    found = frontend.difference(model, site, x, before, after)
    figures = (
        f"site '{site.id}': fused numerics change {found.share:.1%} of its outputs, by {found.largest} steps at most "
        f"(expected: {found.bound}); root mean square error against float64 {found.error_before:.2f} steps before, "
        f"{found.error_after:.2f} after"
    )
    against = "the original operators, in steps of the output's scale"
    return OutputCheck(site.id, 0.0, float(found.largest), float(found.bound), against), figures


@dataclass(frozen=True, slots=True)
class _Trial:
    """A site over small sizes, to be run with other weights than its own."""

    frontend: Frontend
    model: Any
    site: Site
    deconv: Deconv
    runner: Target

    def run(self, program: Program, x: Array, weights: Weights) -> Array:
        """The site's output as NCHW; ``x`` is NCHW too."""
        small = replace(self.site, deconv=self.deconv, weights=weights)
        sized = replace(program, deconv=self.deconv)
        compiled = self.runner.compile(self.frontend.emit(self.model, small, sized, weights))
        first = self.frontend.layout == "NCHW"
        (y,) = compiled.run({"x": x if first else np.moveaxis(x, 1, -1)}).values()
        return y if first else np.moveaxis(y, -1, 1)

    def definition(self, x: Array, weights: Weights) -> Array:
        """What it must be, in float64."""
        return reference.deconv(x.astype(np.float64), _as_type(weights, "float64"), self.deconv)


def _proof(trial: _Trial, program: Program, x: Array, weights: Weights) -> SiteProof:
    """Equal bits on whole numbers."""
    wanted = trial.definition(x, weights)
    try:
        found = trial.run(program, x, weights)
    except CompileError as error:
        return SiteProof(trial.site.id, False, trial.runner.name, f"it does not run: {error}")
    if found.shape != wanted.shape:
        detail = f"its shape is {list(found.shape)}, wanted {list(wanted.shape)}"
        return SiteProof(trial.site.id, False, trial.runner.name, detail)
    differing = int(np.count_nonzero(found != wanted))
    detail = f"{differing} of {wanted.size} outputs differ" if differing else ""
    return SiteProof(trial.site.id, differing == 0, trial.runner.name, detail)


def _noise(trial: _Trial, program: Program, x: Array, weights: Weights) -> OutputCheck:
    """Errors of the runtime's own deconv and of the program on real values."""
    wanted = trial.definition(x, weights)
    native = find_lowering("native").lower(trial.deconv, trial.frontend.layout, Candidate("native"))
    try:
        before = _error(trial.run(native, x, weights), wanted)
    except CompileError:
        before = 0.0  # the runtime has no such deconv; then the bound is the floor alone
    try:
        after = _error(trial.run(program, x, weights), wanted)
    except CompileError:
        after = math.inf
    return OutputCheck(trial.site.id, before, after, _bound(before, "float32"), "float64")


def _known(sizes: Iterable[int | None]) -> list[int]:
    return [size or 1 for size in sizes]


def _integers(deconv: Deconv, seed: int) -> tuple[Array, Weights]:
    """Input and weights of whole numbers whose sums are exact in the deconv's type."""
    products = deconv.in_channels // deconv.groups * math.prod(axis.kernel for axis in deconv.axes)
    largest = max(1, min(8, math.isqrt(INTEGERS_BELOW[deconv.dtype] // (products + 1))))
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return rng.integers(-largest, largest + 1, shape).astype(deconv.dtype)

    x = draw(deconv.batch or 1, deconv.in_channels, *_known(deconv.in_sizes))
    kernel = _separable_kernel(deconv, rng) if deconv.separable else draw(*deconv.kernel_shape)
    return x, Weights(kernel, draw(deconv.out_channels) if deconv.has_bias else None)


def _separable_kernel(deconv: Deconv, rng: np.random.Generator) -> Array:
    """A filter for all channels that is the product of a vector for each axis, of small whole numbers but 0."""
    vectors = [rng.choice([-2.0, -1.0, 1.0, 2.0], axis.kernel) for axis in deconv.axes]
    one = reduce(np.multiply.outer, vectors).astype(deconv.dtype)
    return np.ascontiguousarray(np.broadcast_to(one, deconv.kernel_shape))


def _as_type(weights: Weights, dtype: str) -> Weights:
    bias = weights.bias
    return Weights(weights.kernel.astype(dtype), None if bias is None else bias.astype(dtype))


def _error(found: Array, wanted: Array) -> float:
    """Largest absolute error over the largest magnitude; values that are not finite on both sides count as equal."""
    if found.shape != wanted.shape:
        return math.inf
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return math.inf
    largest = float(np.max(np.abs(wanted), initial=0.0, where=finite)) or 1.0
    return float(np.max(np.abs(found - wanted), initial=0.0, where=finite)) / largest


def _rounding(dtype: str) -> float:
    """Half the distance between 1 and the next number of the type."""
    return {"float64": 2.0**-53, "float16": 2.0**-11, "bfloat16": 2.0**-8}.get(dtype, 2.0**-24)


def _bound(before: float, dtype: str) -> float:
    return NOISE_FACTOR * before + FLOOR_ROUNDINGS * _rounding(dtype)


def random_inputs(inputs: Sequence[Input], shapes: Mapping[str, tuple[int, ...]], trial: int) -> dict[str, Array] | str:
    """Random inputs, or the reason why they cannot be made: between 0 and 1 in even tries, standard normal in odd ones.

    Args:
        inputs: of the model.
        shapes: for inputs whose shape is open or is to be another.
        trial: number of the try; open sizes differ from one to the next.
    """
    rng = np.random.default_rng(trial)
    feeds = {}
    for each in inputs:
        if each.fixed:
            feeds[each.name] = np.array(each.fixed, np.dtype(each.dtype))
            continue
        if not each.quantised and each.dtype not in ("float16", "bfloat16", "float32", "float64"):
            return (
                f"input '{each.name}' is {each.dtype}, whose valid values are not known: give --input {each.name}=x.npy"
            )
        shape = shapes.get(each.name)
        if shape is None and each.shape is None:
            return f"input '{each.name}' has no stated shape: give --input-shape {each.name}=…"
        if shape is None:
            assert each.shape is not None
            shape = tuple(size or _open_size(axis, trial) for axis, size in enumerate(each.shape))
        if each.quantised:
            limits = np.iinfo(np.dtype(each.dtype))
            feeds[each.name] = rng.integers(limits.min, limits.max, shape, np.dtype(each.dtype), endpoint=True)
            continue
        drawn = rng.standard_normal(shape, np.float32) if trial % 2 else rng.random(shape, np.float32)
        feeds[each.name] = drawn.astype(np.dtype(each.dtype))
    return feeds


def _open_size(axis: int, trial: int) -> int:
    return (OPEN_BATCH if axis == 0 else OPEN_SIZES)[trial % 2]


def check_inputs(inputs: Sequence[Input], given: Mapping[str, Array]) -> None:
    """Hold the user's arrays against the model's inputs.

    Raises:
        UsageError: an array for an input that is not there, or of another type or shape.
    """
    known = {each.name: each for each in inputs}
    for name, array in given.items():
        if name not in known:
            raise UsageError(f"--input {name}: the model has no such input; it has {', '.join(known) or 'none'}")
        wanted = known[name]
        if array.dtype.name != wanted.dtype:
            raise UsageError(f"--input {name}: the array is {array.dtype.name}, the model wants {wanted.dtype}")
        shape = wanted.shape
        fits = shape is None or (
            len(shape) == array.ndim and all(size in (None, n) for size, n in zip(shape, array.shape, strict=True))
        )
        if not fits:
            raise UsageError(f"--input {name}: the array has shape {list(array.shape)}, the model wants {shape}")


def check_shapes(inputs: Sequence[Input], given: Mapping[str, tuple[int, ...]]) -> None:
    """Hold the user's shapes against the model's inputs.

    Raises:
        UsageError: a shape for an input that is not there, or of another rank.
    """
    known = {each.name: each.shape for each in inputs}
    for name, shape in given.items():
        if name not in known:
            raise UsageError(f"--input-shape {name}: the model has no such input; it has {', '.join(known) or 'none'}")
        wanted = known[name]
        if wanted is not None and len(wanted) != len(shape):
            text = "×".join("?" if size is None else str(size) for size in wanted)
            raise UsageError(f"--input-shape {name}: has {len(shape)} sizes, the model's input is {text}")


def compare_models(
    frontend: Frontend,
    original: Any,
    before: Compiled,
    after: Compiled,
    feeds: Mapping[str, Array],
    *,
    quantised: bool = False,
    plain: Compiled | None = None,
) -> tuple[OutputCheck, ...]:
    """Errors of all outputs for one set of inputs.

    Args:
        frontend: of the model's format.
        original: the model, for its float64 evaluation.
        before, after: the original and the rewritten model, ready to run.
        feeds: the inputs.
        quantised: whether a rewritten site is; where a sum falls between two steps it may be rounded either way.
        plain: the original without the runtime's own rewriting, or None. Where float64 cannot be had, both are held
            against it: a runtime may saturate in convolutions that are not ours, before or after.

    Raises:
        CompileError: the original does not run on these inputs.
        VerificationError: the original does, and the rewritten model does not.
    """
    old = before.run(feeds)
    try:
        new = after.run(feeds)
    except CompileError as error:
        raise VerificationError(f"the rewritten model stops where the original runs ({error})") from None
    exact = frontend.float64(original, feeds)
    if isinstance(exact, str):
        moved = before.run(_moved(feeds, quantised))
        by = "half a step of 8 bits" if quantised else f"{MOVED_ROUNDINGS} roundings"
        wanted = old if plain is None else plain.run(feeds)
        what = "the original" if plain is None else "the original as ONNX defines it"
        against = f"{what}, whose noise is its change when inputs move by {by}"
        errors = {
            name: (
                max(_error(moved[name], old[name]), _error(old[name], wanted[name])),
                _error(new[name], wanted[name]),
            )
            for name in old
        }
    else:
        against = "float64"
        errors = {name: (_error(old[name], exact[name]), _error(new[name], exact[name])) for name in old}
    return tuple(
        OutputCheck(name, noise, error, _bound(noise, old[name].dtype.name), against)
        for name, (noise, error) in errors.items()
    )


def _moved(feeds: Mapping[str, Array], quantised: bool) -> dict[str, Array]:
    """Inputs with every value moved up or down by some roundings, or by half a step of 8 bits."""
    rng = np.random.default_rng(1)
    moved = {}
    for name, array in feeds.items():
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            moved[name] = array
            continue
        step = MOVED_QUANTISED if quantised else MOVED_ROUNDINGS * _rounding(array.dtype.name)
        factor = 1 + step * rng.choice([-1.0, 1.0], array.shape)
        moved[name] = (array.astype(np.float64) * factor).astype(array.dtype)
    return moved


def unstable(checks: Sequence[OutputCheck]) -> tuple[str, ...]:
    """Notes on outputs whose noise is so large on the inputs that were tried that the comparison says little."""
    return tuple(
        f"output '{each.name}' of the original moves by {each.before:.0%} when inputs move by some roundings, so "
        "the comparison says little; --input gives it inputs as the model expects them"
        for each in checks
        if each.before > UNSTABLE
    )


def merge_checks(trials: Iterable[Sequence[OutputCheck]]) -> tuple[OutputCheck, ...]:
    """For each output the check nearest to its bound, or furthest beyond it, of the inputs on which it is stable."""
    by_name: dict[str, list[OutputCheck]] = {}
    for checks in trials:
        for each in checks:
            by_name.setdefault(each.name, []).append(each)
    worst = []
    for found in by_name.values():
        telling = [each for each in found if each.before <= UNSTABLE or not each.passed] or found
        worst.append(max(telling, key=lambda each: each.after / each.bound))
    return tuple(worst)
