"""Arithmetic of channels around deconvs of exported programs: what goes into weights, what stays, and the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch import nn  # noqa: E402

import splitdeconv  # noqa: E402
from splitdeconv.formats.torch.exported import ExportedModel  # noqa: E402

EACH = torch.tensor([1.0, -1.0, 2.0, 3.0])


def whole(module: nn.Module) -> nn.Module:
    """Its parameters as small whole numbers; batch norms without rounding."""
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, each in (*module.named_parameters(), *module.named_buffers()):
            if each.is_floating_point():
                values = np.ones(each.shape) if name.endswith("var") else rng.integers(-4, 5, tuple(each.shape))
                each.copy_(torch.from_numpy(values))
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            each.eps = 0.0
    return module.eval()


class Chain(nn.Module):
    """``front``, a deconv, ``behind``."""

    def __init__(self, front=lambda x, s: x, behind=lambda y, s: y, deconv: nn.Module | None = None) -> None:
        super().__init__()
        self.up = deconv or nn.ConvTranspose2d(4, 4, (3, 4), 2, 1)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("s", EACH.reshape(4, 1, 1))
        self.front, self.behind = front, behind

    def forward(self, x):
        return self.behind(self.up(self.front(x, self)), self)


X = torch.from_numpy(np.random.default_rng(1).integers(-4, 5, (2, 4, 5, 6)).astype(np.float32))


def fold(module: nn.Module, *, decomposed: bool = False, x: torch.Tensor = X) -> tuple[list[str], tuple[str, ...]]:
    """What the program calls when all is folded, and the reasons for what stays; the bits are the module's."""
    program = torch.export.export(whole(module), (x,))
    model = ExportedModel(program.run_decompositions() if decomposed else program)
    with torch.no_grad():
        wanted = module(x)
    folds, left = model.foldable()
    folded = model.folded(folds)
    assert [site.id for site in folded.find().sites] == [site.id for site in model.find().sites]
    assert torch.equal(folded.program.module()(x), wanted)
    assert torch.equal(model.program.module()(x), wanted), "the original is not changed"
    called = [node for node in folded.program.graph.nodes if node.op == "call_function"]
    return [node.target.overloadpacket.__name__ for node in called], tuple(each.reason for each in left)


@pytest.mark.parametrize(
    ("behind", "decomposed"),
    [
        (lambda y, m: m.norm(y), False),
        (lambda y, m: 2.0 * m.norm(y) + m.s, True),
        (lambda y, m: m.s - y / 0.5, False),
        (lambda y, m: 3.0 - (1 - y), False),
        (lambda y, m: ((y - m.s) * m.s[None]).relu(), False),
    ],
)
def test_whatever_is_linear_behind_a_deconv_is_folded_exactly(behind, decomposed: bool) -> None:
    called, left = fold(Chain(behind=behind), decomposed=decomposed)
    assert left == ()
    assert [name for name in called if name != "relu"] == ["convolution" if decomposed else "conv_transpose2d"]


@pytest.mark.parametrize("bias", [True, False])
def test_a_deconv_without_a_batch_or_a_bias_is_folded_too(bias: bool) -> None:
    deconv = nn.ConvTranspose2d(4, 4, 3, 2, bias=bias)
    assert fold(Chain(behind=lambda y, m: y * m.s + m.s, deconv=deconv), x=X[0]) == (["conv_transpose2d"], ())


def test_a_scale_in_front_goes_in_and_a_shift_stays_where_the_border_meets_less_of_it() -> None:
    assert fold(Chain(front=lambda x, m: m.s * x)) == (["conv_transpose2d"], ())
    called, left = fold(Chain(front=lambda x, m: x + m.s))
    assert called == ["add", "conv_transpose2d"]
    assert left == ("add not folded: at the border its outputs meet less of the shift in front of it than inside",)


def test_the_convolution_of_an_upsampled_map_is_folded_too() -> None:
    conv = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1, groups=2))
    assert fold(Chain(behind=lambda y, m: m.norm(y), deconv=conv)) == (["upsample_nearest2d", "conv2d"], ())


@pytest.mark.parametrize(
    "behind",
    [
        lambda y, m: y * y,
        lambda y, m: m.s / y.abs().clamp(1.0),
        lambda y, m: torch.add(y, m.s, alpha=2),
        lambda y, m: y + m.norm(y),
        lambda y, m: y * m.s.expand(4, 9, 12),
    ],
)
def test_what_is_not_linear_or_read_twice_stays(behind) -> None:
    module = whole(Chain(behind=behind))
    assert ExportedModel(torch.export.export(module, (X,))).foldable() == ((), ())


def test_a_map_that_is_changed_in_between_keeps_what_is_in_front() -> None:
    class Changed(Chain):
        def forward(self, x):
            x = x + 1.0
            scaled = x * self.s
            return self.up(scaled) + x.relu_().sum()

    assert fold(Changed())[0][:2] == ["add", "mul"]


def test_weights_of_other_types_stay() -> None:
    module = whole(Chain(behind=lambda y, m: m.norm(y))).to(torch.bfloat16)
    folds, left = ExportedModel(torch.export.export(module, (X.to(torch.bfloat16),))).foldable()
    assert (folds, left[0].reason) == (
        (),
        "batch_norm not folded: has weights of bfloat16, and folding is done in float32",
    )


def test_a_conversion_says_what_it_folded(tmp_path: Path) -> None:
    source, out = tmp_path / "model.pt2", tmp_path / "out.pt2"
    module = Chain(behind=lambda y, m: m.norm(y).relu()).eval()
    torch.export.save(torch.export.export(module, (X,)), source)
    found = splitdeconv.convert(source, out, target="generic", fold=True)
    assert [(each.site, each.operators) for each in found.record.folded] == [("up:conv_transpose2d", ("batch_norm",))]
    assert "1 of 1 folded sites within the noise bound, not bit-equal" in str(found)
    torch.testing.assert_close(torch.export.load(out).module()(X), module(X), rtol=1e-4, atol=1e-5)
