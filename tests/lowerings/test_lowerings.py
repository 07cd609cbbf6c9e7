"""Every lowering against the definition, bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitdeconv.deconv import reference
from splitdeconv.deconv.ops import Conv, DepthToSpace, Layout, Reshape
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv, Quant, WrittenOut
from splitdeconv.deconv.written import stretched_axis
from splitdeconv.errors import UsageError
from splitdeconv.lowerings import LOWERINGS, candidates, find_lowering, lower
from splitdeconv.lowerings.candidate import Candidate
from tests.examples import examples
from tests.strategies import beside_tensors, deconvs, integer_tensors, separable_deconvs, written_out_deconvs

LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC")
DCGAN2 = Deconv((Axis(5, 2, 1, 2, 2, 1, 16), Axis(5, 2, 1, 2, 2, 1, 16)), 128, 64)
SNGAN2 = Deconv((Axis(4, 2, 1, 1, 1, 0, 8), Axis(4, 2, 1, 1, 1, 0, 8)), 256, 128)

BILINEAR = Deconv((Axis(4, 2, 1, 1, 1, 0, 8), Axis(4, 2, 1, 1, 1, 0, 8)), 3, 3, 3, separable=True)

UPSAMPLED = Deconv((stretched_axis("repeat", 2, 3, 1, (1, 1), 8),), 4, 4, written_out=WrittenOut("repeat", (3,), (1,)))
POINTWISE = Deconv((stretched_axis("repeat", 2, 1, 1, (0, 0), 8),), 4, 4, written_out=WrittenOut("repeat", (1,), (1,)))


def assert_every_candidate_is_exact(deconv: Deconv, seed: int) -> None:
    x, weights = integer_tensors(deconv, seed)
    beside = beside_tensors(deconv, seed)
    wanted = reference.definition(x, weights, deconv, *beside)
    for layout in LAYOUTS:
        for candidate in candidates(deconv, layout)[0]:
            program = lower(deconv, layout, candidate)
            first, *further = (each if layout == "NCHW" else np.moveaxis(each, 1, -1) for each in (x, *beside))
            found = reference.run(program, first, weights, *further)
            assert found.shape == program.shapes()[-1]
            np.testing.assert_array_equal(
                found if layout == "NCHW" else np.moveaxis(found, -1, 1), wanted, str(candidate)
            )


@given(deconvs(), st.integers(0, 2**32))
@examples(25, 10_000)
def test_every_lowering_is_bit_equal_to_the_definition(deconv: Deconv, seed: int) -> None:
    assert_every_candidate_is_exact(deconv, seed)


@given(separable_deconvs(), st.integers(0, 2**32))
def test_and_on_separable_filters(deconv: Deconv, seed: int) -> None:
    assert any(candidate.lowering == "separable" for candidate in candidates(deconv, "NCHW")[0])
    assert_every_candidate_is_exact(deconv, seed)


@given(written_out_deconvs(), st.integers(0, 2**32))
@examples(25, 10_000)
def test_and_on_convolutions_of_stretched_maps(deconv: Deconv, seed: int) -> None:
    assert_every_candidate_is_exact(deconv, seed)


# channels in front of the stretched map, its own, those behind it, and groups of all of them
GROUPED = [(0, 3, 3, 2), (3, 3, 0, 2), (1, 3, 2, 2), (2, 2, 2, 3), (3, 2, 1, 2), (1, 1, 4, 6), (3, 1, 5, 3)]


@pytest.mark.parametrize("channels", [*GROUPED, (1, 4, 1, 3)])
def test_and_on_groups_of_channels_of_several_maps(channels: tuple[int, int, int, int]) -> None:
    before, own, behind, groups = channels
    axes = UPSAMPLED.axes[0].with_in_size(4), stretched_axis("repeat", 3, 2, 1, (1, 0), 3)
    written = WrittenOut("repeat", (3, 2), (1, 1), before + behind, ((1, 0), (0, 0)), before)
    deconv = Deconv(axes, own, 2 * groups, groups, has_bias=True, written_out=written)
    assert_every_candidate_is_exact(deconv, 0)


@given(st.one_of(deconvs(), written_out_deconvs()))
@examples(20, 1_000)
def test_programs_do_not_depend_on_sizes(deconv: Deconv) -> None:
    unknown = deconv.with_in_sizes(None, [None] * len(deconv.axes))
    for layout in LAYOUTS:
        for candidate in candidates(deconv, layout)[0]:
            if candidate.lowering == "native":
                continue
            sized, unsized = (lower(each, layout, candidate) for each in (deconv, unknown))
            assert unsized.steps == sized.steps
            assert unsized.shapes(*sized.in_shapes) == sized.shapes()


@pytest.mark.parametrize("name", sorted(LOWERINGS))
def test_no_lowering_refuses_everything(name: str) -> None:
    found = [each for deconv in (DCGAN2, BILINEAR, UPSAMPLED, POINTWISE) for each in candidates(deconv, "NCHW")[0]]
    assert any(candidate.lowering == name for candidate in found)


def test_an_oracle_that_sees_a_broken_lowering() -> None:
    """The proof itself must be able to fail: swap two sub-filters and it does."""
    program = lower(SNGAN2, "NCHW", Candidate("split", "union", "depth_to_space"))
    x, weights = integer_tensors(SNGAN2, seed=1)
    wanted = reference.deconv(x, weights, SNGAN2)
    np.testing.assert_array_equal(reference.run(program, x, weights), wanted)
    assert not np.array_equal(reference.run(swap_first_blocks(program), x, weights), wanted)


def swap_first_blocks(program: Program) -> Program:
    first, *rest = program.steps
    assert isinstance(first.op, Conv)
    second_block, first_block, *others = first.op.blocks
    broken = dataclasses.replace(first.op, blocks=(first_block, second_block, *others))
    return dataclasses.replace(program, steps=(dataclasses.replace(first, op=broken), *rest))


@pytest.mark.parametrize(
    ("lowering", "deconv", "reason"),
    [
        ("split_rows", Deconv((Axis(4, 2), Axis(4, 2)), 4, 4, groups=2), "groups keep their channels together"),
        ("split_rows", Deconv((Axis(4), Axis(4)), 4, 4), "all strides are 1"),
        ("split_row_groups", Deconv((Axis(2, 2), Axis(2, 2)), 4, 4), "all column phases have the same window"),
        ("split_phases", Deconv((Axis(3),), 4, 4), "only one phase"),
        ("col2im", Deconv((Axis(4, 2),), 4, 4, quant=Quant("uint8", "int8", True)), "would requantise twice"),
        ("col2im", Deconv((Axis(4, 2, 3),), 4, 4), "no dilation"),
        ("col2im", Deconv((Axis(2, 2),), 4, 4), "nothing to add"),
        ("col2im", Deconv((Axis(4, 2),), 4, 4, groups=2), "groups do not allow"),
        ("col2im", Deconv((Axis(4, 2, pad_end=-1),), 4, 4), "a negative pad"),
        ("separable", Deconv((Axis(4, 2, in_size=8),), 4, 4, 4), "not, for all channels, the product"),
        ("separable", Deconv((Axis(4, 2),), 4, 4, 4, separable=True), "the input size is unknown"),
        ("separable", Deconv((Axis(4, 2, in_size=1024),), 4, 4, 4, separable=True), "more than 1048576"),
    ],
)
def test_a_refusal_says_why(lowering: str, deconv: Deconv, reason: str) -> None:
    refused = {refusal.candidate.lowering: refusal.reason for refusal in candidates(deconv, "NHWC")[1]}
    assert reason in refused[lowering]


def test_an_unknown_lowering_names_those_that_exist() -> None:
    with pytest.raises(UsageError, match="no lowering is called 'fft'; there are native, zero_insert, split"):
        find_lowering("fft")


def test_kernel_equal_to_stride_is_a_pointwise_convolution_and_a_rearrangement() -> None:
    deconv = Deconv((Axis(2, 2, in_size=32), Axis(2, 2, in_size=32)), 512, 256)
    conv, rearrangement = lower(deconv, "NCHW", Candidate("split", "union", "depth_to_space")).steps
    assert isinstance(conv.op, Conv)
    assert conv.op.kernel == (1, 1)
    assert rearrangement.op == DepthToSpace(2, "block_major", "NCHW")


@pytest.mark.parametrize(
    ("candidate", "ratio"),
    [
        (Candidate("native"), 25),
        (Candidate("zero_insert"), 25 * 4),
        (Candidate("split", "union", "depth_to_space"), 36),
        (Candidate("split_phases", form="concat"), 25),
        (Candidate("split_rows"), 30),
        (Candidate("split_row_groups"), 25),
    ],
)
def test_multiply_accumulates_of_a_5x5_kernel_of_stride_2(candidate: Candidate, ratio: int) -> None:
    assert lower(DCGAN2, "NCHW", candidate).macs() == ratio * 128 * 64 * 16 * 16


def test_a_last_reshape_can_be_left_out_and_nothing_else() -> None:
    x, weights = integer_tensors(SNGAN2, seed=3)
    whole = reference.deconv(x, weights, SNGAN2)
    for candidate in candidates(SNGAN2, "NCHW")[0]:
        program = lower(SNGAN2, "NCHW", candidate)
        cut = program.without_last_reshape()
        assert len(program.steps) - len(cut.steps) == isinstance(program.steps[-1].op, Reshape)
        np.testing.assert_array_equal(reference.run(cut, x, weights).reshape(whole.shape), whole)


def test_a_reshape_stays_where_element_wise_work_must_follow_it() -> None:
    program = lower(Deconv((Axis(4, 2, in_size=5),), 4, 4), "NCHW", Candidate("col2im", form="transpose"))
    assert isinstance(program.steps[-1].op, Reshape)
    assert program.without_last_reshape() is program


@pytest.mark.parametrize(
    ("deconv", "wanted"),
    [
        (
            Deconv((Axis(4096, 1024, in_size=100),), 2049, 1),
            {
                "split_phases": "would be 1024 convolutions, more than 64",
                "zero_insert": "would take 1024 times the multiply-accumulates of the definition, more than 256",
            },
        ),
        (
            Deconv((Axis(64, 32, in_size=8), Axis(64, 32, in_size=8)), 21, 21),
            {"split_phases": "would be 1024 convolutions, more than 64"},
        ),
        (
            Deconv((Axis(5, 65, in_size=8), Axis(5, 2, in_size=8)), 4, 4),
            {
                "split_rows": "would be 65 convolutions, more than 64",
                "split_row_groups": "would be 130 convolutions, more than 64",
            },
        ),
        (Deconv((Axis(99, 1, in_size=8),), 4, 4), {"col2im": "would be 99 shifted sums, more than 64"}),
    ],
    ids=["stft", "fcn32", "rows", "col2im"],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_forms_of_very_many_parts_are_refused_and_others_are_left(
    deconv: Deconv, wanted: dict[str, str], layout: Layout
) -> None:
    offered, refusals = candidates(deconv, layout)
    reasons = {refusal.candidate.lowering: refusal.reason for refusal in refusals}
    assert {name: reasons.get(name) for name in wanted} == wanted
    assert any(candidate.lowering == "split" for candidate in offered)


def test_eight_by_eight_phases_are_not_too_many() -> None:
    offered, _ = candidates(Deconv((Axis(16, 8, in_size=4), Axis(16, 8, in_size=4)), 2, 2), "NCHW")
    assert {"split_phases", "col2im", "zero_insert"} <= {candidate.lowering for candidate in offered}


def test_phases_without_taps_are_neither_computed_nor_stored() -> None:
    """A 1×1 kernel of stride 2 has one phase of four: as many products as the definition, and the own filter."""
    deconv = Deconv((Axis(1, 2, in_size=8), Axis(1, 2, in_size=8)), 3, 5)
    offered, refused = candidates(deconv, "NCHW")
    assert "split:taps:depth_to_space" in map(str, offered)
    for candidate in offered:
        program = lower(deconv, "NCHW", candidate)
        if candidate.window == "taps":
            assert program.macs() == deconv.macs()
            assert [step.op.filter_shape for step in program.steps if isinstance(step.op, Conv)] == [(5, 3, 1, 1)]
    assert any(each.candidate.lowering == "split_phases" and "compute zeros" in each.reason for each in refused)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_groups_leave_phases_without_taps_out_too(layout: Layout) -> None:
    deconv = Deconv((Axis(2, 3, 1, 1, 0, 1, 4), Axis(1, 2, in_size=5)), 4, 6, 2, 1, has_bias=True)
    x, weights = integer_tensors(deconv, 0, "float32")
    wanted = reference.deconv(x, weights, deconv)
    forms = [each for each in candidates(deconv, layout)[0] if each.window == "taps"]
    assert forms
    for candidate in forms:
        program = lower(deconv, layout, candidate)
        (conv,) = (step.op for step in program.steps if isinstance(step.op, Conv))
        assert conv.filter_shape[0] == 2 * 6, "two phases of six channels, out of six phases"
        y = reference.run(program, x if layout == "NCHW" else np.moveaxis(x, 1, -1), weights)
        np.testing.assert_array_equal(y if layout == "NCHW" else np.moveaxis(y, -1, 1), wanted)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quant": Quant("uint8", "int8", per_channel=True)}, "would have to be the rounded bias, not zeros"),
        ({"axes": (Axis(2, 3, 2, in_size=4),)}, "the phases without taps lie between the others"),
    ],
)
def test_where_zeros_cannot_stand_for_phases_the_reason_is_said(changes: dict[str, object], reason: str) -> None:
    deconv = dataclasses.replace(Deconv((Axis(1, 2, in_size=8),), 3, 5), **changes)  # type: ignore[arg-type]
    offered, refused = candidates(deconv, "NCHW")
    assert not [each for each in offered if each.window == "taps"]
    (said,) = (each.reason for each in refused if str(each.candidate) == "split:taps")
    assert reason in said


@pytest.mark.parametrize("bias", [False, True])
def test_zeros_that_stand_for_outputs_have_the_epilogue_too(bias: bool) -> None:
    deconv = Deconv((Axis(1, 2, in_size=8), Axis(1, 2, in_size=8)), 3, 5, has_bias=bias)
    forms = [each for each in candidates(deconv, "NCHW")[0] if each.window == "taps"]
    assert forms
    for candidate in forms:
        program = lower(deconv, "NCHW", candidate)
        assert program.sums() == (program.output,)
