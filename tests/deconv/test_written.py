"""Convolutions of stretched maps as deconvs: geometry, weights and the definition that knows nothing of either."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitdeconv.deconv import reference
from splitdeconv.deconv.ops import Conv, Layout, NativeDeconv
from splitdeconv.deconv.spec import Deconv, WrittenOut
from splitdeconv.deconv.weights import Array, Weights, deconv_kernel
from splitdeconv.deconv.written import goes_before, has_holes, original_taps, own_pads, stretched_axis, without_beside
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.native import as_written
from tests.strategies import integer_tensors, written_out_deconvs


def upsampled(
    kernel: int, factor: int, dilation: int = 1, pads: tuple[int, int] = (1, 1), channels: tuple[int, int] = (4, 4)
) -> Deconv:
    """A 2-D convolution behind a nearest upsampling of a 5×5 map, equal on both axes."""
    axis = stretched_axis("repeat", factor, kernel, dilation, pads, 5)
    return Deconv((axis, axis), *channels, written_out=WrittenOut("repeat", (kernel,) * 2, (dilation,) * 2))


VAE = upsampled(3, 2)


def test_the_kernel_is_made_of_sums_as_worked_out_by_hand() -> None:
    axis = stretched_axis("repeat", 2, 3, 1, (1, 1), 5)
    deconv = Deconv((axis,), 1, 1, written_out=WrittenOut("repeat", (3,), (1,)))
    kernel = np.array([[[1.0, 10.0, 100.0]]])
    np.testing.assert_array_equal(deconv_kernel(kernel, deconv), [[[100, 110, 11, 1]]])
    assert (axis.kernel, axis.stride, axis.pad_begin, axis.pad_end, axis.out_size) == (4, 2, 1, 1, 10)
    assert original_taps(deconv, 0, (0, 1, 2, 3, None)) == (2, range(1, 3), range(2), 0, None)


def test_every_form_has_the_products_of_a_map_beside() -> None:
    assert VAE.written_out is not None
    joined = dataclasses.replace(VAE, written_out=dataclasses.replace(VAE.written_out, beside=12))
    beside = 10 * 10 * 12 * 4 * 9  # pixels, channels, taps
    assert joined.native_macs() == VAE.native_macs() + beside
    assert joined.zero_insert_macs() == VAE.zero_insert_macs() + beside
    assert joined.split_macs() == VAE.split_macs() + beside
    assert joined.split_macs() < joined.native_macs() < joined.zero_insert_macs()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_open_sizes_count_one_pixel_and_all_that_stands_beside_it(layout: Layout) -> None:
    """So that the products of forms and of the original can be compared; borders are no matter at large sizes."""
    assert VAE.written_out is not None
    joined = dataclasses.replace(VAE, written_out=dataclasses.replace(VAE.written_out, beside=12))
    large, unknown = joined.with_in_sizes(1, (100, 100)), joined.with_in_sizes(1, (None, None))
    compared = 0
    for candidate in candidates(large, layout)[0]:
        at_one, at_all = lower(unknown, layout, candidate).macs(), lower(large, layout, candidate).macs()
        assert at_one == pytest.approx(at_all / 100**2, rel=0.06), str(candidate)
        compared += 1
    assert compared > 2


def test_inserted_zeros_sum_nothing_and_turn_the_filter() -> None:
    axis = stretched_axis("zeros", 2, 3, 1, (1, 1), 5)
    deconv = Deconv((axis,), 1, 1, written_out=WrittenOut("zeros", (3,), (1,)))
    np.testing.assert_array_equal(deconv_kernel(np.array([[[1, 10, 100]]], np.int8), deconv), [[[100, 10, 1]]])
    assert axis.out_size == 9


@given(written_out_deconvs(), st.integers(0, 2**32))
def test_the_definition_is_that_of_the_deconv_with_its_kernel(deconv: Deconv, seed: int) -> None:
    deconv = without_beside(deconv)
    assert deconv.written_out is not None
    deconv = dataclasses.replace(deconv, written_out=dataclasses.replace(deconv.written_out, before=0))
    x, weights = integer_tensors(deconv, seed)
    turned = Weights(deconv_kernel(weights.kernel, deconv), weights.bias)
    wanted = reference.deconv(x, turned, dataclasses.replace(deconv, written_out=None))
    np.testing.assert_array_equal(reference.definition(x, weights, deconv), wanted)
    for layout in ("NCHW", "NHWC"):
        program = as_written(deconv, layout)
        found = reference.run(program, x if layout == "NCHW" else np.moveaxis(x, 1, -1), weights)
        np.testing.assert_array_equal(found if layout == "NCHW" else np.moveaxis(found, -1, 1), wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_sums_are_taken_in_float64_and_rounded_once(dtype: type) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((4, 4, 3, 3)).astype(dtype)
    corner = kernel[:, :, :2, :2].astype(np.float64).sum(axis=(2, 3)).astype(dtype)
    found = deconv_kernel(kernel, VAE)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found[:, :, 2, 2], corner)


def test_products() -> None:
    pixels = 4 * 4 * 5 * 5
    assert VAE.native_macs() == 36 * pixels
    assert VAE.macs() == 16 * pixels
    assert NativeDeconv(VAE, "NCHW").macs((1, 4, 5, 5)) == 36 * pixels
    assert NativeDeconv(VAE, "NCHW", simplified=True).macs((1, 4, 5, 5)) == 16 * pixels
    differences = lower(VAE, "NCHW", Candidate("differences", form="depth_to_space"))
    assert differences.macs() == 9 * 4 * 4 * 6 * 6  # on the corners of pixels
    for window in ("phases", "products"):
        assert lower(VAE, "NCHW", Candidate("differences", window, "concat")).macs() == differences.macs()
    along_width = lower(VAE, "NCHW", Candidate("differences", "width", "depth_to_space"))
    assert along_width.macs() == 3 * 6 * 4 * 4 * 5 * 6


@pytest.mark.parametrize(
    ("kernel", "factor", "dilation", "holes", "before"),
    [
        (3, 2, 1, False, False),
        (3, 2, 2, False, True),
        (3, 2, 3, True, False),
        (1, 3, 1, False, True),
        (3, 2, 4, True, True),
    ],
)
def test_dilations_above_the_factor(kernel: int, factor: int, dilation: int, holes: bool, before: bool) -> None:
    deconv = upsampled(kernel, factor, dilation)
    assert has_holes(deconv) == holes
    assert goes_before(deconv) == before
    if before:
        assert {each.lowering for each in candidates(deconv, "NCHW")[0]} == {"native", "convolve_first"}


def test_pads_of_the_models_convolution_come_back() -> None:
    assert own_pads(upsampled(5, 3, 1, (2, -1))) == ((2, -1), (2, -1))


def broken_sum(x: Array, weights: Weights) -> Array:
    """``split`` with one tap too many in one of the sums."""
    program = lower(VAE, "NCHW", Candidate("split", "union", "depth_to_space"))
    first, *rest = program.steps
    assert isinstance(first.op, Conv)
    rows, columns = first.op.blocks[0]
    wrong = tuple(range(3) if isinstance(tap, range) else tap for tap in columns)
    assert wrong != columns
    op = dataclasses.replace(first.op, blocks=((rows, wrong), *first.op.blocks[1:]))
    broken = dataclasses.replace(program, steps=(dataclasses.replace(first, op=op), *rest))
    return reference.run(broken, x, weights)


def test_a_broken_sum_is_seen() -> None:
    x, weights = integer_tensors(VAE, seed=1)
    assert not np.array_equal(broken_sum(x, weights), reference.definition(x, weights, VAE))


@pytest.mark.parametrize(
    ("deconv", "reason"),
    [
        (dataclasses.replace(upsampled(3, 2), groups=2), "groups have too few channels"),
        (upsampled(3, 4, 2), "undilated kernel"),
    ],
)
def test_differences_are_refused_with_a_reason(deconv: Deconv, reason: str) -> None:
    refused = {refusal.candidate.lowering: refusal.reason for refusal in candidates(deconv, "NCHW")[1]}
    assert reason in refused["differences"]
