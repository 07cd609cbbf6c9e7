"""Cycles and skips: the published table, its invariants, and a tap-by-tap simulation of small arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitdeconv.accelerator import dot_product, regular_array, systolic
from splitdeconv.accelerator.arch import Architecture, load_architecture
from splitdeconv.accelerator.evaluate import evaluate
from splitdeconv.accelerator.layers import plain_work
from splitdeconv.accelerator.lowered import cropped_split, full_split, phase_by_phase, program_work, scattered
from splitdeconv.accelerator.sparsity import SKIPS, Skip, useful_macs
from splitdeconv.accelerator.work import Convolution, FilterMask, LayerWork
from splitdeconv.deconv import reference
from splitdeconv.deconv.layers import ConvAxis, PlainConv
from splitdeconv.deconv.network import Layer
from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from tests.examples import examples
from tests.strategies import deconvs, integer_tensors
from tests.tap_by_tap import dot_product_array, random_operands, regular_2d_array

DOT = load_architecture("dot-product-16x16")
REGULAR = load_architecture("regular-2d-32x7")


def square(kernel: int, stride: int, size: int, ins: int, outs: int) -> Deconv:
    """A deconv with TensorFlow's SAME pads."""
    pads = kernel - stride
    axis = Axis(kernel, stride, 1, pads // 2, pads - pads // 2, 0, size)
    return Deconv((axis, axis), ins, outs)


SNGAN2, DCGAN2, FST1 = square(4, 2, 8, 256, 128), square(5, 2, 16, 128, 64), square(3, 2, 64, 128, 64)


def zero_insert(deconv: Deconv) -> LayerWork:
    return program_work(lower(deconv, "NHWC", Candidate("zero_insert")))


def cycles(work: LayerWork, skip: Skip, arch: Architecture = DOT) -> int:
    return int(evaluate(work, arch, skip).counts.compute_cycles)


@pytest.mark.parametrize(
    ("deconv", "nzp", "full", "cropped"),
    [
        (SNGAN2, (524288, 115200), (165888, 131072, 165888, 131072), (131072, 115200, 131072, 115200)),
        (DCGAN2, (819200, 189728), (373248, 294912, 259200, 204800), (294912, 270848, 204800, 189728)),
        (FST1, (4718592, 1167392), (2163200, 2097152, 1216800, 1179648), (2097152, 2064512, 1179648, 1167392)),
    ],
    ids=["sngan2", "dcgan2", "fst1"],
)
def test_exact_skip_counts_on_16x16_multipliers(
    deconv: Deconv, nzp: tuple[int, ...], full: tuple[int, ...], cropped: tuple[int, ...]
) -> None:
    assert tuple(cycles(zero_insert(deconv), skip) for skip in (SKIPS["none"], SKIPS["activations"])) == nzp
    assert tuple(cycles(full_split(deconv), skip) for skip in SKIPS.values()) == full
    assert tuple(cycles(cropped_split(deconv), skip) for skip in SKIPS.values()) == cropped


@st.composite
def planar(draw: st.DrawFn) -> Deconv:
    """Two axes, no dilation, nothing cropped beyond the kernel, channels that fill whole tiles."""
    axes = []
    stride = draw(st.integers(1, 3))
    for _ in range(2):
        kernel = draw(st.integers(stride, 5))
        begin, end = draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1))
        size = draw(st.integers(1, 6))
        if (size - 1) * stride + kernel - begin - end < 1:
            begin = end = 0
        axes.append(Axis(kernel, stride, 1, begin, end, 0, size))
    return Deconv(tuple(axes), 16 * draw(st.integers(1, 2)), 16)


@given(planar())
@examples(20, 600)
def test_full_split_with_both_skips_is_every_input_times_every_tap(deconv: Deconv) -> None:
    taps = deconv.axes[0].kernel * deconv.axes[1].kernel
    pixels = [axis.in_size or 0 for axis in deconv.axes]
    assert cycles(full_split(deconv), Skip(True, True)) == deconv.in_channels // 16 * taps * pixels[0] * pixels[1]
    assert cycles(full_split(deconv), Skip(True, True)) == cycles(scattered(deconv), Skip())


@given(st.integers(1, 3), st.integers(0, 4), st.integers(1, 8), st.data())
@examples(20, 600)
def test_full_split_with_both_skips_is_zero_insertion_over_the_squared_stride(
    stride: int, more: int, size: int, data: st.DataObject
) -> None:
    kernel = stride + more
    begin = data.draw(st.integers(0, kernel - stride))
    axis = Axis(kernel, stride, 1, begin, kernel - stride - begin, 0, size)
    deconv = Deconv((axis, axis), 16, 16)
    assert cycles(full_split(deconv), Skip(True, True)) * stride**2 == cycles(zero_insert(deconv), Skip())


@given(planar())
@examples(20, 600)
def test_zero_insertion_that_skips_activations_does_only_the_useful_products(deconv: Deconv) -> None:
    nzp = cycles(zero_insert(deconv), Skip(True))
    assert nzp == cycles(cropped_split(deconv), Skip(True, True)) == cycles(phase_by_phase(deconv), Skip(True, True))
    useful = evaluate(zero_insert(deconv), DOT).counts.macs_useful
    assert nzp * 256 == useful
    assert cycles(scattered(deconv), Skip()) >= nzp


