"""Deconvs that models write out: a convolution behind a nearest upsampling, or behind inserted zeros.

On one axis, ``x`` stretched by ``s`` and then a convolution of kernel ``K``, dilation ``d`` and pads is a deconv of
stride ``s``. Behind zeros its kernel is the convolution's, turned round. Behind an upsampling it has
``K' = (K − 1)·d + s`` taps, each the sum of those of the convolution that meet copies of one pixel:
``W[(K − 1 − k)·d + r] += w[k]`` for ``r = 0 … s − 1``. Both have pads ``(K − 1)·d`` less those of the convolution.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from splitdeconv.deconv.ops import Layout, Shape
from splitdeconv.deconv.phases import Tap, Taps, Window
from splitdeconv.deconv.spec import Axis, Deconv, Stretch


def stretched_axis(
    stretch: Stretch,
    factor: int,
    kernel: int,
    dilation: int,
    pads: tuple[int, int],
    in_size: int | None,
) -> Axis:
    """The deconv's axis for a convolution of a map that was stretched by ``factor``.

    Args:
        stretch: how.
        factor: pixels of the stretched map for each one of the input.
        kernel, dilation: of the convolution.
        pads: zeros that the convolution reads before and behind the stretched map, which ends with the input's last
            pixel; negative where it does not read all of that map.
        in_size: before the stretching.
    """
    reach = (kernel - 1) * dilation
    begin, end = reach - pads[0], reach - pads[1]
    if stretch == "zeros" or factor == 1:
        return Axis(kernel, factor, dilation, begin, end, 0, in_size)
    return Axis(reach + factor, factor, 1, begin, end, 0, in_size)


def own_pads(deconv: Deconv) -> tuple[tuple[int, int], ...]:
    """What the model's convolution pads the stretched map by on each axis; negative where it reads only part of it."""
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    reaches = [(kernel - 1) * dilation for kernel, dilation in zip(written.kernel, written.dilations, strict=True)]
    return tuple(
        (reach - axis.pad_begin, reach - axis.pad_end) for axis, reach in zip(deconv.axes, reaches, strict=True)
    )


def whole_pads(deconv: Deconv) -> tuple[tuple[int, int], ...]:
    """As :func:`own_pads`, of a stretched map that has the zeros behind its last pixel too: ``s`` times the input's."""
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    behind = [stride - 1 if written.stretch == "zeros" else 0 for stride in deconv.strides]
    return tuple((begin, end - more) for (begin, end), more in zip(own_pads(deconv), behind, strict=True))


def original_taps(deconv: Deconv, number: int, taps: Taps) -> Taps:
    """Taps of one axis of the deconv, as taps of the model's own kernel; a sum where several make one."""
    written = deconv.written_out
    if written is None:
        return taps
    kernel, dilation, factor = written.kernel[number], written.dilations[number], deconv.axes[number].stride
    if written.stretch == "zeros" or factor == 1:
        return tuple(None if tap is None else kernel - 1 - _index(tap) for tap in taps)
    return tuple(None if tap is None else _run(kernel, dilation, factor, _index(tap)) for tap in taps)


def in_original_taps(deconv: Deconv, number: int, window: Window) -> Window:
    """The same window with its taps as :func:`original_taps`."""
    return replace(window, taps=tuple(original_taps(deconv, number, taps) for taps in window.taps))


def _index(tap: int | range) -> int:
    assert isinstance(tap, int), "a deconv's own taps are single"
    return tap


