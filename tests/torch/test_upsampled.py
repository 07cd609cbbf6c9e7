"""Upsampling and convolution as one module: values, gradients of both orders, state dict, compiling, what stays."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch import nn  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from splitdeconv.errors import UsageError  # noqa: E402
from splitdeconv.torch_modules import filters  # noqa: E402

X = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
ROUNDINGS = 1e-12  # of float64, relative: sums of some hundred products in another order


def network() -> nn.Sequential:
    """Groups, uneven factors and kernels, pads `same`, and a 1×1 convolution, which goes before the upsampling."""
    inner = nn.Sequential(nn.Upsample(scale_factor=(1.0, 3.0)), nn.Conv2d(6, 2, (3, 4), padding="same", bias=False))
    up = nn.Upsample(scale_factor=2, mode="nearest-exact")
    last = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(2, 3, 1))
    return nn.Sequential(up, nn.Conv2d(4, 6, 3, padding=1, groups=2), nn.Tanh(), inner, last)


def gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """The output, its first derivatives, and those of their squares."""
    given = [x, *module.parameters()]
    y = module(x)
    first = torch.autograd.grad(y.square().sum(), given, create_graph=True)
    second = torch.autograd.grad(sum(each.square().sum() for each in first), given)
    return [y, *first, *second]


@pytest.mark.parametrize("lowering", [None, "native", "split", "split_phases", "differences"])
def test_values_and_gradients_of_both_orders_are_those_of_the_definition(lowering: str | None) -> None:
    module = network().double()
    merged = split.merge_upsampling(module, lowering)
    assert any(isinstance(each, split.SplitUpsampledConv2d) for each in merged.modules()) or lowering == "differences"
    x = X.double().requires_grad_()
    for found, wanted in zip(gradients(merged, x), gradients(module, x), strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=ROUNDINGS * wanted.abs().max().item())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_whole_numbers_are_bit_equal_with_and_without_a_batch(rank: int) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](2, 3, 3, padding=1)
    module = nn.Sequential(nn.Upsample(scale_factor=2), conv)
    with torch.no_grad():
        for each in module.parameters():
            each.copy_(torch.randint(-4, 5, each.shape))
    x = torch.randint(-4, 5, (2, 2, 5, 4, 3)[: rank + 2]).float()
    merged = split.merge_upsampling(module)
    assert torch.equal(merged(x), module(x))
    assert torch.equal(merged[1](x[0]), module(x)[0])


def test_the_convolution_keeps_its_place_its_parameters_and_its_state() -> None:
    module = network()
    before = copy.deepcopy(module)
    merged = split.merge_upsampling(module)
    assert list(merged.state_dict()) == list(module.state_dict())
    assert type(module[1]) is nn.Conv2d
    merged.load_state_dict(before.state_dict())
    optimiser = torch.optim.SGD(merged.parameters(), 0.1)
    merged(X).square().mean().backward()
    optimiser.step()
    module.load_state_dict(merged.state_dict())
    torch.testing.assert_close(module(X), merged(X), rtol=1e-4, atol=1e-5)
    assert "factor=(2, 2)" in repr(merged)


def test_compiled_it_is_one_graph() -> None:
    module = network()
    compiled = torch.compile(split.merge_upsampling(module), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), module(X), rtol=1e-4, atol=1e-5)


def test_what_is_no_deconv_stays() -> None:
    up, shared = nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3)
    for conv in (nn.Conv2d(4, 4, 3, 2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")):
        assert type(split.merge_upsampling(nn.Sequential(up, conv))[1]) is nn.Conv2d
    for other in (nn.Upsample(scale_factor=1.5), nn.Upsample(size=8), nn.Upsample(scale_factor=2, mode="bilinear")):
        assert type(split.merge_upsampling(nn.Sequential(other, nn.Conv2d(4, 4, 3)))[0]) is nn.Upsample
    assert type(split.merge_upsampling(nn.Sequential(up, shared, shared))[1]) is nn.Conv2d
    watched = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3))
    watched[0].register_forward_hook(lambda *_: None)
    assert type(split.merge_upsampling(watched)[1]) is nn.Conv2d


def test_numbers_that_cannot_be_are_one_line() -> None:
    with pytest.raises(UsageError, match="no lowering is called 'magic'"):
        split.merge_upsampling(network(), "magic")
    with pytest.raises(UsageError, match="has stride 2"):
        split.SplitUpsampledConv2d(4, 4, 3, 2, factor=2)
    with pytest.raises(UsageError, match=r"factor is \[1, 1\], wanted whole numbers"):
        split.SplitUpsampledConv2d(4, 4, 3, factor=1)


def test_a_sum_that_lacks_a_tap_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    places = filters._places
    monkeypatch.setattr(filters, "_places", lambda taps, kernel: places(taps, kernel)[:3])
    module = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 5, 3))
    assert not torch.allclose(split.merge_upsampling(module)(X), module(X), atol=1e-3)
