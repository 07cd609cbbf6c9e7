"""Convolutions of stretched maps in exported programs: found by where elements go, spliced, proved, or left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

import torch.nn.functional as F  # noqa: E402, N812
from hypothesis import HealthCheck, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import splitdeconv  # noqa: E402
from splitdeconv import lowerings  # noqa: E402
from splitdeconv.formats.torch import stretched  # noqa: E402
from tests.examples import examples  # noqa: E402
from tests.formats.torch.stretched_checks import X, model_of, programs_of, whole, with_one_of  # noqa: E402

STEP = 6  # of a pair's forms in one example
OPEN = ({2: Dim("h", min=4, max=300), 3: Dim("w", min=4, max=300)},)


def assigned(x):
    z = torch.zeros(x.shape[0], x.shape[1], 2 * x.shape[2], 3 * x.shape[3], dtype=x.dtype)
    z[:, :, ::2, ::3] = x
    return z


def upfirdn(x):
    n, c, h, w = x.shape
    x = F.pad(x.reshape(n, c, h, 1, w, 1), [0, 1, 0, 0, 0, 1]).reshape(n, c, 2 * h, 2 * w)
    return F.pad(x, [2, 1, 2, 1])


def upfirdn_of_items(x, kernel):
    """As StyleGAN2's PyTorch ports have it: each channel is an item of the batch."""
    n, c, h, w = x.shape
    y = F.pad(x.reshape(-1, h, w, 1).view(-1, h, 1, w, 1, 1), [0, 0, 0, 1, 0, 0, 0, 1]).view(-1, 2 * h, 2 * w, 1)
    y = F.pad(y, [0, 0, 2, 1, 2, 1]).permute(0, 3, 1, 2).reshape([-1, 1, 2 * h + 3, 2 * w + 3])
    y = F.conv2d(y, torch.flip(kernel, [0, 1]).view(1, 1, *kernel.shape))
    return y.reshape(-1, 1, 2 * h, 2 * w).permute(0, 2, 3, 1).view(n, c, 2 * h, 2 * w)


def expanded(x):
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 3).reshape(n, c, 2 * h, 3 * w)