def _run(kernel: int, dilation: int, factor: int, tap: int) -> Tap:
    """The convolution's taps ``k`` with ``(K − 1 − k)·d`` among the ``s`` places up to ``tap``."""
    first, last = -((factor - 1 - tap) // dilation), tap // dilation
    first, last = max(0, first), min(kernel - 1, last)
    if last < first:
        return None
    return kernel - 1 - last if first == last else range(kernel - 1 - last, kernel - first)


def without_beside(deconv: Deconv) -> Deconv:
    """The same without the map beside the stretched one; of its groups those that read the stretched one."""
    written = deconv.written_out
    if written is None or not written.beside:
        return deconv
    alone = replace(written, beside=0, around=())
    if deconv.groups == 1:
        return replace(deconv, written_out=alone)
    _, own, _ = group_reads(deconv)
    outs = len(own.groups) * (deconv.out_channels // deconv.groups)
    return replace(
        deconv,
        in_channels=len(own.rows),
        out_channels=outs,
        groups=len(own.groups),
        has_bias=False,
        written_out=replace(alone, before=own.rows.start),
    )


@dataclass(frozen=True, slots=True)
class GroupRead:
    """What groups of channels read of one map of a skip connection.

    Attributes:
        groups: that read it.
        channels: of the map among all that the convolution reads.
        rows: of the kernel that meet them: those of whole groups, unless one group reads all of the map.
    """

    groups: range
    channels: range
    rows: range

    @property
    def zeros(self) -> tuple[int, int]:
        """Channels of zeros before and behind the map's own, so that it fills its groups."""
        return self.channels.start - self.rows.start, self.rows.stop - self.channels.stop


def group_reads(deconv: Deconv) -> tuple[GroupRead, GroupRead, GroupRead]:
    """What the groups of a convolution read: of maps before the stretched one, of that, and of maps behind it."""
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    total = deconv.in_channels + written.beside
    ends = [0, written.before, written.before + deconv.in_channels, total]
    return tuple(_group_read(range(*pair), total // deconv.groups) for pair in pairwise(ends))  # type: ignore[return-value]


def _group_read(channels: range, per_group: int) -> GroupRead:
    groups = range(channels.start // per_group, -(-channels.stop // per_group)) if channels else range(0)
    whole = range(groups.start * per_group, groups.stop * per_group)
    return GroupRead(groups, channels, channels if len(groups) < 2 else whole)


def around_of(deconv: Deconv) -> tuple[tuple[int, int], ...]:
    """Pixels of the map beside the stretched one before and behind that, on each axis."""
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    return written.around or ((0, 0),) * len(deconv.axes)


def beside_pads(deconv: Deconv) -> tuple[tuple[int, int], ...]:
    """As :func:`own_pads`, of the map beside the stretched one."""
    pads = zip(own_pads(deconv), around_of(deconv), strict=True)
    return tuple((begin - first, end - last) for (begin, end), (first, last) in pads)


def beside_shape(deconv: Deconv, layout: Layout) -> Shape:
    """Shape of the map beside the stretched one."""
    written = deconv.written_out
    assert written is not None, "asked of written-out deconvs only"
    more = 1 if written.stretch == "zeros" else 0
    sizes = [None if axis.in_size is None else (axis.in_size - more) * axis.stride + more for axis in deconv.axes]
    if written.interpolation is not None:
        sizes = list(deconv.out_sizes)
    pairs = zip(sizes, around_of(deconv), strict=True)
    sizes = [None if size is None else size + sum(around) for size, around in pairs]
    batch, channels = deconv.batch, written.beside
    return (batch, channels, *sizes) if layout == "NCHW" else (batch, *sizes, channels)


def has_holes(deconv: Deconv) -> bool:
    """Whether some taps of the deconv's kernel are sums of nothing: dilations above the upsampling's factor."""
    written = deconv.written_out
    if written is None or written.stretch == "zeros":
        return False
    sizes = zip(deconv.axes, written.kernel, written.dilations, strict=True)
    return any(kernel > 1 and dilation > axis.stride > 1 for axis, kernel, dilation in sizes)


def goes_before(deconv: Deconv) -> bool:
    """Whether the convolution can be done before the upsampling: all copies of a pixel meet the same taps."""
    written = deconv.written_out
    if written is None or written.stretch == "zeros":
        return False
    sizes = zip(deconv.axes, written.kernel, written.dilations, strict=True)
    return all(kernel == 1 or dilation % axis.stride == 0 for axis, kernel, dilation in sizes)


def sums_weights(deconv: Deconv) -> bool:
    """Whether taps of the deconv are sums of several of the model's weights."""
    written = deconv.written_out
    return written is not None and written.stretch == "repeat" and not goes_before(deconv)


def is_requantised(deconv: Deconv) -> bool:
    """Whether each split form of ``deconv`` needs filters quantised anew."""
    return deconv.quant is not None and sums_weights(deconv)


def aligned_shift(deconv: Deconv, number: int) -> int:
    """Leading outputs of an axis to compute in addition, so that each phase begins where a pixel's copies begin."""
    return -own_pads(deconv)[number][0] % deconv.axes[number].stride
