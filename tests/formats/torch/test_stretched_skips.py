"""Skip connections in exported programs: the convolution of a stretched map and of maps beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import splitdeconv  # noqa: E402
from splitdeconv.lowerings import lower  # noqa: E402
from splitdeconv.lowerings.candidate import NATIVE  # noqa: E402
from splitdeconv.pipeline.compiling import site_inputs  # noqa: E402
from splitdeconv.pipeline.sites import site_table  # noqa: E402
from splitdeconv.targets import target  # noqa: E402
from tests.formats.torch.stretched_checks import X, model_of, programs_of, whole, with_one_of  # noqa: E402


def up(x):
    return F.interpolate(x, scale_factor=2.0)


def relu_of_reflected(x):
    return F.relu(F.pad(x, [1, 1, 1, 1], mode="reflect"), inplace=True)


# what is done before the concatenation and behind it, and the order of the parts
SKIPS = {
    "behind": (up, lambda x: x, "xs"),
    "in_front": (up, lambda x: x, "sx"),
    "among": (lambda x: F.relu(up(x)), lambda x: F.leaky_relu(x, 0.25), "sxs"),
    "zeros": (up, lambda x: F.relu(F.pad(x, [1, 2, 0, 1])), "xs"),
    "reflect": (up, relu_of_reflected, "sxs"),
    "edge": (up, nn.ReplicationPad2d(1), "sx"),
    "larger": (lambda x: F.pad(up(x), [1, 0, 2, 1]), lambda x: x, "xs"),
    "two factors": (lambda x: up(up(x)), lambda x: x, "xus"),
}


class Skip(nn.Module):
    """A convolution of an upsampled map ``x`` beside ``s``, another input, and ``u``, upsampled in height."""

    def __init__(self, before, behind, order, **options) -> None:
        super().__init__()
        self.before, self.behind, self.order = before, behind, order
        self.conv = nn.Conv2d(4 * len(order), 6, 3, **options)

    def forward(self, x, skip):
        tall = F.interpolate(skip[:, :, ::4], scale_factor=(4.0, 1.0)) if "u" in self.order else skip
        maps = {"x": self.before(x), "s": skip, "u": tall}
        return self.conv(self.behind(torch.cat([maps[each] for each in self.order], 1)))


@pytest.mark.parametrize(("name", "is_open"), with_one_of(SKIPS, ("fixed", "open")))
def test_skip_connections_are_the_sum_of_two_convolutions(name: str, is_open: bool) -> None:
    before, behind, order = SKIPS[name]
    module = whole(Skip(before, behind, order, padding=0 if name in ("reflect", "edge") else 1))
    x = torch.randint(-4, 5, X.shape).float()
    skip = torch.randint(-4, 5, before(x).shape).float()
    batch = Dim("n", max=9)
    model = model_of(module, x, skip, dynamic_shapes=({0: batch}, {0: batch}) if is_open else None)
    (site,) = model.find().sites
    assert site.deconv.written_out.beside == 4 * (len(order) - 1)
    assert (len(site.notes) == 2) == (name == "two factors")
    for lowering in ("native", "split_phases", "differences"):
        found = model.splice(programs_of(model, lowering)).program.module()(x, skip)
        assert torch.equal(found, module(x, skip)), lowering


def test_every_lowering_in_every_layout_reads_both_maps() -> None:
    """Alone, as it is timed, and in the program; also what PyTorch has, on channels-last memory."""
    before, behind, order = SKIPS["behind"]
    module = whole(Skip(before, behind, order, padding=1))
    x, skip = torch.randint(-4, 5, X.shape).float(), torch.randint(-4, 5, up(X).shape).float()
    model = model_of(module, x, skip)
    (site,) = model.find().sites
    offered = [option.candidate for option in site_table(model, site, None).options]
    chosen = {(each.lowering, each.window, each.layout): each for each in offered}
    assert ("native", "", "NHWC") in chosen
    runtime, inputs = target("torch"), site_inputs(model, site)
    (wanted,) = runtime.compile(model.emit(site, lower(site.deconv, model.layout, NATIVE))).run(inputs).values()
    for candidate in chosen.values():
        program = lower(site.deconv, model.layout, candidate)
        assert torch.equal(model.splice({site.id: program}).program.module()(x, skip), module(x, skip)), str(candidate)
        (alone,) = runtime.compile(model.emit(site, program)).run(inputs).values()
        np.testing.assert_allclose(alone, wanted, rtol=1e-4, atol=1e-4, err_msg=str(candidate))


def test_skip_connections_are_proved_with_both_maps(tmp_path: Path) -> None:
    module = Skip(*SKIPS["among"], padding=1).eval()
    torch.export.save(torch.export.export(module, (X, up(X))), tmp_path / "a.pt2")
    conversion = splitdeconv.convert(tmp_path / "a.pt2", tmp_path / "b.pt2", lowering="split_phases", target="generic")
    assert conversion.verdict.passed
    assert all(proof.exact for proof in conversion.verdict.proofs)


@pytest.mark.parametrize(("order", "groups"), [("xs", 2), ("sxs", 2), ("sx", 1), ("sxs", 6), ("sxs", 3)])
def test_groups_read_one_map_each_or_are_sums(order: str, groups: int) -> None:
    before, behind, _ = SKIPS["zeros"]
    module = whole(Skip(before, behind, order, groups=groups))
    x = torch.randint(-4, 5, X.shape).float()
    skip = torch.randint(-4, 5, before(x).shape).float()
    model = model_of(module, x, skip)
    (site,) = model.find().sites
    assert site.deconv.groups == groups
    for lowering in ("native", "split_phases", "split"):
        found = model.splice(programs_of(model, lowering)).program.module()(x, skip)
        assert torch.equal(found, module(x, skip)), lowering
