"""A convolution behind an upsampling by its differences, which are zero inside of blocks of equal pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import prod

from splitdeconv.deconv.ops import Add, Concat, Difference, Dim, Layout, Reshape, spatial_axes
from splitdeconv.deconv.phases import Taps, Window, merge
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.written import aligned_shift, in_original_taps, own_pads
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.lowerings.lowering import Builder, Lowering, too_many
from splitdeconv.lowerings.rearrange import from_channels, from_phases, merged_forms

_NAMES = ("depth", "height", "width")
_ALONE = ("phases", "products")
_PIXELS = -1  # the place of what all places of a block share
Places = tuple[int, ...]  # of a phase in its block, one for each axis


class Differences(Lowering):
    """Convolutions of the pixels, and of their differences along each axis and along several; then one sum.

    Before: nearest upsampling by ``s``, then a convolution of kernel ``K``; ``x`` is ``(N, I, *sizes)``.
    After: on each axis ``δ[i] = x[i] − x[i−1]``; the block that starts at ``x[j]`` is ``x[j]`` times the sum of all
    taps, plus, at its place ``r``, ``Σ_t δ[j+t]`` times the sum of the taps from ``s·t − r`` on: ``K`` products for
    each pixel whatever ``s`` is. On several axes their product: convolutions ``(N, P·C, *Q)`` of ``x``, δ along each
    axis, and δ along several; broadcast Adds ``(N, *s, C, *Q)``; rearrangement; Slice.
    Windows: ``height``, ``width``, ``depth``: differences along that axis only, all phases together on the others;
    ``phases``: a convolution ``(N, C, *Q)`` for each phase of each, so that a runtime can add while it convolves;
    ``products``: the same as matrix products over all pixels.
    Source: this project.
    """

    name = "differences"
    source = "splitdeconv"
    summary = "an upsampled map's convolution by differences between pixels, K products per pixel and axis (float only)"
    only_written_out = True

    def refuse(self, deconv: Deconv) -> str | None:
        written = deconv.written_out
        if written is None or written.stretch == "zeros":
            return "only repeated pixels (nearest upsampling) have differences that are zero inside of blocks"
        if deconv.quant is not None:
            return "differences, and sums of weights, leave the types of quantised layers"
        if deconv.groups > 1:
            return "groups have too few channels to pay for the additional passes over maps"
        if not _eligible(deconv):
            return "no axis has both an upsampling and an undilated kernel of 2 taps at least"
        return None

    def candidates(self, deconv: Deconv, layout: Layout) -> tuple[Candidate, ...]:
        names = [_names(deconv)[number] for number in _eligible(deconv)]
        windows = ("", *names) if len(names) > 1 else ("",)
        forms = [form for form in merged_forms(deconv, layout) if form != "two_steps"]
        merged = (Candidate(self.name, window, form) for window in windows for form in forms)
        return (*merged, *_alone(deconv, layout))

    def lower(self, deconv: Deconv, layout: Layout, candidate: Candidate) -> Program:
        build = Builder(deconv, layout)
        names, window = _names(deconv), candidate.window
        chosen = [names.index(window)] if window in names else _eligible(deconv)
        rank = len(deconv.axes)
        shifts = [aligned_shift(deconv, number) if number in chosen else 0 for number in range(rank)]
        axes = [
            _by_differences(deconv, number, shifts[number]) if number in chosen else _by_phases(deconv, number)
            for number in range(rank)
        ]
        if window in _ALONE:
            phases = _phases(build, axes, flat=window == "products")
            whole = from_phases(build, phases, candidate.form)
        else:
            maps = {tuple(part.of_differences for part in parts): _convolve(build, parts) for parts in product(*axes)}
            total = _summed(build, maps, chosen)
            whole = from_channels(build, _into_channels(build, total), "block_major", candidate.form)
        return build.program(build.crop_output(whole, shifts))


def _names(deconv: Deconv) -> tuple[str, ...]:
    """Names of the axes, outermost first."""
    return _NAMES[-len(deconv.axes) :]


def _eligible(deconv: Deconv) -> list[int]:
    """Axes that differences can be taken along."""
    written = deconv.written_out
    assert written is not None, "refused otherwise"
    sizes = enumerate(zip(deconv.axes, written.kernel, written.dilations, strict=True))
    return [number for number, (axis, kernel, dilation) in sizes if axis.stride > 1 and kernel > 1 and dilation == 1]


def _alone(deconv: Deconv, layout: Layout) -> Iterator[Candidate]:
    """The windows with a convolution for each phase."""
    places = [
        axis.stride + 1 if number in _eligible(deconv) else axis.stride for number, axis in enumerate(deconv.axes)
    ]
    if too_many(prod(places), "convolutions"):
        return
    forms = (merged_forms(deconv, layout)[0], "concat" if layout == "NCHW" else "rows")  # what won anywhere
    windows = _ALONE if layout == "NCHW" and _is_product(deconv) else _ALONE[:1]
    yield from (Candidate(Differences.name, window, form) for window in windows for form in forms)


def _is_product(deconv: Deconv) -> bool:
    """Whether each of the convolutions has a single tap; their sizes must be known."""
    written = deconv.written_out
    assert written is not None, "refused otherwise"
    single = all(kernel <= axis.stride + 1 for axis, kernel in zip(deconv.axes, written.kernel, strict=True))
    return single and len(_eligible(deconv)) == len(deconv.axes) and None not in deconv.in_sizes


@dataclass(frozen=True, slots=True)
class _Summand:
    """What one axis contributes to one of the convolutions: a window over pixels, or over their differences."""

    window: Window
    of_differences: bool


def _by_phases(deconv: Deconv, number: int) -> list[_Summand]:
    """All phases of an axis in one window over the pixels."""
    return [_Summand(in_original_taps(deconv, number, merge(deconv.axes[number].phases())), False)]


def _by_differences(deconv: Deconv, number: int, shift: int) -> list[_Summand]:
    """The sum of all taps over the pixels, and for the last places of a block its partial sums over differences."""
    axis, written = deconv.axes[number], deconv.written_out
    assert written is not None, "refused otherwise"
    kernel, stride = written.kernel[number], axis.stride
    begin = (own_pads(deconv)[number][0] + shift) // stride
    end = axis.rows(shift) - begin
    reach = (kernel + stride - 2) // stride
    rows: list[Taps] = []
    for place in range(_first_place(kernel, stride), stride):
        starts = (stride * step - place for step in range(1, reach + 1))
        rows.append(tuple(_from_tap(start, kernel) for start in starts))
    pixels = Window(((range(kernel),),), 1, begin, end)
    return [_Summand(pixels, False), _Summand(Window(tuple(rows), 1, begin - 1, end - 1 + reach), True)]


def _first_place(kernel: int, stride: int) -> int:
    """The first place of a block that meets a difference."""
    return max(0, stride - kernel + 1)


def _from_tap(start: int, kernel: int) -> int | range | None:
    """The sum of all taps from ``start`` on."""
    if start >= kernel:
        return None
    return start if start == kernel - 1 else range(start, kernel)


def _convolve(build: Builder, parts: Sequence[_Summand]) -> int:
    """One of the convolutions, its phases on axes of their own, in front of the channels."""
    value, windows = _differences(build, parts), [part.window for part in parts]
    bias = build.deconv.has_bias and not any(part.of_differences for part in parts)
    value = build.convolve_by(value, windows, "block_major", bias=bias)
    rank = len(parts)
    phases = [Dim(len(window.taps)) for window in windows]
    channels, batch = Dim(build.deconv.out_channels), Dim(1, axis=0)
    sizes = [Dim(1, axis=axis) for axis in spatial_axes(build.layout, rank + 2)]
    dims = (batch, *phases, channels, *sizes) if build.layout == "NCHW" else (batch, *sizes, *phases, channels)
    return build.add(Reshape(dims), value)


def _phases(build: Builder, axes: Sequence[Sequence[_Summand]], *, flat: bool) -> list[int]:
    """One map ``(N, C, *Q)`` for each phase, row-major."""
    parts = [_apart(summands, stride) for summands, stride in zip(axes, build.deconv.strides, strict=True)]
    maps = {
        places: _convolve_phase(build, [each[place] for each, place in zip(parts, places, strict=True)], flat=flat)
        for places in product(*parts)
    }
    for number, stride in reversed(list(enumerate(build.deconv.strides))):
        if _PIXELS in parts[number]:
            maps = _added(build, maps, number, stride)
    return [maps[places] for places in product(*(range(stride) for stride in build.deconv.strides))]


def _apart(summands: Sequence[_Summand], stride: int) -> dict[int, _Summand]:
    """A window for each place of a block, and one for what all its places share."""
    *pixels, last = summands
    rows = last.window.taps
    windows = [replace(last.window, taps=(row,)) for row in rows]
    places = enumerate(windows, start=stride - len(rows))
    shared = {_PIXELS: pixels[0]} if pixels else {}
    return shared | {place: replace(last, window=window) for place, window in places}


def _added(build: Builder, maps: Mapping[Places, int], number: int, stride: int) -> dict[Places, int]:
    """Along one axis, what all places share and what each adds; runtimes add the latter while they convolve."""
    joined = {}
    for places, shared in maps.items():
        if places[number] != _PIXELS:
            continue
        for place in range(stride):
            whole = (*places[:number], place, *places[number + 1 :])
            joined[whole] = build.add(Add(), maps[whole], shared) if whole in maps else shared
    return joined


def _convolve_phase(build: Builder, parts: Sequence[_Summand], *, flat: bool) -> int:
    """One phase of one of the convolutions."""
    value, windows = _differences(build, parts), [part.window for part in parts]
    bias = build.deconv.has_bias and not any(part.of_differences for part in parts)
    if flat:
        value = build.resize(value, [(window.pad_begin, window.pad_end) for window in windows])
        windows = [replace(window, pad_begin=0, pad_end=0) for window in windows]
    return build.convolve_by(value, windows, "block_major", bias=bias, flat=flat)


def _differences(build: Builder, parts: Sequence[_Summand]) -> int:
    """The differences that the parts are of."""
    value = build.x
    for axis, part in zip(spatial_axes(build.layout, build.rank(value)), parts, strict=True):
        if part.of_differences:
            value = build.add(Difference(axis, build.layout), value)
    return value


def _summed(build: Builder, maps: Mapping[tuple[bool, ...], int], chosen: Sequence[int]) -> int:
    """The sum of all convolutions, the last axis first: each has ``s`` phases then."""
    first = 1 if build.layout == "NCHW" else 1 + len(build.deconv.axes)
    left = dict(maps)
    for number in reversed(chosen):
        joined = {}
        for key, pixels in left.items():
            if not key[number]:
                behind = (*key[:number], True, *key[number + 1 :])
                joined[key] = _join(build, pixels, left[behind], number, first + number)
        left = joined
    (total,) = left.values()
    return total


def _join(build: Builder, pixels: int, differences: int, number: int, at: int) -> int:
    """All places of a block along one axis: those without a difference, then those with one."""
    written = build.deconv.written_out
    assert written is not None, "refused otherwise"
    total = build.add(Add(), pixels, differences)
    plain = _first_place(written.kernel[number], build.deconv.strides[number])
    return build.add(Concat(at), *([pixels] * plain), total) if plain else total


def _into_channels(build: Builder, value: int) -> int:
    """``(N, *s, C, *Q)`` as ``(N, S·C, *Q)``; channels-last likewise."""
    rank = len(build.deconv.axes)
    depth = Dim(prod(build.deconv.strides) * build.deconv.out_channels)
    first = rank + 2 if build.layout == "NCHW" else 1
    sizes = [Dim(1, axis=first + number) for number in range(rank)]
    dims = (Dim(1, axis=0), depth, *sizes) if build.layout == "NCHW" else (Dim(1, axis=0), *sizes, depth)
    return build.add(Reshape(dims), value)
