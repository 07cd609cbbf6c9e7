"""StyleGAN2's synthesis network for 64×64 images: blocks that double the size, images enlarged by ``upfirdn2d``.

Source: Karras et al., arXiv 1912.04958, and the reference code of ``upfirdn2d`` and of modulation apart from the
convolution (zeros between pixels, pads, a depthwise 4×4 filter); its noise is constant, as for inference.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import ZooNetwork

STYLES, SMALLEST, SIZES = 512, 4, (8, 16, 32, 64)
TAPS, SLOPE = (1.0, 3.0, 3.0, 1.0), 0.2  # of the filter on each axis; of negative values
EPSILON = 1e-8  # under the root of demodulation


def upfirdn2d(x: Tensor, filter2d: Tensor, up: int, pads: tuple[int, int]) -> Tensor:
    """Zeros between pixels, pads on both axes, and the filter, as the reference code writes it.

    Args:
        x: ``(N, C, H, W)``.
        filter2d: ``(K, K)``.
        up: places for each pixel.
        pads: begin and end of both axes.
    """
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, height, 1, width, 1)
    x = F.pad(x, [0, up - 1, 0, 0, 0, up - 1])
    x = F.pad(x.reshape(batch, channels, height * up, width * up), [*pads, *pads])
    weight = (filter2d * up**2).flip([0, 1])[None, None].repeat(channels, 1, 1, 1)
    return F.conv2d(x, weight, groups=channels)


class Modulation(nn.Module):
    """The factors that a style gives to the channels that a convolution reads, and then to those that it writes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(STYLES, channels)
        nn.init.ones_(self.affine.bias)

    def forward(self, w: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Factors ``(N, C, 1, 1)`` for both; ``weight`` is ``(out, in, …)``."""
        style = self.affine(w)
        strength = (style.square() @ weight.square().flatten(2).sum(2).T + EPSILON).rsqrt()
        return style[:, :, None, None], strength[:, :, None, None]


class StyledLayer(nn.Module):
    """A 3×3 convolution with a style, noise and leaky ReLU; a deconv of stride 2 and a blur where it enlarges."""

    def __init__(self, in_channels: int, out_channels: int, size: int, up: bool) -> None:
        super().__init__()
        self.modulation, self.up = Modulation(in_channels), up
        kind, sizes = (nn.ConvTranspose2d, (3, 2)) if up else (nn.Conv2d, (3, 1, 1))
        self.conv = kind(in_channels, out_channels, *sizes)
        self.noise_strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.randn(size, size))

    def forward(self, x: Tensor, w: Tensor, filter2d: Tensor) -> Tensor:
        """``out_channels`` maps of the same size, or of twice the size."""
        weight = self.conv.weight
        style, strength = self.modulation(w, weight.transpose(0, 1) if self.up else weight)
        x = self.conv(x * style)
        if self.up:
            x = upfirdn2d(x, 4 * filter2d, 1, (1, 1))
        return math.sqrt(2) * F.leaky_relu(x * strength + self.noise_strength * self.noise, SLOPE)


class StyleGAN2(ZooNetwork):
    """``w`` ``(N, 512)``, a style for all layers, to ``image`` ``(N, 3, 64, 64)``.

    Args:
        width: channels of the finest maps; coarser ones have twice as many at most.
    """

    input_name, output_names, width = "w", ("image",), 256
    latent = STYLES

    def __init__(self, width: int = width) -> None:
        super().__init__()
        taps = torch.tensor(TAPS)
        self.register_buffer("filter2d", torch.outer(taps, taps) / taps.sum() ** 2)
        channels = 2 * width
        self.constant = nn.Parameter(torch.randn(channels, SMALLEST, SMALLEST))
        self.first = StyledLayer(channels, channels, SMALLEST, up=False)
        for size in SIZES:
            out = width if size == SIZES[-1] else 2 * width
            setattr(self, f"up{size}", StyledLayer(channels, out, size, up=True))
            setattr(self, f"conv{size}", StyledLayer(out, out, size, up=False))
            setattr(self, f"style{size}", nn.Linear(STYLES, out))
            setattr(self, f"rgb{size}", nn.Conv2d(out, 3, 1))
            channels = out

    def forward(self, w: Tensor) -> Tensor:
        """Block by block; each adds its image to the enlarged one before."""
        x = self.first(self.constant.expand(w.shape[0], -1, -1, -1), w, self.filter2d)
        image: Tensor | None = None
        for size in SIZES:
            x = self.get_submodule(f"up{size}")(x, w, self.filter2d)
            x = self.get_submodule(f"conv{size}")(x, w, self.filter2d)
            style = self.get_submodule(f"style{size}")(w)[:, :, None, None]
            colours: Tensor = self.get_submodule(f"rgb{size}")(x * style)
            image = colours if image is None else upfirdn2d(image, self.filter2d, 2, (2, 1)) + colours
        assert image is not None, "there are blocks"
        return image
