"""Upsampling and convolution as one module: values, gradients of both orders, state dict, compiling, what stays."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from splitdeconv.deconv import filters  # noqa: E402
from splitdeconv.errors import UsageError  # noqa: E402
from splitdeconv.formats.torch.modules import ModuleModel  # noqa: E402
from splitdeconv.lowerings import candidates, lower  # noqa: E402

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


def whole(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for each in module.parameters():
            each.copy_(torch.randint(-4, 5, each.shape))
    return module


def test_convert_makes_one_module_of_both_and_proves_it() -> None:
    module = network()
    converted = split.convert(module, (X,), lowering="split_phases")
    found = split.record(converted)
    assert {choice.site: choice.chosen.lowering for choice in found.plan.choices} == dict.fromkeys(
        ["1", "3.1"], "split_phases"
    )
    assert "see convolve_first" in found.skipped[0].reason
    assert found.verdict.passed
    assert [proof.exact for proof in found.verdict.proofs] == [True, True]
    assert type(converted[1]) is split.SplitUpsampledConv2d
    assert list(converted.state_dict()) == list(module.state_dict())
    assert type(module[1]) is nn.Conv2d
    restored = split.restore(converted)
    assert [type(each) for each in restored] == [type(each) for each in module]
    assert torch.equal(restored(X), module(X))


def test_by_rule_alone_they_stay_as_they_are() -> None:
    converted = split.convert(network())
    assert type(converted[1]) is nn.Conv2d
    assert "measure, or ask for a lowering" in split.record(converted).plan.choices[0].reason


def test_what_convert_leaves_alone_says_why() -> None:
    module = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, 2))
    (skipped,) = split.record(split.convert(module)).skipped
    assert (skipped.site, "has stride 2" in skipped.reason) == ("1", True)


def test_every_form_that_may_be_measured_is_bit_equal() -> None:
    up = nn.Upsample(scale_factor=(2.0, 3.0))
    module = whole(
        nn.Sequential(nn.Sequential(up, nn.Conv2d(4, 6, (3, 2), padding="same", groups=2)), nn.ReLU())
    ).eval()
    x = torch.randint(-4, 5, X.shape).float()
    model = ModuleModel.of(module, (x,), measured=True)
    (site,) = model.find().sites
    assert (site.id, site.deconv.in_sizes, site.deconv.strides) == ("0.1", (5, 6), (2, 3))
    programs = [
        lower(site.deconv, "NCHW", replace(each, layout=layout))
        for layout in ("", "NHWC")
        for each in candidates(site.deconv, layout or "NCHW")[0][::4]
    ]
    with torch.no_grad():
        for program in programs:
            assert torch.equal(model.splice({site.id: program}).module(x), module(x)), program.name
            alone = model.emit(site, program).content
            assert torch.equal(alone(x)[0].relu(), module(x)), program.name


def test_filters_are_kept_until_the_parameters_change() -> None:
    module = whole(nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 5, 3))).eval()
    merged, x = split.merge_upsampling(module, "split_phases").eval(), torch.randint(-4, 5, X.shape).float()
    with torch.no_grad():
        assert torch.equal(merged(x), module(x))
        kept = merged[1]._kept
        assert torch.equal(merged(x), module(x))
        assert merged[1]._kept is kept
        for each in (module[1], merged[1]):
            each.weight.mul_(2)
        assert torch.equal(merged(x), module(x))
        assert torch.equal(copy.deepcopy(merged)(x[0]), module(x)[0])
    merged(x).sum().backward()
    assert merged[1].weight.grad is not None


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


class OwnForward(nn.Module):
    """Two convolutions behind upsamplings that its own code calls, and three that stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2)
        for name in ("called", "module", "pointwise", "smooth", "apart"):
            setattr(self, name, nn.Conv2d(4, 4, 1 if name == "pointwise" else 3, padding="same"))
        self.merged = network()

    def forward(self, x):
        x = self.module(self.up(self.called(F.interpolate(x, scale_factor=2.0))))
        x = self.pointwise(F.interpolate(x, size=(21, 25), mode="bilinear"))
        x = self.smooth(F.interpolate(x, scale_factor=2, mode="bilinear"))
        return self.merged(self.apart(F.interpolate(x, scale_factor=2).relu()))


def test_upsamplings_in_a_forward_of_their_own_are_listed_with_what_takes_them() -> None:
    record = split.record(split.convert(OwnForward(), (X,), "generic"))
    found = {each.site: each.reason for each in record.skipped}
    assert list(found) == ["called", "module", "pointwise"]
    assert "torch.export.export(module, inputs)" in found["called"]

    class Itself(nn.Module):
        def forward(self, x):
            return F.conv2d(F.interpolate(x, scale_factor=2), torch.ones(1, 4, 3, 3))

    (skipped,) = split.record(split.convert(Itself(), (X,), "generic")).skipped
    assert skipped.site == "Itself"
