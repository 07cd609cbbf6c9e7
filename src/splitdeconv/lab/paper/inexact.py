"""Two earlier conversions that are not exact, for the comparison only: nothing that converts a model can reach them.

Both compute ``prod(s)`` filters of ``ceil(K/s)`` taps at the input's resolution and interleave their outputs, as split
deconvolution does. What they lack is the border: they treat the deconv's pads as a convolution's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import UsageError

EXACT = "exact"  # the scheme that all others are compared with
Scheme = Callable[[Array, Weights, Deconv], Array]


def inexact_shi(x: Array, weights: Weights, spec: Deconv) -> Array:
    """Shi et al.'s sub-pixel convolution in place of a deconv: it loses the border, so that the map has another size.

    Shapes: ``(N, in_channels, *in_sizes)`` → ``(N, out_channels, *(s·(I − k + 1 + (k − 1)//2)))``, ``k = ceil(K/s)``.
    What is left equals the deconv's own output from row ``s·(k − 1) − shift`` on; the rows before that are lost.
    Source: Shi et al., *Is the deconvolution layer the same as a convolutional layer?*, arXiv 1609.07009: a kernel of
    ``k·r`` is ``r²`` kernels of ``k``. It says nothing of pads. That zeros stand at the end only is read off the
    comparison pictures of the paper's authors (github.com/warmthless/split-deconvolution, commit 5674860): their DCGAN
    image is 50×50 pixels instead of 64×64, and equals the exact one without its first 14 rows and columns.

    Raises:
        UsageError: the scheme does not define it; the message says why.
    """
    _check("Shi's conversion", spec)
    spans = []
    for axis, size in zip(spec.axes, x.shape[2:], strict=True):
        taps = -(-axis.kernel // axis.stride)
        begin, length = taps - 1, size - taps + 1 + (taps - 1) // 2
        if length < 1:
            raise UsageError(f"Shi's conversion of {spec.describe()} leaves nothing: {taps} taps on {size} pixels")
        spans.append((begin * axis.stride - _extension(axis), length * axis.stride))
    return _cut(x, weights, spec, spans)


def inexact_chang(x: Array, weights: Weights, spec: Deconv) -> Array:
    """Chang et al.'s TDC in place of a deconv: the map has the right size, but its phases do not lie where they should.

    Shapes: ``(N, in_channels, *in_sizes)`` → ``(N, out_channels, *(s·I))``.
    The kernel is extended with zeros at its end, the convolutions are padded as TensorFlow's SAME does
    (``(k − 1)//2`` zeros at the begin), and the deconv's own pads are not applied. Where these happen to be
    ``s·(k − 1 − (k − 1)//2)`` the result is exact; anywhere else it is moved.
    Source: Chang, Kang, Kang, *An Energy-Efficient FPGA-Based Deconvolutional Neural Networks Accelerator for Single
    Image Super-Resolution*, IEEE TCSVT 30(1), 2020 (transforming deconvolution to convolution, TDC); the pads as the
    paper's authors' comparison pictures suggest, which are moved by seven pixels.

    Raises:
        UsageError: the scheme does not define it; the message says why.
    """
    _check("Chang's conversion", spec)
    spans = []
    for axis, size in zip(spec.axes, x.shape[2:], strict=True):
        taps = -(-axis.kernel // axis.stride)
        begin = taps - 1 - (taps - 1) // 2
        spans.append((begin * axis.stride, size * axis.stride))
    return _cut(x, weights, spec, spans)


def _check(name: str, spec: Deconv) -> None:
    if spec.groups > 1 or max(axis.dilation for axis in spec.axes) > 1:
        raise UsageError(f"{name} knows neither groups nor dilation, found {spec.describe()}")
    if len(set(spec.strides)) > 1 or spec.strides[0] < 2:
        raise UsageError(f"{name} takes one stride of at least 2 for all axes, found {spec.describe()}")


def _extension(axis: Axis) -> int:
    """Zeros that extend the kernel to a multiple of the stride."""
    return -axis.kernel % axis.stride


def _cut(x: Array, weights: Weights, spec: Deconv, spans: list[tuple[int, int]]) -> Array:
    """Windows ``(begin, length)`` of the deconv's full output, the one that no pad has cropped; zero outside of it."""
    axes = tuple(
        dataclasses.replace(
            axis,
            pad_begin=begin,
            pad_end=(size - 1) * axis.stride + axis.extent - begin - length,
            output_pad=0,
            in_size=size,
        )
        for axis, (begin, length), size in zip(spec.axes, spans, x.shape[2:], strict=True)
    )
    moved = dataclasses.replace(spec, axes=axes)
    return np.ascontiguousarray(reference.deconv(x, weights, moved))
