"""Filters quantised anew: exact where their sums fit, else rounded once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splitdeconv.deconv.definition import ideal_steps, requantised_steps
from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.requantised import most_summed, requantised_filter, sums_taps
from splitdeconv.deconv.spec import Deconv, Quant, WrittenOut
from splitdeconv.deconv.weights import Array, Quantisation, Weights, conv_channels, conv_filter
from splitdeconv.deconv.written import is_requantised, stretched_axis
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate

SPLIT = Candidate("split", "union", "transpose")


def deconv_of(kernel: tuple[int, int], factors: tuple[int, int], groups: int = 1, weight: str = "int8") -> Deconv:
    sizes = zip(factors, kernel, (5, 4), strict=True)
    axes = tuple(stretched_axis("repeat", factor, taps, 1, (1, 0), size) for factor, taps, size in sizes)
    quant = Quant("uint8", weight, True)
    written = WrittenOut("repeat", kernel, (1, 1))
    return Deconv(axes, 4, 6, groups, 1, "uint8", True, quant, written_out=written)


def weights_of(deconv: Deconv, largest: int, zero: int = 0, weight: str = "int8") -> Weights:
    rng = np.random.default_rng(0)
    shape = deconv.weights_shape
    kernel = np.clip(rng.integers(-largest, largest + 1, shape) + zero, *((0, 255) if zero else (-128, 127)))
    one, zeros = np.float32(1), np.full(6, zero, np.int32)
    scale = np.asarray(2.0 ** rng.integers(-5, -1, 6), np.float32)
    quant = Quantisation("uint8", one / 4, 3, scale, zeros, "uint8", one * 8, 120)
    return Weights(kernel.astype(weight), rng.integers(-500, 500, 6).astype(np.int32), quant)


def convs(program: Program) -> list[Conv]:
    return [step.op for step in program.steps if isinstance(step.op, Conv)]


CASES = [((3, 3), (2, 2), 1), ((3, 2), (2, 4), 2), ((5, 3), (3, 1), 1)]


@pytest.mark.parametrize(("kernel", "factors", "groups"), CASES)
@pytest.mark.parametrize(("weight", "zero"), [("int8", 0), ("uint8", 130)])
def test_sums_that_fit_are_kept(
    kernel: tuple[int, int], factors: tuple[int, int], groups: int, weight: str, zero: int
) -> None:
    deconv = deconv_of(kernel, factors, groups, weight)
    assert is_requantised(deconv)
    weights = weights_of(deconv, 120 // most_summed(deconv), zero, weight)
    program = lower(deconv, "NCHW", SPLIT)
    x = np.random.default_rng(1).integers(0, 256, (1, 4, 5, 4)).astype(np.uint8)
    np.testing.assert_allclose(requantised_steps(x, weights, program), ideal_steps(x, weights, deconv), rtol=1e-12)
    for conv in convs(program):
        found = requantised_filter(weights, conv)
        assert weights.quant is not None
        assert weights.bias is not None
        np.testing.assert_array_equal(found.scale, conv_channels(weights.quant.w_scale, conv))
        np.testing.assert_array_equal(found.bias, conv_channels(weights.bias, conv))


@pytest.mark.parametrize(("kernel", "factors", "groups"), CASES)
def test_other_sums_are_rounded_once_with_a_scale_for_each_phase_and_channel(
    kernel: tuple[int, int], factors: tuple[int, int], groups: int
) -> None:
    deconv = deconv_of(kernel, factors, groups)
    weights = weights_of(deconv, 127)
    for conv in convs(lower(deconv, "NCHW", SPLIT)):
        found = requantised_filter(weights, conv)
        sums = real_sums(weights, conv)
        real, bias = found.real(np.float32(0.25))
        half = found.scale.reshape(-1, 1, 1, 1) / 2
        assert (np.abs(real - sums) <= half * (1 + 1e-6)).all()
        assert np.abs(found.values).max() == 127
        assert len(np.unique(found.scale)) > len(np.unique(weights.quant.w_scale if weights.quant else 0))
        assert bias is not None
        assert weights.bias is not None
        wanted = conv_channels(weights.bias * weights.quant.sum_unit, conv) if weights.quant else 0
        assert (np.abs(bias - wanted) <= found.scale / 8 * (1 + 1e-6)).all()


def real_sums(weights: Weights, conv: Conv) -> Array:
    return conv_filter(weights.as_real(conv.groups).kernel, conv)


def test_a_channel_whose_scale_is_nothing_holds_zeros() -> None:
    deconv = deconv_of((3, 3), (2, 2))
    weights = weights_of(deconv, 127)
    assert weights.quant is not None
    scale = weights.quant.w_scale.copy()
    scale[2] = 0
    weights = replace(weights, quant=replace(weights.quant, w_scale=scale))
    (conv,) = convs(lower(deconv, "NCHW", SPLIT))
    real, bias = requantised_filter(weights, conv).real(np.float32(0.25))
    assert np.isfinite(real).all()
    assert bias is not None
    np.testing.assert_array_equal(real[conv_channels(np.arange(6), conv) == 2], 0)


def test_what_sums_nothing_is_not_quantised_anew() -> None:
    assert not is_requantised(deconv_of((1, 1), (2, 2)))
    assert not is_requantised(replace(deconv_of((3, 3), (2, 2)), quant=None))
    (native,) = lower(deconv_of((3, 3), (2, 2)), "NCHW", Candidate("native")).steps
    assert not isinstance(native.op, Conv)
    assert all(sums_taps(conv) for conv in convs(lower(deconv_of((3, 3), (2, 2)), "NCHW", SPLIT)))
