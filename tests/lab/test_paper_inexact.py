"""Shi's and Chang's conversions: against sub-pixel convolutions written out, and out of every converter's reach."""

from __future__ import annotations

import ast
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import splitdeconv
from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import UsageError
from splitdeconv.lab.paper.inexact import inexact_chang, inexact_shi
from splitdeconv.lowerings import LOWERINGS, find_lowering

# Kernel, stride, pads: of DCGAN, SNGAN and FST, then odd ones.
LAYERS = [(5, 2, (1, 2)), (4, 2, (1, 1)), (3, 2, (0, 1)), (7, 3, (2, 2)), (6, 3, (0, 0)), (2, 2, (0, 0))]


def case(
    kernel: int, stride: int, pads: tuple[int, int], sizes: tuple[int, int] = (6, 7)
) -> tuple[Array, Weights, Deconv]:
    rng = np.random.default_rng(0)
    axes = tuple(Axis(kernel, stride, 1, *pads, 0, size) for size in sizes)
    x = rng.integers(-8, 9, (1, 3, *sizes)).astype(np.float64)
    weights = Weights(
        rng.integers(-8, 9, (3, 2, kernel, kernel)).astype(np.float64), rng.integers(-8, 9, 2).astype(float)
    )
    return x, weights, Deconv(axes, 3, 2, has_bias=True)


def sub_pixels(x: Array, weights: Weights, stride: int, at_begin: bool, pads: tuple[int, int]) -> Array:
    """The kernel extended to a multiple of the stride, cut into filters, convolved, and its outputs interleaved."""
    kernel = weights.kernel
    more = -kernel.shape[-1] % stride
    extra = (more, 0) if at_begin else (0, more)
    kernel = np.pad(kernel, [(0, 0), (0, 0), extra, extra])
    taps = kernel.shape[-1] // stride
    padded = np.pad(x, [(0, 0), (0, 0), pads, pads])
    rows, columns = (size - taps + 1 for size in padded.shape[2:])
    out = np.zeros((1, kernel.shape[1], rows * stride, columns * stride))
    for row, column in product(range(stride), repeat=2):
        small = kernel[:, :, row::stride, column::stride][:, :, ::-1, ::-1]
        for i, j in product(range(rows), range(columns)):
            window = padded[0, :, i : i + taps, j : j + taps]
            out[0, :, i * stride + row, j * stride + column] = np.einsum("chw,cohw->o", window, small)
    return out + weights.bias.reshape(1, -1, 1, 1) if weights.bias is not None else out


@pytest.mark.parametrize(("kernel", "stride", "pads"), LAYERS)
def test_both_are_sub_pixel_convolutions_with_pads_of_their_own(
    kernel: int, stride: int, pads: tuple[int, int]
) -> None:
    x, weights, spec = case(kernel, stride, pads)
    taps = -(-kernel // stride)
    shi = sub_pixels(x, weights, stride, at_begin=True, pads=(0, (taps - 1) // 2))
    chang = sub_pixels(x, weights, stride, at_begin=False, pads=((taps - 1) // 2, taps // 2))
    np.testing.assert_array_equal(inexact_shi(x, weights, spec), shi)
    np.testing.assert_array_equal(inexact_chang(x, weights, spec), chang)


def test_shi_loses_the_first_rows_and_keeps_the_rest_as_in_the_authors_picture() -> None:
    x, weights, spec = case(5, 2, (1, 2), (8, 8))
    exact, found = reference.deconv(x, weights, spec), inexact_shi(x, weights, spec)
    assert found.shape == (1, 2, 14, 14)
    np.testing.assert_array_equal(found, exact[:, :, 2:, 2:])
    sizes = [8]
    for _ in range(3):
        sizes.append(inexact_shi(*case(5, 2, (1, 2), (sizes[-1],) * 2)).shape[-1])
    assert sizes[-1] == 50  # of DCGAN's 64; the exact one has its pixel (14, 14) where this one begins


def test_chang_is_moved_except_where_the_pads_happen_to_fit() -> None:
    x, weights, spec = case(5, 2, (1, 2))
    exact, found = reference.deconv(x, weights, spec), inexact_chang(x, weights, spec)
    assert found.shape == exact.shape
    np.testing.assert_array_equal(found[:, :, :-1, :-1], exact[:, :, 1:, 1:])
    fitting = case(5, 2, (2, 1))
    np.testing.assert_array_equal(inexact_chang(*fitting), reference.deconv(*fitting))


@pytest.mark.parametrize("scheme", [inexact_shi, inexact_chang])
def test_they_refuse_what_they_do_not_define(scheme: object) -> None:
    x, weights, _ = case(4, 2, (1, 1))
    plane = Axis(4, 2, 1, 1, 1, 0, 6), Axis(4, 3, 1, 1, 1, 0, 7)
    with pytest.raises(UsageError, match="one stride"):
        scheme(x, weights, Deconv(plane, 3, 2))  # type: ignore[operator]
    with pytest.raises(UsageError, match="at least 2"):
        scheme(x, weights, Deconv((Axis(3, 1, 1, 1, 1, 0, 6),) * 2, 3, 2))  # type: ignore[operator]
    with pytest.raises(UsageError, match="groups nor dilation"):
        scheme(x, weights, Deconv((Axis(3, 2, 2, 1, 1, 0, 6),) * 2, 3, 2))  # type: ignore[operator]


def test_shi_refuses_a_map_that_is_smaller_than_its_filter() -> None:
    with pytest.raises(UsageError, match="leaves nothing: 3 taps on 1 pixels"):
        inexact_shi(*case(5, 2, (1, 2), (1, 1)))


def test_no_converter_can_reach_them() -> None:
    package = Path(splitdeconv.__file__).parent
    importing = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if any("inexact" in name for name in names):
                importing.add(path.relative_to(package).as_posix())
    assert importing
    assert all(path.startswith("lab/paper/") for path in importing)
    assert not [name for name in LOWERINGS if "inexact" in name or "shi" in name or "chang" in name]
    for name in ("inexact_shi", "shi", "chang"):
        with pytest.raises(UsageError):
            find_lowering(name)
