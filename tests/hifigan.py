"""HiFi-GAN's generator (Kong et al., arXiv 2010.05646): mel frames to samples, deconvs with dilated residual stacks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

SLOPE = 0.1
V1 = {"width": 512, "factors": (8, 8, 2, 2)}  # the published generator; 13.9 million parameters


class ResidualStack(nn.Module):
    """Pairs of a dilated and a plain convolution, each with a shortcut."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel, dilation=each, padding=each * (kernel // 2)) for each in dilations
        )
        self.plain = nn.ModuleList(nn.Conv1d(channels, channels, kernel, padding=kernel // 2) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.dilated, self.plain, strict=True):
            x = plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE)) + x
        return x


class HifiGan(nn.Module):
    """Mel spectrogram ``(N, mels, frames)`` to waveform ``(N, 1, frames·∏ factors)``.

    Args:
        mels: bands.
        width: channels behind the first convolution, halved by each deconv.
        factors: of the deconvs, even; their kernels are twice as long.
        kernels, dilations: of the residual stacks behind each deconv.
    """

    def __init__(
        self,
        mels: int = 80,
        width: int = 512,
        factors: Sequence[int] = (8, 8, 2, 2),
        kernels: Sequence[int] = (3, 7, 11),
        dilations: Sequence[int] = (1, 3, 5),
    ) -> None:
        super().__init__()
        self.first = nn.Conv1d(mels, width, 7, padding=3)
        channels = [width >> halved for halved in range(len(factors) + 1)]
        self.ups = nn.ModuleList(
            nn.ConvTranspose1d(ins, outs, 2 * factor, factor, factor // 2)
            for ins, outs, factor in zip(channels, channels[1:], factors, strict=False)
        )
        self.stacks = nn.ModuleList(
            nn.ModuleList(ResidualStack(outs, kernel, dilations) for kernel in kernels) for outs in channels[1:]
        )
        self.last = nn.Conv1d(channels[-1], 1, 7, padding=3)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.first(mel)
        for up, stacks in zip(self.ups, self.stacks, strict=True):
            x = up(F.leaky_relu(x, SLOPE))
            x = sum(stack(x) for stack in stacks) / len(stacks)
        return torch.tanh(self.last(F.leaky_relu(x)))
