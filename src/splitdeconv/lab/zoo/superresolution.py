"""Super-resolution by 4, light: 16 convolutions at low resolution, then two upsamplings with a convolution.

Source: Wang et al., arXiv 2107.10833: the trunk of its compact network (convolutions and PReLU) and the
upsampling of its large one; the combination is ours.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import UpsampledConv2d, ZooNetwork

CONVOLUTIONS, SIZE = 16, 32
SLOPE = 0.2  # of negative values behind the trunk


class Head(nn.Module):
    """From low resolution to an image of four times the size: what both super-resolution networks end with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up1 = UpsampledConv2d(channels, channels)
        self.up2 = UpsampledConv2d(channels, channels)
        self.conv_fine = nn.Conv2d(channels, channels, 3, 1, 1)
        self.conv_last = nn.Conv2d(channels, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, H, W)`` to ``(N, 3, 4·H, 4·W)``."""
        x = F.leaky_relu(self.up1(x), SLOPE)
        x = F.leaky_relu(self.up2(x), SLOPE)
        image: Tensor = self.conv_last(F.leaky_relu(self.conv_fine(x), SLOPE))
        return image


class LightSuperResolution(ZooNetwork):
    """``small`` ``(N, 3, 32, 32)``, values between 0 and 1, to ``image`` ``(N, 3, 128, 128)``.

    Args:
        width: channels of all maps.
    """

    input_name, output_names, width = "small", ("image",), 64
    picture = (SIZE, SIZE)

    def __init__(self, width: int = width) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for number in range(CONVOLUTIONS):
            layers += [nn.Conv2d(width if number else 3, width, 3, 1, 1), nn.PReLU(width)]
        self.trunk = nn.Sequential(*layers)
        self.head = Head(width)

    def forward(self, small: Tensor) -> Tensor:
        """What the network adds to the enlarged input."""
        image: Tensor = self.head(self.trunk(small)) + F.interpolate(small, scale_factor=4.0, mode="nearest")
        return image