# what stands before the convolution, how it is stretched, by which factors, and element-wise operators on the way
FOUND = {
    "scale": (lambda x: F.interpolate(x, scale_factor=2.0), "repeat", (2, 2)),
    "uneven": (lambda x: F.interpolate(x, scale_factor=(1.0, 4.0), mode="nearest-exact"), "repeat", (1, 4)),
    "size": (lambda x: F.interpolate(x, size=(3 * x.shape[2], 2 * x.shape[3])), "repeat", (3, 2)),
    "repeat_interleave": (lambda x: x.repeat_interleave(2, 2).repeat_interleave(3, 3), "repeat", (2, 3)),
    "expand": (expanded, "repeat", (2, 3)),
    "twice": (lambda x: F.interpolate(F.interpolate(x, scale_factor=2.0), scale_factor=2.0), "repeat", (4, 4)),
    "activation": (lambda x: F.leaky_relu(F.interpolate(x, scale_factor=2.0), 0.25), "repeat", (2, 2)),
    "in_place": (lambda x: F.relu(F.interpolate(x, scale_factor=2.0), inplace=True), "repeat", (2, 2)),
    "zeros_behind": (lambda x: F.pad(F.relu(F.interpolate(x, scale_factor=2.0)), [1, 2, 0, 1]), "repeat", (2, 2)),
    "edge": (lambda x: F.pad(F.interpolate(x, scale_factor=2.0), [1, 3, 2, 1], mode="replicate"), "repeat", (2, 2)),
    "reflect": (lambda x: F.pad(F.interpolate(x, scale_factor=3.0), [1, 2, 2, 1], mode="reflect"), "repeat", (3, 3)),
    "channels_last": (
        lambda x: F.interpolate(x.permute(0, 2, 3, 1).permute(0, 3, 1, 2), scale_factor=2.0),
        "repeat",
        (2, 2),
    ),
    "crop": (lambda x: F.interpolate(x, scale_factor=2.0)[:, :, 1:, :-1], "repeat", (2, 2)),
    "assigned": (assigned, "zeros", (2, 3)),
    "upfirdn": (upfirdn, "zeros", (2, 2)),
}
LEFT = {
    "bilinear": (lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear"), "its upsampling is bilinear"),
    "not_whole": (lambda x: F.interpolate(x, scale_factor=1.5), "cannot be shown to repeat each pixel"),
    "zeros_not_kept": (lambda x: F.pad(F.interpolate(x, scale_factor=2.0), [1, 1, 1, 1]).sigmoid(), "cannot be shown"),
    "ones": (lambda x: F.pad(F.interpolate(x, scale_factor=2.0), [1, 1, 1, 1], value=1.0), "cannot be shown"),
    "reflect_far": (lambda x: F.pad(F.interpolate(x, scale_factor=2.0), [2, 2, 2, 2], mode="reflect"), "cannot be"),
}


class Behind(nn.Module):
    """A convolution behind ``before``, whose map others read too where ``shared``."""

    def __init__(self, before, *, shared: bool = False, **options) -> None:
        super().__init__()
        self.before, self.shared = before, shared
        self.conv = nn.Conv2d(4, 6, 3, **{"padding": 0, **options})

    def forward(self, x):
        y = self.before(x)
        return (self.conv(y), y.sum()) if self.shared else self.conv(y)


@pytest.mark.parametrize(("name", "decomposed"), with_one_of(FOUND, ("open", "decomposed")))
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_what_exporters_write_is_found_and_spliced(name: str, decomposed: bool) -> None:
    before, kind, factors = FOUND[name]
    module = whole(Behind(before, padding="same" if name == "size" else 0))
    model = model_of(module, dynamic_shapes=None if decomposed else OPEN, decomposed=decomposed)
    (site,) = model.find().sites
    assert site.deconv.written_out is not None
    assert (site.deconv.written_out.stretch, site.deconv.strides) == (kind, factors)
    x = torch.randint(-4, 5, X.shape).float()
    for lowering in ("native", "split_phases"):
        program = model.splice(programs_of(model, lowering)).program
        found = program.module()(x)
        assert torch.equal(found, module(x))
    assert not any("upsample" in str(n.target) or "copy_" in str(n.target) for n in program.graph.nodes)


@pytest.mark.parametrize("is_open", [False, pytest.param(True, marks=pytest.mark.long)])
def test_upfirdn2d_of_channels_as_items_of_the_batch(is_open: bool) -> None:
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("kernel", torch.arange(16.0).view(4, 4))

        def forward(self, x):
            return upfirdn_of_items(x, self.kernel)

    model = model_of(Up(), dynamic_shapes=OPEN if is_open else None)
    (site,) = model.find().sites
    assert (site.deconv.strides, site.deconv.in_channels, site.deconv.groups) == ((2, 2), 1, 1)
    x = torch.randint(-4, 5, X.shape).float()
    found = model.splice(programs_of(model, "split_phases")).program.module()(x)
    assert torch.equal(found, Up()(x))


@pytest.mark.parametrize("name", LEFT)
def test_what_must_stay_says_why(name: str) -> None:
    before, reason = LEFT[name]
    found = model_of(Behind(before)).find()
    assert not found.sites
    assert reason in found.skipped[0].reason


def test_convolutions_that_are_no_deconv_stay() -> None:
    up = FOUND["scale"][0]
    (strided,) = model_of(Behind(up, stride=2)).find().skipped
    assert "has stride 2" in strided.reason
    (dilated,) = model_of(Behind(up, dilation=3)).find().skipped
    assert "dilation is above" in dilated.reason
    assert not model_of(Behind(lambda x: F.pad(x, [1, 1, 1, 1]))).find().skipped  # nothing is upsampled


def test_a_size_that_follows_another_maps_is_no_fixed_factor() -> None:
    class Follows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x, skip):
            return self.conv(F.interpolate(x, size=skip.shape[2:]))

    skip = torch.randn(1, 4, 10, 12)
    open_sizes = ({2: Dim("h", max=90), 3: Dim("w", max=90)}, {2: Dim("H", min=4, max=90), 3: Dim("W", min=4, max=90)})
    (skipped,) = model_of(Follows(), X, skip, dynamic_shapes=open_sizes).find().skipped
    assert "whatever the size" in skipped.reason
    assert len(model_of(Follows(), X, skip).find().sites) == 1  # with fixed sizes the factor is one


def test_a_map_that_others_read_stays_and_the_note_says_so() -> None:
    for before in (FOUND["scale"][0], assigned, FOUND["in_place"][0]):
        module = whole(Behind(before, shared=True))
        model = model_of(module)
        (site,) = model.find().sites
        if before is not assigned:
            assert "but stays too" in site.notes[0]
        found = model.splice(programs_of(model, "split_phases")).program.module()(X.round())
        for one, other in zip(found, module(X.round()), strict=True):
            assert torch.equal(one, other)


def test_several_convolutions_of_one_map_are_sites_each() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 2, 5, padding=2, bias=False)

        def forward(self, x):
            y = assigned(x)
            return self.one(y), self.two(y)

    module = whole(Two())
    model = model_of(module)
    assert len(model.find().sites) == 2
    program = model.splice(programs_of(model, "split_phases")).program
    assert not any("copy_" in str(node.target) for node in program.graph.nodes)
    for one, other in zip(program.module()(X.round()), module(X.round()), strict=True):
        assert torch.equal(one, other)


def test_a_chain_of_sites_is_spliced_one_after_the_other() -> None:
    up = [nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    module = whole(nn.Sequential(*up, nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 3), nn.ConvTranspose2d(2, 2, 2, 2)))
    model = model_of(module)
    assert len(model.find().sites) == 3
    found = model.splice(programs_of(model, "split_phases")).program.module()(X.round())
    assert torch.equal(found, module(X.round()))


