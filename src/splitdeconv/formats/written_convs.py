"""Convolutions of stretched maps in any format: what they do, the deconvs that they are, and why some stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from splitdeconv.deconv.interpolation import Interpolation
from splitdeconv.deconv.spec import Deconv, Stretch, WrittenOut
from splitdeconv.deconv.weights import Array, swapped_channels
from splitdeconv.deconv.written import goes_before, has_holes, stretched_axis
from splitdeconv.formats.index_maps import AxisMap

Rows = TypeVar("Rows", bound=Any)  # NumPy's arrays, or PyTorch's tensors

SUMS_DO_NOT_FIT = (
    "it is quantised: the sums of its weights over the copies of a pixel do not fit into the weights' type"
)
UNLESS_ASKED = f"{SUMS_DO_NOT_FIT}, unless --numerics requantised quantises them anew"
QUANTISED_ANEW = (
    "its filters are quantised anew, for each phase and channel: the model becomes another one, and the proof says by "
    "how many steps"
)
UNPROVEN = (
    "the upsampling in front of it cannot be shown to repeat each pixel a fixed, whole number of times, whatever "
    "the size"
)
ROUNDED_TWICE = (
    "it is quantised: a skip connection is taken apart in float only, as the sum of its two convolutions would be "
    "rounded twice"
)
INTERPOLATED = (
    "it is quantised: the interpolation's results are rounded to stored values before it reads them; in front of the "
    "interpolation there would be others to round"
)
SUMS_INTERPOLATED = (
    "it is quantised: in front of the interpolation its sums would be rounded to stored values before they are blended"
)
RANGE_INTERPOLATED = (
    "its kernels quantise its map by the map's own range when they run, which is another in front of the interpolation"
)
CUT_OFF = "what is cut off behind it would have to be cut off behind the interpolation"
NO_LARGER = "the interpolation in front of it makes its map no larger, so it has no less to do in front of that"
MAY_SHRINK = "the interpolation in front of it is to a fixed size, from an open one: it may make its map smaller"
UNKNOWN_SIZE = "the size of the interpolation in front of it follows another map's, or is computed"


@dataclass(frozen=True)
class ConvGeometry:
    """What a Conv, or a ConvTranspose of stride 1, does; all lists by spatial axis.

    Attributes:
        kernel, strides, dilations: of the convolution.
        pads: zeros before and behind its input.
        groups: of channels.
        turned: whether it is a ConvTranspose, whose taps come in the other order.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    groups: int
    turned: bool

    @property
    def is_pointwise(self) -> bool:
        """Whether each output reads one pixel, and each pixel is read: of stride 1, without pads."""
        return max(self.kernel) == 1 == max(self.strides) and not any(map(any, self.pads))

    def own_kernel(self, weight: Array) -> Array:
        """The node's weight as a kernel IOHW with the convolution's taps in their order."""
        if self.turned:
            return np.flip(weight, axis=tuple(range(2, weight.ndim)))
        return swapped_channels(weight, self.groups)

    def weight_of(self, kernel: Array) -> Array:
        """The node's weight that has ``kernel`` as its own: what :meth:`own_kernel` undoes."""
        return self.own_kernel(kernel)  # both swap and turn are undone by themselves


def written_deconv(
    kind: Stretch,
    maps: Sequence[AxisMap],
    geometry: ConvGeometry,
    channels: tuple[int, int],
    batch: int | None,
    sizes: Sequence[int | None],
    interpolation: Interpolation | None = None,
) -> Deconv:
    """The deconv that a convolution of a stretched map is.

    Args:
        kind: how the map is stretched.
        maps: the stretched map's axes, without copies of border pixels.
        geometry: of the convolution.
        channels: of input and output.
        batch, sizes: of the small map.
        interpolation: of it, if that is how it is stretched.

    Raises:
        ValueError: sizes that no deconv has.
    """
    axes = [
        stretched_axis(kind, axis.factor, kernel, dilation, (begin + axis.begin, end + axis.end), size)
        for axis, kernel, dilation, (begin, end), size in zip(
            maps, geometry.kernel, geometry.dilations, geometry.pads, sizes, strict=True
        )
    ]
    written = WrittenOut(kind, geometry.kernel, geometry.dilations, interpolation=interpolation)
    return Deconv(tuple(axes), *channels, geometry.groups, batch, written_out=written)


