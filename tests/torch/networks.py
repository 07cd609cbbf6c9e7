"""Small networks that the PyTorch tests convert."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrizations


def generator(**like):
    return nn.Sequential(
        nn.ConvTranspose2d(6, 8, 4, **like),
        nn.BatchNorm2d(8, **like),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 5, 2, 2, 1, **like),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 2, (3, 4), (2, 1), (1, 0), (1, 0), bias=False, **like),
        nn.Tanh(),
    )


def discriminator(**like):
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, 2, 1, **like), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3, 2, 1, **like), nn.Flatten()
    )


class Doubling(nn.ConvTranspose2d):
    """A subclass with a forward of its own."""

    def forward(self, x, output_size=None):
        return super().forward(x, output_size) * 2


class Plain(nn.ConvTranspose2d):
    """A subclass without one."""


class Everything(nn.Module):
    """Shared, lazy, parametrised and overridden deconvs, and one with a wanted output size."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.ConvTranspose2d(4, 4, 3, 1, 1)
        self.again = self.shared
        self.normed = parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 4, 2, 1))
        self.spectral = parametrizations.spectral_norm(nn.ConvTranspose2d(6, 4, 3, 2, 1))
        self.own = Doubling(4, 4, 3, 1, 1)
        self.lazy = nn.LazyConvTranspose2d(3, 2, 2)

    def forward(self, x):
        x = self.normed(self.again(self.shared(x)))
        size = [2 * x.shape[2], 2 * x.shape[3]]
        return self.lazy(self.own(self.spectral(x, size)))


class Functional(nn.Module):
    """A deconv module, one that overrides forward, and functional calls."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.ConvTranspose2d(4, 6, 4, 2, 1)
        self.own = Doubling(6, 6, 3, 1, 1)
        self.weight = nn.Parameter(torch.randn(6, 2, 5, 5) / 10)
        self.bias = nn.Parameter(torch.randn(2))

    def forward(self, x):
        x = self.own(self.module(x)).relu()
        x = F.conv_transpose2d(x, self.weight, bias=self.bias, stride=2, padding=2, output_padding=1)
        return F.conv_transpose2d(x, self.weight[:2, :1], None, (1, 2))