@given(deconvs())
@examples(15, 400)
def test_the_useful_products_are_the_same_in_every_form_and_never_more_than_are_issued(deconv: Deconv) -> None:
    forms = [each for each in candidates(deconv, "NHWC")[0] if each.lowering in {"zero_insert", "split_phases"}]
    works = [program_work(lower(deconv, "NHWC", each)) for each in forms]
    for work in [*works, cropped_split(deconv), full_split(deconv)]:
        needed = work.needed_macs
        assert needed is not None
        for skip in SKIPS.values():
            counts = evaluate(work, DOT.varied(rows=2, columns=3), skip).counts
            assert counts.macs_useful == needed <= counts.macs_issued
    nzp = works[0]
    assert sum(useful_macs(conv) for conv in nzp.convolutions) == nzp.needed_macs


@given(deconvs(), st.integers(0, 99))
@examples(10, 250)
def test_the_zeros_of_maps_are_those_that_the_program_really_makes(deconv: Deconv, seed: int) -> None:
    """Ones through the interpreter, up to each convolution, against the traced occupation."""
    x = np.ones((1, 1, *(axis.in_size or 0 for axis in deconv.axes)))
    one = Deconv(deconv.axes, 1, 1)
    for candidate in candidates(one, "NCHW")[0]:
        if candidate.lowering in {"native", "col2im"}:
            continue
        program = lower(one, "NCHW", candidate)
        convolutions = iter(program_work(program).convolutions)
        values = [x]
        for step in program.steps:
            if isinstance(step.op, Conv):
                source = values[step.inputs[0]]
                pads = list(zip(step.op.pad_begin, step.op.pad_end, strict=True))
                found = np.pad(source[0, 0], pads) != 0
                lines = [np.frombuffer(line.occupied, np.uint8) for line in next(convolutions).lines]
                wanted = np.ones((), bool)
                for line in lines:
                    wanted = np.multiply.outer(wanted, line != 0)
                np.testing.assert_array_equal(found, wanted)
            _, weights = integer_tensors(one, seed)
            values.append(reference._apply(step.op, [values[value] for value in step.inputs], weights))


@st.composite
def convolutions(draw: st.DrawFn) -> Convolution:
    """Small convolutions as lowerings make them, and with pruned weights."""
    deconv = draw(deconvs())
    found = [each for each in candidates(deconv, "NHWC")[0] if each.lowering not in {"native", "col2im"}]
    candidate = draw(st.sampled_from(found))
    conv = draw(st.sampled_from(program_work(lower(deconv, "NHWC", candidate)).convolutions))
    if draw(st.booleans()):
        return conv
    shape = (conv.out_channels, conv.in_channels // conv.groups, *conv.kernel)
    nonzero = np.random.default_rng(draw(st.integers(0, 99))).random(shape) < 0.5
    lines, channels = conv.lines, (conv.in_channels, conv.out_channels)
    return Convolution(lines, *channels, conv.groups, conv.batch, weights=FilterMask(nonzero))


@given(convolutions(), st.integers(1, 4), st.integers(1, 4), st.sampled_from(list(SKIPS.values())))
@examples(10, 250)
def test_the_dot_production_array_counts_as_if_simulated_tap_by_tap(
    conv: Convolution, rows: int, columns: int, skip: Skip
) -> None:
    x, weights = random_operands(conv, seed=1)
    slow = dot_product_array(conv, x, weights, rows, columns, skip)
    fast = dot_product.count(conv, DOT.varied(rows=rows, columns=columns), skip)
    assert (fast.cycles, fast.macs_issued) == (slow.cycles, slow.macs)
    assert (fast.map_reads, fast.weight_reads) == (slow.map_reads, slow.weight_reads)
    assert slow.useful == useful_macs(conv)


@given(convolutions(), st.integers(1, 4), st.integers(1, 4), st.sampled_from(list(SKIPS.values())))
@examples(10, 250)
def test_the_regular_array_counts_as_if_simulated_tap_by_tap(
    conv: Convolution, rows: int, columns: int, skip: Skip
) -> None:
    x, weights = random_operands(conv, seed=1)
    slow = regular_2d_array(conv, x, weights, rows, columns, skip)
    fast = regular_array.count(conv, REGULAR.varied(rows=rows, columns=columns), skip)
    assert (fast.cycles, fast.macs_issued) == (slow.cycles, slow.macs)
    assert fast.weight_reads == slow.weight_reads


@pytest.mark.parametrize(
    ("dataflow", "wanted"),
    [
        ("systolic-weight-stationary", 36 * 4 * (64 + 64 + 32 - 2) - 1),
        ("systolic-output-stationary", 2 * 4 * (1152 + 32 + 32 - 2) - 1),
    ],
)
def test_systolic_closed_forms(dataflow: str, wanted: int) -> None:
    arch = load_architecture({"w": "systolic-ws-32x32", "o": "systolic-os-32x32"}[dataflow[9]])
    spec = PlainConv((ConvAxis(8, 3, pad_begin=1, pad_end=1),) * 2, 128, 128)
    (conv,) = plain_work(Layer("conv", spec)).convolutions
    assert systolic.count(conv, arch, Skip()).cycles == wanted


def test_the_table_goes_red_when_a_skip_is_lost() -> None:
    """The table must be able to fail: padding taken as occupied is seen."""
    work = full_split(SNGAN2)
    (conv,) = work.convolutions
    lines = tuple(type(line)(b"\1" * len(line.occupied), line.kernel, 1, 1, line.stored) for line in conv.lines)
    broken = Convolution(lines, conv.in_channels, conv.out_channels, blocks=conv.blocks)
    assert int(dot_product.count(broken, DOT, Skip(True)).cycles) != 131072
