"""A 1×1 convolution behind an interpolation as one module: values, gradients, state dict, measuring, what stays."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch import nn  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from splitdeconv.errors import UsageError  # noqa: E402
from splitdeconv.formats.torch.modules import ModuleModel  # noqa: E402
from splitdeconv.formats.torch.pairs import RECOMPUTED  # noqa: E402
from splitdeconv.formats.written_convs import MAY_SHRINK, NO_LARGER  # noqa: E402
from splitdeconv.torch_modules.interpolated import PADDED  # noqa: E402

X = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
ROUNDINGS = 1e-12  # of float64, relative: sums of some ten products in another order


def behind(conv: nn.Module | None = None, **options) -> nn.Sequential:
    """An interpolation and a convolution, 1×1 with groups and a bias where none is given."""
    return nn.Sequential(nn.Upsample(**{"mode": "bilinear", **options}), conv or nn.Conv2d(4, 6, 1, groups=2))


FOUND = {
    "bilinear": {"scale_factor": 2},
    "aligned": {"size": (11, 9), "align_corners": True},
    "uneven": {"scale_factor": (1.0, 2.5)},
    "recomputed": {"scale_factor": 3.0, "recompute_scale_factor": True},
    "bicubic": {"scale_factor": 1.5, "mode": "bicubic"},
    "area": {"size": 12, "mode": "area"},
}


@pytest.mark.parametrize("name", FOUND)
def test_the_convolution_comes_first_and_is_proved(name: str) -> None:
    module = behind(**FOUND[name]).eval()
    converted = split.convert(module, (X,), lowering="convolve_first")
    found = split.record(converted)
    assert [str(each.chosen) for each in found.plan.choices] == ["convolve_first"]
    assert found.verdict.passed
    assert not found.verdict.bit_equal()
    assert "(Upsample) comes behind it" in ModuleModel.of(module, (X,)).find().sites[0].notes[0]
    assert type(converted[1]) is split.SplitInterpolatedConv2d
    assert list(converted.state_dict()) == list(module.state_dict())
    torch.testing.assert_close(converted(X), module(X), rtol=0, atol=1e-5)
    restored = split.restore(converted)
    assert [type(each) for each in restored] == [nn.Upsample, nn.Conv2d]
    assert torch.equal(restored(X), module(X))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_values_and_gradients_are_those_of_the_definition(rank: int) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1](2, 3, 1)
    module = behind(conv, scale_factor=2, mode=("linear", "bilinear", "trilinear")[rank - 1]).double()
    merged = split.merge_upsampling(module)
    x = torch.randn(2, 2, *(5, 4, 3)[:rank], dtype=torch.float64, requires_grad=True)
    for one, other in zip(*(_gradients(each, x) for each in (merged, module)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=ROUNDINGS * other.abs().max().item())
    assert "interpolation={" in repr(merged)
    assert torch.equal(copy.deepcopy(merged)(x), merged(x))


def _gradients(module: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    given = [x, *module.parameters()]
    y = module(x)
    first = torch.autograd.grad(y.square().sum(), given, create_graph=True)
    return [y, *first, *torch.autograd.grad(sum(each.square().sum() for each in first), given)]


def test_it_is_measured_like_others() -> None:
    module = nn.Sequential(behind(scale_factor=2), nn.ReLU()).eval()
    found = split.record(split.convert(module, (X,), "torch", seconds=0.2, cache=False))
    assert found.plan.choices[0].chosen.lowering in ("native", "convolve_first")
    assert found.verdict.passed


LEFT = {
    "3×3": (behind(nn.Conv2d(4, 4, 3), scale_factor=2), "its upsampling is bilinear"),
    "stride": (behind(nn.Conv2d(4, 4, 1, 2), scale_factor=2), "its upsampling is bilinear"),
    "zeros": (behind(nn.Conv2d(4, 4, 1, padding=1), scale_factor=2), PADDED),
    "smaller": (behind(scale_factor=(2.0, 0.5)), NO_LARGER),
    "may shrink": (behind(size=12), MAY_SHRINK),
    "recomputed": (behind(scale_factor=1.3, recompute_scale_factor=True), RECOMPUTED),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_stays_says_why(name: str) -> None:
    module, reason = LEFT[name]
    (skipped,) = split.record(split.convert(module)).skipped
    assert (skipped.site, reason in skipped.reason) == ("1", True)
    assert type(split.merge_upsampling(module)[1]) is nn.Conv2d


def test_other_forms_are_refused() -> None:
    (skipped,) = split.record(split.convert(behind(scale_factor=2), (X,), lowering="split_phases")).skipped
    assert "see convolve_first" in skipped.reason
    with pytest.raises(UsageError, match="SplitInterpolatedConv2d: its upsampling is bilinear"):
        split.SplitInterpolatedConv2d(4, 4, 3, interpolation={"mode": "bilinear", "scale_factor": 2})
