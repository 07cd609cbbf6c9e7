"""A whole ONNX model in float64 with its deconvs computed by one scheme: exactly, by SD, or inexactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.onnx.files import load
from splitdeconv.formats.onnx.float64 import evaluate
from splitdeconv.lab.paper.inexact import EXACT, Scheme, inexact_chang, inexact_shi
from splitdeconv.lowerings import candidates, lower

MANTISSA = 53  # bits of a float64's significand


def split_deconv(x: Array, weights: Weights, spec: Deconv) -> Array:
    """The paper's SD: the full window where the deconv has one, its phases interleaved.

    Shapes: ``(N, in_channels, *in_sizes)`` → ``(N, out_channels, *out_sizes)``.
    Source: Xu et al., arXiv 1907.01773.
    """
    found = [each for each in candidates(spec, "NCHW")[0] if each.lowering == "split"]
    full = [each for each in found if each.window == "full"]
    return reference.run(lower(spec, "NCHW", (full or found)[0]), x, weights)


SCHEMES: Mapping[str, Scheme] = {
    EXACT: reference.deconv,
    "SD": split_deconv,
    "Shi et al. (inexact)": inexact_shi,
    "Chang et al. (inexact)": inexact_chang,
}


def on_grid(values: Array, bits: int) -> Array:
    """``values`` rounded to whole multiples of a power of two, of which ``2**bits`` reach the largest of them."""
    largest = float(np.max(np.abs(values), initial=0.0))
    if largest == 0.0:
        return values
    step = math.ldexp(1.0, math.ceil(math.log2(largest)) - bits)
    rounded: Array = np.rint(values / step) * step
    return rounded


def summable(scheme: Scheme) -> Scheme:
    """The scheme on maps and weights that are rounded so that float64 sums their products without any rounding.

    Two whole numbers of b bits multiply to one of 2·b; n of these sum to 2·b + log₂ n bits, which 53 must hold. Then
    every order of summation gives the same bits, and what differs between two schemes is not the order. The bias is
    added last by every scheme. Rounding moves a value by 2⁻²⁰ of the largest or less in layers of up to 8192 terms.
    """

    def rounded(x: Array, weights: Weights, spec: Deconv) -> Array:
        terms = spec.in_channels // spec.groups * math.prod(axis.kernel for axis in spec.axes)
        bits = (MANTISSA - math.ceil(math.log2(terms))) // 2
        return scheme(on_grid(x, bits), Weights(on_grid(weights.kernel, bits), weights.bias), spec)

    return rounded


def image_of(path: Path, feeds: Mapping[str, Array], scheme: Scheme) -> Array:
    """The model's first output in float64, its deconvs computed by ``scheme`` on values that sum without rounding.

    Raises:
        UsageError: the scheme does not define one of the deconvs.
    """
    outputs: dict[str, Array] = evaluate(load(path)[0], feeds, summable(scheme))
    return next(iter(outputs.values()))
