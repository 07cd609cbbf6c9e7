"""The convolution of least work has the phases' products, the output's shape, and nothing to rearrange."""

from __future__ import annotations

import pytest
from hypothesis import given

from splitdeconv.deconv.ops import Concat, Conv, Reshape, Slice
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.lowerings import LOWERINGS, lower
from splitdeconv.lowerings.bound import least_work
from splitdeconv.lowerings.candidate import Candidate
from tests.strategies import deconvs, written_out_deconvs


def convolutions(deconv: Deconv) -> list[Conv]:
    return [step.op for step in least_work(deconv, "NCHW").steps if isinstance(step.op, Conv)]


@given(deconvs())
def test_it_has_the_products_of_the_phases_and_the_shape_of_the_output(deconv: Deconv) -> None:
    for layout in ("NCHW", "NHWC"):
        program = least_work(deconv, layout)
        assert program.shapes()[-1] == lower(deconv, layout, Candidate("native")).shapes()[-1]
        if LOWERINGS["split_phases"].refuse(deconv) is None:
            phases = lower(deconv, layout, LOWERINGS["split_phases"].candidates(deconv, layout)[0])
            empty = any(not phase.taps for axis in deconv.axes for phase in axis.phases())
            assert program.macs() == phases.macs() or (empty and program.macs() > phases.macs())


@given(written_out_deconvs())
def test_behind_an_upsampling_it_has_the_convolutions_own_products(deconv: Deconv) -> None:
    program = least_work(deconv, "NCHW")
    assert program.shapes()[-1] == lower(deconv, "NCHW", Candidate("native")).shapes()[-1]


@pytest.mark.parametrize(
    ("kernel", "stride", "count"), [(4, 2, 1), (2, 2, 1), (5, 2, 4), (3, 2, 4), (3, 3, 1), (8, 4, 1)]
)
def test_where_the_stride_divides_the_kernel_there_is_one_convolution(kernel: int, stride: int, count: int) -> None:
    deconv = Deconv((Axis(kernel, stride, in_size=8),) * 2, 4, 3)
    program = least_work(deconv, "NCHW")
    assert len(convolutions(deconv)) == count
    assert {type(step.op) for step in program.steps} <= {Conv, Reshape, Slice, Concat}


def test_where_nothing_is_cropped_a_reshape_is_all() -> None:
    deconv = Deconv((Axis(4, 2, 1, 1, 1, 0, 8),) * 2, 4, 3)
    assert [type(step.op) for step in least_work(deconv, "NCHW").steps] == [Conv, Reshape]
