"""ESRGAN's network, super-resolution by 4: 23 residual-in-residual dense blocks, two upsamplings with a convolution.

Source: Wang et al., arXiv 1809.00219, and its published configuration.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import ZooNetwork
from splitdeconv.lab.zoo.superresolution import SIZE, SLOPE, Head

BLOCKS, DENSE, CONVOLUTIONS = 23, 3, 5
SHARE = 0.2  # of what a block adds to its input
INITIAL = 0.1  # of He's initial weights, as published


class DenseBlock(nn.Module):
    """Five convolutions, each of which reads the results of all before it."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels + number * growth, channels if number == CONVOLUTIONS - 1 else growth, 3, 1, 1)
            for number in range(CONVOLUTIONS)
        )

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        *first, last = self.convolutions
        maps = [x]
        for convolution in first:
            maps.append(F.leaky_relu(convolution(torch.cat(maps, 1)), SLOPE))
        return x + SHARE * last(torch.cat(maps, 1))


class Block(nn.Module):
    """Three dense blocks, added to the input."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.dense = nn.Sequential(*(DenseBlock(channels, growth) for _ in range(DENSE)))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x + SHARE * self.dense(x)


class RRDB(ZooNetwork):
    """``small`` ``(N, 3, 32, 32)``, values between 0 and 1, to ``image`` ``(N, 3, 128, 128)``.

    Args:
        width: channels of all maps; dense convolutions have half as many outputs.
    """

    input_name, output_names, width = "small", ("image",), 64
    picture = (SIZE, SIZE)
    width_step = 2

    def __init__(self, width: int = width) -> None:
        super().__init__()
        self.conv_first = nn.Conv2d(3, width, 3, 1, 1)
        self.body = nn.Sequential(*(Block(width, width // 2) for _ in range(BLOCKS)))
        self.conv_body = nn.Conv2d(width, width, 3, 1, 1)
        self.head = Head(width)
        for module in self.body.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                module.weight.data *= INITIAL
                nn.init.zeros_(module.bias)

    def forward(self, small: Tensor) -> Tensor:
        """Features, the blocks over them, and the image."""
        x = self.conv_first(small)
        image: Tensor = self.head(x + self.conv_body(self.body(x)))
        return image
