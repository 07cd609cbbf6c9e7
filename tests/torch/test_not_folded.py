"""What the note on folding names of a module is what folding its exported program puts into weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # the name that all PyTorch code uses
from torch import nn

import splitdeconv.torch as split
from splitdeconv.formats.torch.exported import ExportedModel
from splitdeconv.torch_modules.observe import observe
from tests.formats.torch.test_fold import Chain, X


class TwoDeconvs(nn.Module):
    """Two with arithmetic between them; the first result is given away as well, or not."""

    def __init__(self, *, gives: bool) -> None:
        super().__init__()
        self.up, self.last, self.gives = nn.ConvTranspose2d(4, 4, 3, 2), nn.ConvTranspose2d(4, 4, 3, 2), gives

    def forward(self, x):
        y = self.up(x)
        z = self.last(y * 2.0)
        return (y, z) if self.gives else z


class Functional(Chain):
    def forward(self, x):
        return F.conv_transpose2d(x / 2.0, self.up.weight * self.s.reshape(4, 1, 1, 1)) + self.s


MODULES = {
    "norm": Chain(behind=lambda y, m: m.norm(y)),
    "every operator": Chain(behind=lambda y, m: (m.s - (2.0 * m.norm(y) + m.s) / 0.5) * m.s[None] - 1),
    "a number first": Chain(behind=lambda y, m: 3 - y),
    "methods": Chain(behind=lambda y, m: torch.mul(m.s, y).add(1.0).sub(m.s).relu().mul(2)),
    "in front": Chain(front=lambda x, m: m.s * (x / 2)),
    "a shift in front": Chain(front=lambda x, m: x + m.s),
    "read twice": Chain(behind=lambda y, m: y + m.norm(y)),
    "its own square": Chain(behind=lambda y, m: y * y),
    "another operator": Chain(behind=lambda y, m: y.relu() * 2),
    "in place": Chain(behind=lambda y, m: y.mul_(2)),
    "with alpha": Chain(behind=lambda y, m: torch.add(y, m.s, alpha=2)),
    "divided by it": Chain(behind=lambda y, m: m.s / y),
    "each pixel's own": Chain(behind=lambda y, m: y * m.s.expand(4, 9, 12)),
    "two deconvs": TwoDeconvs(gives=False),
    "given away too": TwoDeconvs(gives=True),
    "functional": Functional(),
    "sizes are asked for": Chain(behind=lambda y, m: y * y.shape[0]),
    "behind an upsampling": Chain(
        front=lambda x, m: x * m.s,
        behind=lambda y, m: m.norm(y),
        deconv=nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3)),
    ),
    "weights of another type": Chain(behind=lambda y, m: m.norm(y)).to(torch.bfloat16),
    "training alone knows": Chain(behind=lambda y, m: F.batch_norm(y, None, None, training=True)),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_run_shows_what_folding_the_program_takes(name: str) -> None:
    module = MODULES[name].eval()
    x = X.to(next(module.parameters()).dtype)
    folds, _ = ExportedModel(torch.export.export(module, (x,))).foldable()
    wanted = {each.site.id.rpartition(":")[0]: each.operators for each in folds}
    assert dict(observe(module, (x,)).around) == wanted


def test_the_note_names_them() -> None:
    module = MODULES["every operator"].eval()
    (note,) = (each for each in split.record(split.convert(module, X, "generic")).notes if "arithmetic" in each)
    assert note.startswith("arithmetic around deconvs stays, batch_norm, mul, add, div, sub, mul, sub of 'up': ")
    assert note.endswith("fold=True) puts it into them")