def why_left(kind: Stretch, maps: Sequence[AxisMap], geometry: ConvGeometry) -> str | None:
    """Why a convolution of a stretched map stays as it is, whatever its types; or None."""
    if max(geometry.strides) > 1:
        return f"the convolution behind the upsampling has stride {max(geometry.strides)}, which is no deconv's"
    channels = (geometry.groups, geometry.groups)
    deconv = written_deconv(kind, maps, geometry, channels, None, (None,) * len(geometry.kernel))
    if has_holes(deconv) and not goes_before(deconv):
        return (
            "its dilation is above the upsampling's factor and no multiple of it: no two taps meet the same pixel, so "
            "there is nothing to save"
        )
    return None


def not_nearest(mode: str, geometry: ConvGeometry, between: Sequence[str]) -> str:
    """Why a convolution behind an interpolation stays there.

    Args:
        mode: of the interpolation.
        geometry: of the convolution.
        between: kinds of the nodes that stand between the two.
    """
    if not geometry.is_pointwise or not between:
        return f"its upsampling is {mode}: only that of nearest pixels makes a deconv of it"
    return (
        f"its upsampling is {mode}, with {', '.join(between)} behind: only a 1×1 convolution right behind an "
        "interpolation goes before it"
    )


def stretched_first(rows: Rows, channels: tuple[int, int] | None) -> Rows:
    """The rows of a kernel IOHW, those of a stretched map first: ``channels`` from the first to behind the last.

    All are that map's where ``channels`` is None.
    """
    if channels is None:
        return rows
    first, last = channels
    ordered: Rows = rows[[*range(first, last), *range(first), *range(last, len(rows))]]
    return ordered


def beside(
    deconv: Deconv,
    count: int,
    before: int,
    groups: int,
    maps: Sequence[AxisMap],
    zeros: Sequence[tuple[int, int]] | None,
) -> Deconv:
    """The deconv with ``count`` channels of other maps beside the stretched one.

    Args:
        deconv: of the stretched map alone, without groups.
        count: of channels.
        before: of them in front of the stretched map's, in the order of the kernel's rows.
        groups: of all channels.
        maps: the stretched map's axes.
        zeros: pads of both behind the concatenation, which the convolution's pads take in; None where they are done
            on each map.
    """
    written = deconv.written_out
    assert written is not None, "asked of stretched maps only"
    each = zip(maps, zeros or [(0, 0)] * len(maps), strict=True)
    around = tuple((axis.begin - begin, axis.end - end) for axis, (begin, end) in each)
    found = replace(written, beside=count, before=before, around=around if any(map(any, around)) else ())
    return replace(deconv, groups=groups, written_out=found)


def left_note(parts: Sequence[str]) -> str:
    """Of several upsampled parts of one concatenation, what becomes of those that are not taken."""
    names = ", ".join(f"'{part}'" for part in parts)
    return (
        f"{names} beside it stay upsampled in the other convolution: one deconv has one factor; converting the result "
        "again takes the next"
    )


def interpolated_note(interpolation: Interpolation, names: Sequence[str], kept: str | None) -> str:
    """What becomes of an interpolation in front of the convolution; ``names`` and ``kept`` as of `stretched_note`."""
    stays = "" if kept is None else f", and stays in front of it too: other nodes read '{kept}'"
    return f"the {interpolation.kind} interpolation in front of it ({' '.join(names)}) comes behind it{stays}"


def stretched_note(kind: Stretch, factors: Sequence[int], names: Sequence[str], kept: str | None) -> str:
    """What becomes of the nodes in front of the convolution.

    Args:
        kind: how the map is stretched.
        factors: on each axis.
        names: of the kinds of nodes, in order.
        kept: name of what stays because others read it too, or None.
    """
    what = "upsampling" if kind == "repeat" else "zero insertion"
    left = "" if kept is None else f", but stays too: other nodes read '{kept}'"
    by = "×".join(str(factor) for factor in factors)
    return f"the {what} by {by} in front of it ({' '.join(names)}) becomes part of the deconv{left}"
