"""Modules in chunks equal the whole, bit by bit on whole numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from splitdeconv import UsageError, VerificationError  # noqa: E402
from splitdeconv.torch_modules import streaming as inner  # noqa: E402
from tests.examples import examples  # noqa: E402
from tests.hifigan import HifiGan  # noqa: E402


def with_whole_numbers(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for each in module.parameters():
        each.data = torch.randint(-2, 3, each.shape, generator=generator).float()
    return module.eval()


def in_chunks(streamed, x, sizes, *others):
    with torch.no_grad():
        parts = list(streamed.run(x.split(sizes, -1), *others))
    return [torch.cat(each, -1) for each in zip(*parts, strict=True)]


class Stack(nn.Module):
    """A deconv between convolutions, with a shortcut; whole numbers stay small."""

    def __init__(self, kernel, stride, dilation, padding, output_padding, down):
        super().__init__()
        self.up = nn.ConvTranspose1d(2, 3, kernel, stride, padding, output_padding, dilation=dilation)
        self.dilated = nn.Conv1d(3, 3, 3, padding=2, dilation=2)
        self.down = nn.Conv1d(3, 1, 4, down, 1)

    def forward(self, x, scale=None):
        x = F.hardtanh(self.up(x), -4, 4)
        x = x + self.dilated(x)
        return self.down(F.hardtanh(x, -9, 9))


@examples(5, 80)
@given(st.data())
def test_any_deconv_in_any_chunks(data):
    kernel, stride, dilation = (data.draw(st.integers(1, high)) for high in (5, 3, 2))
    padding = data.draw(st.integers(0, (kernel - 1) * dilation // 2))
    module = with_whole_numbers(
        Stack(
            kernel,
            stride,
            dilation,
            padding,
            data.draw(st.integers(0, stride - 1)),
            data.draw(st.sampled_from([1, stride])),
        )
    )
    x = torch.randint(-3, 4, (2, 2, 24)).float()
    streamed = split.streaming(module, (x,), verify=False)
    sizes = [streamed.multiple * size for size in data.draw(st.sampled_from([(1, 2, 9, 12), (24,), (5, 18, 1)]))]
    x = torch.randint(-3, 4, (1, 2, sum(sizes))).float()
    with torch.no_grad():
        assert torch.equal(in_chunks(streamed, x, sizes)[0], module(x))


@pytest.fixture(scope="module")
def vocoder():
    torch.manual_seed(0)
    return HifiGan(4, 8, (4, 2), (3, 7), (1, 3)).eval()


def test_hifigan_in_chunks_of_1_7_and_32(vocoder):
    mel = torch.randn(1, 4, 40)
    streamed = split.streaming(vocoder, (mel[..., :9],))
    assert (streamed.latency, streamed.multiple, streamed.skip) == (12, 1, (91,))
    with torch.no_grad():
        whole = vocoder(mel)
        for size in (1, 7, 32):
            torch.testing.assert_close(in_chunks(streamed, mel, size)[0], whole, rtol=0, atol=1e-6)


def test_its_deconvs_are_converted_and_it_is_exported(vocoder):
    mel = torch.randn(1, 4, 8)
    streamed = split.streaming(vocoder, (mel,), verify=False)
    converted = split.convert(streamed, (mel, streamed.initial_state()), lowering="split", verify=False)
    assert split.record(converted).converted == ("step.module.ups.0", "step.module.ups.1")
    with torch.no_grad():
        torch.testing.assert_close(in_chunks(converted, mel, 3)[0], vocoder(mel), rtol=0, atol=1e-6)
        state = streamed.initial_state()
        exported = torch.export.export(streamed, (mel, state)).module()
        torch.testing.assert_close(exported(mel, state)[0], streamed(mel, state)[0])


class Codec(nn.Module):
    """Down and up again, with what may stand between, two inputs and two outputs."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(3, 4, 5, padding="same", dilation=2)
        self.down = nn.Conv1d(4, 6, 4, 2, 1)
        self.up = nn.ConvTranspose1d(6, 4, 5, 2, 2, 1)
        self.norm = nn.BatchNorm1d(4)
        self.causal = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3))
        self.last = nn.ConvTranspose1d(4, 2, 4, 3)

    def forward(self, x, style, unused=None):
        x = torch.tanh(self.first(x))
        x = self.norm(self.up(F.elu(self.down(x))))
        one, other = torch.chunk(self.causal(F.pad(x, (2, 0))) + x, 2, dim=1)
        x = torch.cat([torch.sigmoid(one) * other, one], 1) * style.unsqueeze(-1)
        return self.last(F.interpolate(x, scale_factor=2))[..., 1:-1], x.transpose(1, 2).mean(-1)


def test_a_codec_with_two_inputs_and_outputs():
    inputs = torch.randn(2, 3, 24), torch.randn(2, 4)
    module = Codec().eval()
    streamed = split.streaming(module, inputs)
    assert streamed.multiple == 2
    with torch.no_grad():
        for found, wanted in zip(in_chunks(streamed, inputs[0], 6, inputs[1]), module(*inputs), strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("axis", [-1, -2])
def test_either_axis_of_pictures(axis):
    module = nn.Sequential(nn.Conv2d(1, 3, 3, padding=(1, 2)), nn.ReLU(), nn.ConvTranspose2d(3, 2, (4, 3), (2, 1), 1))
    split.streaming(module.eval(), (torch.randn(1, 1, 12, 10),), axis)


REFUSED = [
    (nn.GroupNorm(1, 3), "GroupNorm 'norm' cannot be streamed: its mean and variance are those of the whole signal"),
    (nn.MultiheadAttention(12, 1), "attention"),
    (nn.LSTM(12, 3), "recurrent layers are not streamed"),
    (nn.AdaptiveAvgPool1d(1), "it averages the whole signal"),
    (nn.Softmax(-1), "it goes over the whole streamed axis"),
    (nn.Conv1d(3, 3, 3, padding=1, padding_mode="reflect"), "it pads by reflect, not with zeros"),
    (nn.Flatten(), "what it reads of the streamed axis is not known"),
    (nn.Linear(12, 3), "it goes over the whole streamed axis"),
]


class Around(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x, x, x) if isinstance(self.norm, nn.MultiheadAttention) else self.norm(x)


@pytest.mark.parametrize(("module", "reason"), REFUSED, ids=lambda each: type(each).__name__)
def test_what_needs_the_whole_signal_is_refused_with_the_reason(module, reason):
    with pytest.raises(UsageError, match=reason):
        split.streaming(Around(module).eval(), (torch.randn(2, 3, 12),))


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_cannot_be_traced():
    with pytest.raises(UsageError, match=r"Branching: torch\.fx cannot trace its forward"):
        split.streaming(Branching(), (torch.randn(1, 2, 3),))
    with pytest.raises(UsageError, match="the input has axes 0 to 2"):
        split.streaming(nn.Identity(), (torch.randn(1, 2, 3),), 3)


def test_the_proof_sees_what_is_not_masked(monkeypatch, vocoder):
    monkeypatch.setattr(inner.GraphWalk, "masked", lambda _, node: node)
    with pytest.raises(VerificationError, match="in chunks output 0 of HifiGan differs"):
        split.streaming(vocoder, (torch.randn(1, 4, 9),))
