"""The decoder of Stable Diffusion's autoencoder: residual blocks, one attention, three upsamplings with a convolution.

Source: Rombach et al., arXiv 2112.10752, and the published configuration (latents of 4 channels, maps of 1, 2, 4 and 4
times the width, three residual blocks a level, group norm of 32 groups). A latent of 64×64 makes 512×512 pixels there;
here it is 16×16.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import UpsampledConv2d, ZooNetwork

LATENT, SIZE, MULTIPLES, BLOCKS = 4, 16, (4, 4, 2, 1), 3
GROUPS, EPSILON = 32, 1e-6  # of group norm
SCALING = 0.18215  # of latents, as published


class ResidualBlock(nn.Module):
    """Two convolutions behind group norm and SiLU, added to the input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, in_channels, EPSILON)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, 1, 1)
        self.norm2 = nn.GroupNorm(GROUPS, out_channels, EPSILON)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1)
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """``out_channels`` maps of the same size."""
        y: Tensor = self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return self.shortcut(x) + y


class Attention(nn.Module):
    """Self-attention of one head over all pixels, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels, EPSILON)
        self.query, self.key, self.value, self.out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        pixels = self.norm(x).flatten(2).transpose(1, 2).unsqueeze(1)  # the exporter to ONNX wants an axis of heads
        seen = F.scaled_dot_product_attention(self.query(pixels), self.key(pixels), self.value(pixels))
        return x + self.out(seen).squeeze(1).transpose(1, 2).reshape(x.shape)


class VAE(ZooNetwork):
    """``latent`` ``(N, 4, 16, 16)``, standard normal, to ``image`` ``(N, 3, 128, 128)``.

    Args:
        width: channels of the finest maps, a multiple of 32; 128 in the published network.
    """

    input_name, output_names, width = "latent", ("image",), 128
    width_step = GROUPS

    def __init__(self, width: int = width) -> None:
        super().__init__()
        levels = [width * multiple for multiple in MULTIPLES]
        channels = levels[0]
        self.post_quant = nn.Conv2d(LATENT, LATENT, 1)
        self.conv_in = nn.Conv2d(LATENT, channels, 3, 1, 1)
        self.middle = nn.Sequential(
            ResidualBlock(channels, channels), Attention(channels), ResidualBlock(channels, channels)
        )
        for level, out in enumerate(levels):
            blocks: list[nn.Module] = [ResidualBlock(out if number else channels, out) for number in range(BLOCKS)]
            if level < len(levels) - 1:
                blocks.append(UpsampledConv2d(out, out))
            setattr(self, f"level{level}", nn.Sequential(*blocks))
            channels = out
        self.norm_out = nn.GroupNorm(GROUPS, channels, EPSILON)
        self.conv_out = nn.Conv2d(channels, 3, 3, 1, 1)

    def forward(self, latent: Tensor) -> Tensor:
        """Scaled as published, then from level to level."""
        x = self.middle(self.conv_in(self.post_quant(latent / SCALING)))
        for level in range(len(MULTIPLES)):
            x = self.get_submodule(f"level{level}")(x)
        image: Tensor = self.conv_out(F.silu(self.norm_out(x)))
        return image

    def sample(self, generator: torch.Generator, batch: int = 1) -> Tensor:
        """Latents as an encoder would give them."""
        return SCALING * torch.randn(batch, LATENT, SIZE, SIZE, generator=generator)
