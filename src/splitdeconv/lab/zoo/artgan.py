"""ArtGAN's generator for 64×64 images: six deconvs, of which two have stride 1.

Source: the layout of Tan et al., ICIP 2017, arXiv 1702.03410. arXiv 1907.01773 counts 822.08 M multiply-accumulates for
ArtGAN's deconvs, all of stride 2; no published layout gives that number, so this one has a count of its own.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork, normal_weights

LATENT, CLASSES = 100, 10
DEVIATION = 0.02  # as DCGAN


class ArtGAN(ZooNetwork):
    """``z`` ``(N, 110)``, 100 latent values and a one-hot class, to ``image`` ``(N, 3, 64, 64)`` between −1 and 1."""

    input_name, output_names = "z", ("image",)

    def __init__(self) -> None:
        super().__init__()
        self.deconv1 = Deconv2d(LATENT + CLASSES, 1024, 4, 1, pads=(0, 0))
        self.norm1 = nn.BatchNorm2d(1024)
        self.deconv2 = Deconv2d(1024, 512, 4, 2)
        self.norm2 = nn.BatchNorm2d(512)
        self.deconv3 = Deconv2d(512, 256, 4, 2)
        self.norm3 = nn.BatchNorm2d(256)
        self.deconv4 = Deconv2d(256, 128, 4, 2)
        self.norm4 = nn.BatchNorm2d(128)
        self.deconv5 = Deconv2d(128, 128, 3, 1)
        self.norm5 = nn.BatchNorm2d(128)
        self.deconv6 = Deconv2d(128, 3, 4, 2)
        normal_weights(self, DEVIATION)

    def forward(self, z: Tensor) -> Tensor:
        """Deconvs with batch norm and ReLU between them."""
        x = self.norm1(self.deconv1(z.view(-1, LATENT + CLASSES, 1, 1))).relu()
        x = self.norm2(self.deconv2(x)).relu()
        x = self.norm3(self.deconv3(x)).relu()
        x = self.norm4(self.deconv4(x)).relu()
        x = self.norm5(self.deconv5(x)).relu()
        image: Tensor = self.deconv6(x).tanh()
        return image

    def sample(self, generator: torch.Generator, batch: int = 1) -> Tensor:
        """Latent vectors and classes."""
        classes = torch.randint(CLASSES, (batch,), generator=generator)
        latent = torch.randn(batch, LATENT, generator=generator)
        return torch.cat([latent, F.one_hot(classes, CLASSES).float()], dim=1)
