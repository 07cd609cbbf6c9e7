"""Convolutions whose channels become pixels in exported programs: found, and as conv_transpose with the same bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

from splitdeconv.deconv.sub_pixel import SubPixel, define_sub_pixel  # noqa: E402
from splitdeconv.formats.torch.exported import ExportedModel  # noqa: E402
from splitdeconv.proof.sub_pixel import prove_sub_pixel  # noqa: E402
from splitdeconv.targets import target  # noqa: E402
from tests.formats.torch.test_fold import X, whole  # noqa: E402

Shuffle = Callable[[torch.Tensor], torch.Tensor]


def shuffled(y: torch.Tensor) -> torch.Tensor:
    return nn.functional.pixel_shuffle(y, 2)


def by_hand(y: torch.Tensor) -> torch.Tensor:
    """Rows by 2 and columns by 1, the phases first."""
    batch, _, height, width = y.shape
    return y.reshape(batch, 2, 4, height, width).permute(0, 2, 3, 1, 4).reshape(batch, 4, 2 * height, width)


class Upscale(nn.Module):
    """A convolution, an order of its channels as pixels, and one more."""

    def __init__(self, shuffle: Shuffle = shuffled, **numbers) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, **{"kernel_size": (3, 2), "padding": (1, 0), "dilation": (1, 2), **numbers})
        self.shuffle = shuffle

    def forward(self, x):
        return self.shuffle(self.conv(x)).relu()


def model_of(module: nn.Module, *, alike: bool = False, decomposed: bool = False, **options) -> ExportedModel:
    whole(module)
    if alike:
        with torch.no_grad():
            module.conv.bias.fill_(3)
    program = torch.export.export(module, (X,), **options)
    return ExportedModel(program.run_decompositions() if decomposed else program)


def called(model: ExportedModel) -> list[str]:
    nodes = [node for node in model.program.graph.nodes if node.op == "call_function"]
    return [node.target.overloadpacket.__name__ for node in nodes]


@pytest.mark.parametrize(
    ("shuffle", "decomposed", "alike"),
    [(shuffled, False, True), (shuffled, False, False), (shuffled, True, False), (by_hand, False, True)],
)
def test_every_way_to_write_it_is_found_and_keeps_the_bits(shuffle: Shuffle, decomposed: bool, alike: bool) -> None:
    module = Upscale(shuffle)
    model = model_of(module, alike=alike, decomposed=decomposed)
    (site,), left = model.sub_pixels()
    assert (site.id, left) == ("conv:" + ("convolution" if decomposed else "conv2d"), ())
    turned = model.turned([site])
    assert [each.id for each in turned.find().sites] == [site.id]
    assert called(turned)[0] == "conv_transpose2d"
    assert ("add" in called(turned)) == (not alike)
    plain = define_sub_pixel(X.numpy(), site.kernel, site.bias, site.spec)
    np.testing.assert_array_equal(turned.program.module()(X).detach().numpy(), np.maximum(plain, 0))
    np.testing.assert_array_equal(model.program.module()(X).detach().numpy(), np.maximum(plain, 0))
    assert not [name for name in turned.program.state_dict if name.startswith("conv.")], "the old weights are gone"


def test_an_open_batch_stays_open() -> None:
    module = Upscale()
    model = model_of(module, dynamic_shapes=({0: Dim("n")},))
    turned = model.turned(model.sub_pixels()[0])
    more = torch.cat([X, X, X])
    assert torch.equal(turned.program.module()(more), module(more))


def test_a_rank_of_one_and_groups_of_the_finer_map_are_turned() -> None:
    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(4, 8, 3, padding=1, groups=2)

        def forward(self, x):
            y = self.conv(x)
            return y.unflatten(1, (4, 2)).permute(0, 1, 3, 2).flatten(2)

    module, x = whole(Line()), X.flatten(2)
    model = ExportedModel(torch.export.export(module, (x,)))
    turned = model.turned(model.sub_pixels()[0])
    assert called(turned)[0] == "conv_transpose1d"
    assert torch.equal(turned.program.module()(x), module(x))


def test_what_stays_says_why() -> None:
    grouped = model_of(
        Upscale(lambda y: y.reshape(2, 2, 4, *y.shape[2:]).permute(0, 2, 3, 1, 4).flatten(2, 3), groups=2)
    )
    assert [each.reason for each in grouped.sub_pixels()[1]] == ["the phases of a channel come from several groups"]
    half = whole(Upscale()).to(torch.bfloat16)
    model = ExportedModel(torch.export.export(half, (X.to(torch.bfloat16),)))
    reasons = [each.reason for each in model.sub_pixels()[1]]
    assert reasons == ["has weights of bfloat16, in place of which others would be stored"]
    assert model_of(Upscale(stride=2)).sub_pixels() == ((), ())
    assert model_of(Upscale(lambda y: y)).sub_pixels() == ((), ())


def test_it_is_proved_on_whole_numbers_and_a_wrong_order_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, runner = model_of(Upscale()), target("torch")
    ((site,), _) = model.sub_pixels()
    assert prove_sub_pixel(model, site, runner).exact
    plain = runner.compile(model.emit_sub_pixel(site, site.kernel, site.bias, turned=False)).run({"x": X.numpy()})
    np.testing.assert_array_equal(*plain.values(), define_sub_pixel(X.numpy(), site.kernel, site.bias, site.spec))
    right = SubPixel.deconv_kernel
    monkeypatch.setattr(SubPixel, "deconv_kernel", lambda spec, own: np.roll(right(spec, own), 1, axis=1))
    assert not prove_sub_pixel(model, site, runner).exact
