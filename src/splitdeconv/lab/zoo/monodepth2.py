"""Monocular depth estimation (monodepth2) for 192×640 images: a ResNet-18 encoder, and a decoder of upsampled maps.

Source: Godard et al., arXiv 1806.01260, and its published code; the encoder is that of He et al., arXiv 1512.03385.
Upsampled maps are joined with the encoder's, padded by reflection and convolved; at the finest level nothing is joined.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import ZooNetwork

ENCODER, LEVELS, SCALES = (1, 1, 2, 4, 8), 5, 4  # channels in widths of the stem; disparities, the finest first
MEAN, DEVIATION = 0.45, 0.225  # of pixels, as published


class Basic(nn.Module):
    """Two 3×3 convolutions with batch norm, added to the input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the size over the stride."""
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu()))
        result: Tensor = (self.shortcut(x) + y).relu()
        return result


class Padded(nn.Module):
    """A 3×3 convolution of the map padded by reflection."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pad, self.conv = nn.ReflectionPad2d(1), nn.Conv2d(in_channels, out_channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """``out_channels`` maps of the same size."""
        y: Tensor = self.conv(self.pad(x))
        return y


class MonoDepth2(ZooNetwork):
    """``image`` ``(N, 3, 192, 640)``, values between 0 and 1, to four disparity maps ``(N, 1, ·, ·)``, finest first.

    Args:
        width: channels of the finest decoder maps; the encoder has four times as many at its stem.
    """

    input_name, output_names = "image", ("disparity1", "disparity2", "disparity3", "disparity4")
    picture = (192, 640)
    width = 16

    def __init__(self, width: int = width) -> None:
        super().__init__()
        encoder = [4 * width * multiple for multiple in ENCODER]
        self.stem = nn.Sequential(nn.Conv2d(3, encoder[0], 7, 2, 3, bias=False), nn.BatchNorm2d(encoder[0]), nn.ReLU())
        for level, (before, out) in enumerate(pairwise(encoder), 1):
            stage = Basic(before, out, 1 if level == 1 else 2), Basic(out, out, 1)
            setattr(self, f"stage{level}", nn.Sequential(*stage))
        channels = encoder[-1]
        for level in reversed(range(LEVELS)):
            out = width * 2**level
            setattr(self, f"small{level}", Padded(channels, out))
            setattr(self, f"large{level}", Padded(out + (encoder[level - 1] if level else 0), out))
            if level < SCALES:
                setattr(self, f"disparity{level + 1}", Padded(out, 1))
            channels = out

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode, decode with skip connections, and predict at four scales."""
        skips = [self.stem((image - MEAN) / DEVIATION)]
        x = F.max_pool2d(skips[0], 3, 2, 1)
        for level in range(1, LEVELS):
            x = self.get_submodule(f"stage{level}")(x)
            skips.append(x)
        disparities = []
        for level in reversed(range(LEVELS)):
            x = F.elu(self.get_submodule(f"small{level}")(x))
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            joined = torch.cat([x, skips[level - 1]], 1) if level else x
            x = F.elu(self.get_submodule(f"large{level}")(joined))
            if level < SCALES:
                disparities.append(self.get_submodule(f"disparity{level + 1}")(x).sigmoid())
        return tuple(reversed(disparities))
