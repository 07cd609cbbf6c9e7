"""ProGAN's generator for 128×128 images: at each size two 3×3 convolutions, the first behind a nearest upsampling.

Source: Karras et al., arXiv 1710.10196, appendix A, with the published rule for the channels: twice as many at half the
size, up to a limit. The scale of the weights, which training multiplies in at run time, is part of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import UpsampledConv2d, ZooNetwork

SMALLEST, SIZES = 4, (8, 16, 32, 64, 128)
SLOPE, EPSILON = 0.2, 1e-8  # of negative values; of pixel norm
COARSE = 8  # times the width have the coarse maps at most


class ProGAN(ZooNetwork):
    """``z`` ``(N, 8·width)``, standard normal, to ``image`` ``(N, 3, 128, 128)``.

    Args:
        width: channels of the finest maps; 32 here, 128 in the published network at this size.
    """

    input_name, output_names, width = "z", ("image",), 32

    def __init__(self, width: int = width) -> None:
        super().__init__()
        self.coarse = channels = COARSE * width
        self.dense = nn.Linear(channels, channels * SMALLEST**2)
        self.conv4 = nn.Conv2d(channels, channels, 3, 1, 1)
        for size in SIZES:
            out = min(width * SIZES[-1] // size, self.coarse)
            setattr(self, f"up{size}", UpsampledConv2d(channels, out))
            setattr(self, f"conv{size}", nn.Conv2d(out, out, 3, 1, 1))
            channels = out
        self.to_rgb = nn.Conv2d(channels, 3, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, SLOPE)
                nn.init.zeros_(module.bias)

    def forward(self, z: Tensor) -> Tensor:
        """From 4×4 to 128×128, each layer with leaky ReLU and pixel norm."""
        x = _active(self.dense(_normed(z)).view(-1, self.coarse, SMALLEST, SMALLEST))
        x = _active(self.conv4(x))
        for size in SIZES:
            x = _active(self.get_submodule(f"up{size}")(x))
            x = _active(self.get_submodule(f"conv{size}")(x))
        image: Tensor = self.to_rgb(x)
        return image

    def sample(self, generator: torch.Generator, batch: int = 1) -> Tensor:
        """Latent vectors."""
        return torch.randn(batch, self.coarse, generator=generator)


def _active(x: Tensor) -> Tensor:
    return _normed(F.leaky_relu(x, SLOPE))


def _normed(x: Tensor) -> Tensor:
    """Each pixel's channels at a root mean square of 1."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()