@st.composite
def pairs(draw) -> tuple[nn.Module, torch.Tensor]:
    """An upsampling and a convolution of 1 to 3 axes: uneven factors, kernels, dilations, pads, groups."""
    rank = draw(st.integers(1, 3))

    def each(first: int, last: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(first, last)) for _ in range(rank))

    factors = draw(st.just(each(1, 4)).filter(lambda found: max(found) > 1))
    kernel, groups = each(1, 4), draw(st.sampled_from([1, 2, 4]))
    pads = tuple(draw(st.integers(0, size)) for size in kernel)
    dilation = tuple(draw(st.sampled_from([1, factor])) for factor in factors)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    channels = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    beside = draw(st.booleans())
    layer = conv(channels[0] * (1 + beside), channels[1], kernel, 1, pads, dilation, groups, draw(st.booleans()))
    up = nn.Upsample(scale_factor=tuple(float(factor) for factor in factors))
    sizes = tuple(
        draw(st.integers((k - 1) * d // f + 2, (k - 1) * d // f + 4))
        for k, d, f in zip(kernel, dilation, factors, strict=True)
    )
    layers = [up, Doubled(), layer] if beside else [up, layer]
    return whole(nn.Sequential(*layers)), torch.randint(-4, 5, (2, channels[0], *sizes)).float()


class Doubled(nn.Module):
    """A map beside numbers that are made of it, but not by moving them."""

    def forward(self, x):
        return torch.cat([x * 2 + 1, x], 1)


@given(pairs(), st.integers(0, STEP - 1))
@examples(10, 1_000, HealthCheck.filter_too_much)
def test_every_pair_is_found_and_bit_equal(pair, first) -> None:
    module, x = pair
    model = model_of(module, x)
    found = model.find()
    wanted = module(x)
    if found.skipped:
        assert "dilation is above" in found.skipped[0].reason
        return
    (site,) = found.sites
    lowered = [lowerings.lower(site.deconv, "NCHW", each) for each in lowerings.candidates(site.deconv, "NCHW")[0]]
    offered = [each for each in lowered if model.refuse(site, each) is None]
    assert len(offered) > 1
    for program in offered[first::STEP]:
        assert torch.equal(model.splice({site.id: program}).program.module()(x), wanted), program.name


@pytest.mark.parametrize("dynamic_shapes", [None, OPEN], ids=["fixed", "open"])
def test_a_file_is_converted_proved_and_written(dynamic_shapes, tmp_path: Path) -> None:
    module = Behind(FOUND["scale"][0]).eval()
    torch.export.save(torch.export.export(module, (X,), dynamic_shapes=dynamic_shapes), tmp_path / "a.pt2")
    conversion = splitdeconv.convert(tmp_path / "a.pt2", tmp_path / "b.pt2", lowering="split_phases", target="generic")
    assert conversion.verdict.passed
    assert all(proof.exact for proof in conversion.verdict.proofs)
    back = torch.export.load(tmp_path / "b.pt2").module()
    x = torch.randn(2, 4, 9, 7) if dynamic_shapes else X
    np.testing.assert_allclose(back(x).detach(), module(x).detach(), rtol=0, atol=1e-5)
    generic = splitdeconv.convert(tmp_path / "a.pt2", target="generic")
    assert [str(choice.chosen) for choice in generic.record.plan.choices] == ["native"]


def test_what_is_written_in_place_is_seen_by_those_who_read_it_later() -> None:
    class Later(nn.Module):
        def __init__(self, change) -> None:
            super().__init__()
            self.conv, self.change = nn.Conv2d(4, 4, 3), change

        def forward(self, x):
            small = x * 1
            y = F.interpolate(small, scale_factor=2.0)
            self.change(small, y)
            return self.conv(y)

    changes = {
        "the map, then it is not what was upsampled": (lambda small, _: small.mul_(3), 0),
        "the upsampled one by a function": (lambda _, y: F.leaky_relu(y, 0.5, inplace=True), 1),
        "the upsampled one by something else": (lambda _, y: y.add_(y.mean()), 0),
        "a part of it": (lambda _, y: y[:, :, :2].zero_(), 0),
    }
    for what, (change, sites) in changes.items():
        module = whole(Later(change))
        model = model_of(module)
        assert len(model.find().sites) == sites, what
        found = model.splice(programs_of(model, "split_phases")).program.module()(X.round())
        torch.testing.assert_close(found, module(X.round()))


def test_a_map_that_was_written_in_place_again_and_again_is_a_source() -> None:
    """As residual blocks make it: a sum and an activation, both in place."""
    module = whole(Behind(lambda x: F.interpolate((x * 1).add_(x).relu_(), scale_factor=2.0)))
    model = model_of(module)
    assert [site.deconv.strides for site in model.find().sites] == [(2, 2)]
    found = model.splice(programs_of(model, "split_phases")).program.module()(X.round())
    assert torch.equal(found, module(X.round()))


def test_borders_that_are_left_out_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    module = whole(Behind(FOUND["reflect"][0]))
    model = model_of(module)
    programs = programs_of(model, "split_phases")
    edges = torch.nn.functional.pad
    monkeypatch.setattr(stretched.F, "pad", lambda x, pads, mode="constant", value=None: edges(x, pads))
    found = model.splice(programs).program.module()(X.round())
    monkeypatch.undo()
    assert not torch.equal(found, module(X.round()))
