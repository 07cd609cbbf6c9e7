"""Programs as PyTorch operations against the definition, bit for bit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from splitdeconv.deconv import ops, reference  # noqa: E402
from splitdeconv.deconv.ops import Conv  # noqa: E402
from splitdeconv.deconv.spec import Axis, Deconv  # noqa: E402
from splitdeconv.deconv.weights import conv_channels, conv_filter  # noqa: E402
from splitdeconv.errors import UsageError  # noqa: E402
from splitdeconv.lowerings import LOWERINGS, candidates, lower  # noqa: E402
from splitdeconv.lowerings.candidate import Candidate  # noqa: E402
from splitdeconv.torch_modules.filters import bias_split, filter_split  # noqa: E402
from splitdeconv.torch_modules.forms import LAYOUTS, default_form, find_form  # noqa: E402
from splitdeconv.torch_modules.interpret import Form, interpret, routine  # noqa: E402
from splitdeconv.torch_modules.operators import APPLY  # noqa: E402
from tests.examples import examples  # noqa: E402
from tests.strategies import deconvs, integer_tensors  # noqa: E402

DCGAN2 = Deconv((Axis(5, 2, 1, 2, 2, 1, 16), Axis(5, 2, 1, 2, 2, 1, 16)), 8, 4)


def all_forms(deconv: Deconv) -> list[Form]:
    by_layout = {layout: candidates(deconv, "NHWC" if layout == "NHWC" else "NCHW")[0] for layout in LAYOUTS}
    return [Form(candidate, layout) for layout, each in by_layout.items() for candidate in each]


def assert_every_form_is_exact(deconv: Deconv, seed: int) -> None:
    x, weights = integer_tensors(deconv, seed)
    wanted = reference.deconv(x, weights, deconv)
    bias = None if weights.bias is None else torch.from_numpy(weights.bias)
    for form in all_forms(deconv):
        found = routine(deconv, form)
        y = found.apply(torch.from_numpy(x), found.split(torch.from_numpy(weights.kernel), bias))
        np.testing.assert_array_equal(y.numpy(), wanted, str(form))


@given(deconvs(), st.integers(0, 2**32))
@examples(15, 5_000)
def test_every_form_is_bit_equal_to_the_definition(deconv: Deconv, seed: int) -> None:
    assert_every_form_is_exact(deconv, seed)


@given(deconvs(), st.integers(0, 2**32))
@examples(8, 200)
def test_filters_are_those_of_the_numpy_definition(deconv: Deconv, seed: int) -> None:
    _, weights = integer_tensors(deconv, seed)
    channels = np.arange(deconv.out_channels)
    for form in all_forms(deconv):
        for step in lower(deconv, form.layout, form.candidate).steps:
            if isinstance(step.op, Conv):
                found = filter_split(step.op, deconv.weights_shape)(torch.from_numpy(weights.kernel))
                np.testing.assert_array_equal(found.numpy(), conv_filter(weights.kernel, step.op))
                found = bias_split(step.op)(torch.from_numpy(channels))
                np.testing.assert_array_equal(found.numpy(), conv_channels(channels, step.op))


def test_an_oracle_that_sees_a_broken_program() -> None:
    """The comparison itself must be able to fail: swap two sub-filters and it does."""
    program = lower(DCGAN2, "NHWC", Candidate("split", "union", "depth_to_space"))
    first, *rest = program.steps
    assert isinstance(first.op, Conv)
    second, leading, *others = first.op.blocks
    swapped = dataclasses.replace(first, op=dataclasses.replace(first.op, blocks=(leading, second, *others)))
    x, weights = integer_tensors(DCGAN2, seed=1)
    wanted = reference.deconv(x, weights, DCGAN2)
    for steps, equal in ((program.steps, True), ((swapped, *rest), False)):
        found = interpret(dataclasses.replace(program, steps=tuple(steps)))
        y = found.apply(torch.from_numpy(x), found.split(torch.from_numpy(weights.kernel), None)).numpy()
        assert np.array_equal(y, wanted) is equal


def test_the_table_knows_every_operation() -> None:
    found = {each for each in vars(ops).values() if isinstance(each, type) and issubclass(each, ops.Op)}
    assert set(APPLY) == found - {ops.Op, ops.Spread}  # that one is for weights of a structure, and parameters change


def test_every_lowering_has_a_form() -> None:
    assert {form.candidate.lowering for form in all_forms(DCGAN2)} == {
        name for name, each in LOWERINGS.items() if not each.only_written_out
    } - {"separable"}


def test_the_default_rule_takes_the_window_with_the_fewest_products() -> None:
    four = Deconv((Axis(4, 2, 1, 1, 1), Axis(4, 2, 1, 1, 1)), 8, 4)
    assert default_form(four, "NCHW") == Form(Candidate("split", "crop", "depth_to_space"), "NCHW")
    assert default_form(DCGAN2, "NHWC") == Form(Candidate("split", "union", "depth_to_space"), "NHWC")


@given(deconvs(negative_pads=False))
@examples(20, 500)
def test_the_default_rule_looks_at_no_size_and_no_output_pad(deconv: Deconv) -> None:
    bare = [dataclasses.replace(axis, output_pad=0, in_size=None) for axis in deconv.axes]
    unsized = dataclasses.replace(deconv, axes=tuple(bare), batch=None)
    assert default_form(unsized, "NCHW") == default_form(deconv, "NCHW")


def test_a_form_is_found_by_its_name() -> None:
    assert str(find_form(DCGAN2, "split_rows@NHWC", channels_last=False)) == "split_rows@NHWC"
    assert str(find_form(DCGAN2, "split:full", channels_last=True)) == "split:full:depth_to_space@NHWC"
    for form in all_forms(DCGAN2):
        assert find_form(DCGAN2, str(form), channels_last=False) == form


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("split_rows", "does not apply to 4→4 4/2 @. g2: groups keep their channels together"),
        ("fft", "no form is called 'fft'; for 4→4 4/2 @. g2 there are native, zero_insert"),
        ("split@CHWN", "no layout is called 'CHWN'; there are NCHW, NHWC"),
    ],
)
def test_a_form_that_cannot_be_says_why(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_form(Deconv((Axis(4, 2),), 4, 4, groups=2), name, channels_last=False)
