"""SNGAN's generator for 32×32 images (CIFAR-10): three 4×4 deconvs of stride 2 and a 3×3 convolution.

Source: Miyato et al., arXiv 1802.05957, table 3 (standard CNN); operation counts as in arXiv 1907.01773. Spectral
normalisation belongs to the discriminator, so the generator has none.
"""

from __future__ import annotations

from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork, normal_weights

LATENT, CHANNELS, SIZE = 128, (512, 256, 128, 64), 4
DEVIATION = 0.02  # as DCGAN


class SNGAN(ZooNetwork):
    """``z`` ``(N, 128)``, standard normal, to ``image`` ``(N, 3, 32, 32)``, values between −1 and 1."""

    input_name, output_names = "z", ("image",)
    latent = LATENT

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = CHANNELS
        self.dense = nn.Linear(LATENT, first * SIZE * SIZE)
        self.deconv1 = Deconv2d(first, second, 4, 2)
        self.norm1 = nn.BatchNorm2d(second)
        self.deconv2 = Deconv2d(second, third, 4, 2)
        self.norm2 = nn.BatchNorm2d(third)
        self.deconv3 = Deconv2d(third, fourth, 4, 2)
        self.norm3 = nn.BatchNorm2d(fourth)
        self.conv = nn.Conv2d(fourth, 3, 3, 1, 1)
        normal_weights(self, DEVIATION)

    def forward(self, z: Tensor) -> Tensor:
        """Dense, deconvs with batch norm and ReLU, convolution."""
        x = self.dense(z).view(-1, CHANNELS[0], SIZE, SIZE)
        x = self.norm1(self.deconv1(x)).relu()
        x = self.norm2(self.deconv2(x)).relu()
        x = self.norm3(self.deconv3(x)).relu()
        image: Tensor = self.conv(x).tanh()
        return image
