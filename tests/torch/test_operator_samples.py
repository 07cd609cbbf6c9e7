"""PyTorch's own samples for conv_transpose, run against ours as data: results, gradients and errors."""

from __future__ import annotations

from functools import cache

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

import splitdeconv.torch as split  # noqa: E402
from splitdeconv.torch_modules.functions import Geometry, deconv_of  # noqa: E402
from tests.torch.forms import all_forms  # noqa: E402

OURS = {
    "nn.functional.conv_transpose1d": split.split_conv_transpose1d,
    "nn.functional.conv_transpose2d": split.split_conv_transpose2d,
    "nn.functional.conv_transpose3d": split.split_conv_transpose3d,
}
NARROW = (torch.float32, torch.bfloat16, torch.float16, torch.complex64)
NOISE = 4  # ours may be this many times as far from float64 as PyTorch's own kernel is (other orders of summation)


@cache
def operators():
    samples = pytest.importorskip(
        "torch.testing._internal.common_methods_invocations",
        reason="the installed torch carries no operator samples (they need the package expecttest)",
    )
    return {op.name: op for op in samples.op_db if op.name.startswith("nn.functional.conv_transpose")}


def inputs_of(name, dtype, requires_grad=False):
    for sample in operators()[name].sample_inputs("cpu", dtype, requires_grad=requires_grad):
        yield (sample.input, *sample.args), sample.kwargs


def integers(tensor):
    return tensor if tensor is None else torch.randint(-8, 9, tensor.shape).to(tensor.dtype)


def widened(tensor):
    return tensor if tensor is None else tensor.to(torch.complex128 if tensor.is_complex() else torch.float64)


def test_the_installed_torch_has_samples_of_all_ranks() -> None:
    assert set(operators()) == set(OURS)
    assert all(len(list(inputs_of(name, torch.float64))) >= 5 for name in OURS)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.float64, torch.complex128])
@pytest.mark.parametrize("name", sorted(OURS))
def test_results_on_integers_are_bit_equal(name, dtype) -> None:
    for (x, weight, bias), kwargs in inputs_of(name, dtype):
        arguments = [integers(tensor) for tensor in (x, weight, bias)]
        wanted, found = operators()[name].op(*arguments, **kwargs), OURS[name](*arguments, **kwargs)
        assert found.dtype == wanted.dtype
        assert torch.equal(found, wanted), kwargs
        assert found.is_contiguous() == wanted.is_contiguous()


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", sorted(OURS))
def test_results_are_as_near_to_float64_as_those_of_pytorch(name, dtype) -> None:
    for arguments, kwargs in inputs_of(name, dtype):
        exact = operators()[name].op(*map(widened, arguments), **kwargs)
        wanted, found = operators()[name].op(*arguments, **kwargs), OURS[name](*arguments, **kwargs)
        floor = torch.finfo(dtype).eps * exact.abs().max()
        assert (found - exact).abs().max() <= NOISE * max((wanted - exact).abs().max(), floor)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("name", sorted(OURS))
def test_gradients_are_those_of_pytorch(name, dtype) -> None:
    for arguments, kwargs in inputs_of(name, dtype, requires_grad=True):
        present = [tensor for tensor in arguments if tensor is not None]
        wanted, found = operators()[name].op(*arguments, **kwargs), OURS[name](*arguments, **kwargs)
        direction = torch.randn_like(wanted)
        torch.testing.assert_close(found, wanted)
        torch.testing.assert_close(
            torch.autograd.grad(found, present, direction), torch.autograd.grad(wanted, present, direction)
        )


SMALL = {
    1: ((1, 2, 3), (2, 3, 4), Geometry((3,), (1,), (2,), 1, (1,))),
    2: ((1, 4, 2, 3), (4, 1, 3, 2), Geometry((2, 1), (1, 0), (1, 0), 2, (1, 2))),
    3: ((1, 1, 2, 1, 2), (1, 2, 2, 1, 3), Geometry((2, 1, 2), (0, 0, 1), (0, 0, 1), 1, (1, 1, 1))),
}


@pytest.mark.parametrize("rank", sorted(SMALL))
def test_first_and_second_derivatives_of_every_form(rank) -> None:
    x_shape, weight_shape, geometry = SMALL[rank]
    x = torch.randn(x_shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(weight_shape, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(weight_shape[1] * geometry.groups, dtype=torch.float64, requires_grad=True)
    ours = OURS[f"nn.functional.conv_transpose{rank}d"]
    for form in all_forms(deconv_of(weight, True, geometry)):

        def call(x, weight, bias, form=form):
            return ours(x, weight, bias, *geometry, lowering=str(form))

        assert torch.autograd.gradcheck(call, (x, weight, bias), fast_mode=True), form
        assert torch.autograd.gradgradcheck(call, (x, weight, bias), fast_mode=True), form


@pytest.mark.parametrize(
    ("shapes", "arguments"),
    [
        (((2, 3, 4, 4), (5, 3, 3, 3), None), {}),  # channels of input and weight
        (((3, 4), (3, 3, 3, 3), None), {}),  # rank of the input
        (((2, 3, 4, 4), (3, 3, 3, 3), (4,)), {}),  # bias
        (((2, 3, 4, 4), (3, 3, 3, 3), None), {"output_padding": 2, "stride": 2}),
        (((2, 3, 4, 4), (3, 3, 3, 3), None), {"groups": 2}),
        (((2, 3, 4, 4), (3, 3, 3, 3), None), {"stride": 0}),
        (((2, 3, 4, 4), (3, 3, 3, 3), None), {"padding": -1}),
        (((2, 3, 1, 1), (3, 3, 3, 3), None), {"padding": 2}),  # no output pixel
        (((2, 3, 4, 4), (3, 3, 3, 3), None), {"dilation": 0}),
    ],
)
def test_wrong_arguments_raise_what_pytorch_raises(shapes, arguments) -> None:
    tensors = [None if shape is None else torch.randn(shape) for shape in shapes]
    with pytest.raises(RuntimeError) as wanted:
        torch.nn.functional.conv_transpose2d(*tensors, **arguments)
    with pytest.raises(RuntimeError) as found:
        split.split_conv_transpose2d(*tensors, **arguments)
    assert str(found.value) == str(wanted.value)


def test_mixed_types_raise() -> None:
    with pytest.raises(RuntimeError):
        split.split_conv_transpose2d(torch.randn(1, 2, 3, 3), torch.randn(2, 2, 2, 2, dtype=torch.float64))


def test_empty_batches_and_channels_are_as_in_pytorch() -> None:
    for x_shape, weight_shape in (((0, 2, 3, 3), (2, 4, 3, 3)), ((1, 2, 3, 3), (2, 0, 3, 3))):
        x, weight = torch.randn(x_shape), torch.randn(weight_shape)
        try:
            wanted = torch.nn.functional.conv_transpose2d(x, weight, stride=2)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                split.split_conv_transpose2d(x, weight, stride=2)
        else:
            assert torch.equal(split.split_conv_transpose2d(x, weight, stride=2), wanted)
