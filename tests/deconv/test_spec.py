"""Sizes and index arithmetic."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splitdeconv.deconv.phases import Phase, merge
from splitdeconv.deconv.spec import Axis, Deconv
from tests.strategies import axes


def test_a_phase_of_a_kernel_5_stride_2_axis_reads_every_second_tap_backwards() -> None:
    even, odd = Axis(5, 2, in_size=8).phases()
    assert even == Phase(0, (4, 2, 0), 1, 2, 2)
    assert odd == Phase(1, (3, 1), 1, 1, 2)


def test_dilation_that_shares_a_factor_with_the_stride_leaves_phases_without_taps() -> None:
    _, odd = Axis(3, stride=2, dilation=2, in_size=4).phases()
    assert odd.taps == ()


@given(axes(largest=6))
def test_phases_hold_exactly_the_taps_and_inputs_of_the_definition(axis: Axis) -> None:
    assert axis.in_size is not None
    assert axis.out_size is not None
    for shift in range(axis.stride + 1):
        phases = axis.phases(shift)
        for o in range(axis.out_size):
            q, offset = divmod(o + shift, axis.stride)
            phase = phases[offset]
            reads = {(q + at, tap) for at, tap in zip(phase.positions, phase.taps, strict=True)}
            wanted = {
                (i, k)
                for k in range(axis.kernel)
                for i in range(-99, 99)
                if i * axis.stride + k * axis.dilation == o + axis.pad_begin
            }
            assert reads == wanted


def phase_by_definition(axis: Axis, offset: int, shift: int) -> Phase:
    """All taps scanned for those that the phase reads."""
    reach = offset + axis.pad_begin - shift
    taps = [k for k in range(axis.kernel) if (reach - k * axis.dilation) % axis.stride == 0]
    dilation = axis.dilation // math.gcd(axis.dilation, axis.stride)
    if not taps:
        return Phase(offset, (), dilation, 0, axis.rows(shift))
    first, last = ((reach - tap * axis.dilation) // axis.stride for tap in (taps[-1], taps[0]))
    return Phase(offset, tuple(reversed(taps)), dilation, -first, axis.rows(shift) + last)


WIDE = st.builds(
    Axis, st.integers(1, 40), st.integers(1, 24), st.integers(1, 12), st.integers(-30, 30), st.integers(-30, 30)
)


@given(WIDE)
@example(Axis(4096, 256))
@example(Axis(3, 8, dilation=4, pad_begin=-5))
def test_phases_and_the_best_crop_are_those_of_a_scan_of_all_taps_and_shifts(axis: Axis) -> None:
    shifts = range(axis.stride) if axis.kernel <= 40 else (0, 1, axis.stride - 1)
    for shift in shifts:
        assert axis.phases(shift) == tuple(phase_by_definition(axis, offset, shift) for offset in range(axis.stride))
    if axis.kernel <= 40:
        sizes = [merge(axis.phases(shift)).size for shift in shifts]
        assert axis.crop_shift == sizes.index(min(sizes))


def test_a_large_kernel_and_stride_take_no_longer_than_their_taps() -> None:
    """An inverse short-time Fourier transform: with all shifts, phases and taps scanned it would be 10¹² steps."""
    axis = Axis(2**18, 2**14, pad_begin=3)
    assert axis.crop_shift == 3
    assert sum(len(phase.taps) for phase in axis.phases()) == axis.kernel


@given(axes(largest=6))
def test_the_pads_of_phases_and_windows_give_every_phase_the_same_number_of_outputs(axis: Axis) -> None:
    assert axis.in_size is not None
    assert axis.out_size is not None
    rows = axis.in_size + axis.rows()
    for window in [merge(axis.phases()), *(merge([phase]) for phase in axis.phases())]:
        padded = axis.in_size + window.pad_begin + window.pad_end
        assert padded - (window.size - 1) * window.dilation == rows
    assert rows * axis.stride == axis.out_size + axis.surplus()


@given(axes(largest=6))
def test_nothing_but_the_sizes_depends_on_the_input_size(axis: Axis) -> None:
    unknown = axis.with_in_size(None)
    assert unknown.phases() == axis.phases()
    assert unknown.surplus() == axis.surplus()
    assert unknown.out_size is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel": 0}, "kernel is 0, wanted at least 1"),
        ({"kernel": 3, "stride": 0}, "stride is 0"),
        ({"kernel": 3, "in_size": 0}, "input size is 0"),
        ({"kernel": 3, "pad_begin": 2, "pad_end": 1, "in_size": 1}, "output size is 0, wanted at least 1"),
    ],
)
def test_an_impossible_axis_says_what_is_wrong(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Axis(**fields)


def test_channels_must_be_a_multiple_of_the_groups() -> None:
    with pytest.raises(ValueError, match="out_channels is 5, wanted a positive multiple of groups = 2"):
        Deconv((Axis(3),), 4, 5, groups=2)


def test_a_deconv_describes_itself_in_one_cell() -> None:
    deconv = Deconv((Axis(4, 2, 1, 1, 1, 0, 8), Axis(3, 1, 2)), 6, 4, groups=2)
    assert deconv.describe() == "6→4 4×3/2×1 @8×? g2 d1×2"
