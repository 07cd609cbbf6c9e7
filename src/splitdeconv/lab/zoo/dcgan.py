"""DCGAN's generator for 64×64 images, as the paper counts it: three 5×5 deconvs of stride 2.

Source: Radford et al., arXiv 1511.06434; kernels and pads as in the TensorFlow code that goes with CelebA; layers and
operation counts as in arXiv 1907.01773 (three deconvs from 8×8, half the channels).
"""

from __future__ import annotations

from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork, normal_weights

LATENT, CHANNELS, SIZE = 100, (256, 128, 64), 8
DEVIATION = 0.02  # of the initial weights, arXiv 1511.06434


class DCGAN(ZooNetwork):
    """``z`` ``(N, 100)``, standard normal, to ``image`` ``(N, 3, 64, 64)``, values between −1 and 1."""

    input_name, output_names = "z", ("image",)
    latent = LATENT

    def __init__(self) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.dense = nn.Linear(LATENT, first * SIZE * SIZE)
        self.norm0 = nn.BatchNorm2d(first)
        self.deconv1 = Deconv2d(first, second, 5, 2)
        self.norm1 = nn.BatchNorm2d(second)
        self.deconv2 = Deconv2d(second, third, 5, 2)
        self.norm2 = nn.BatchNorm2d(third)
        self.deconv3 = Deconv2d(third, 3, 5, 2)
        normal_weights(self, DEVIATION)

    def forward(self, z: Tensor) -> Tensor:
        """Dense, then deconvs with batch norm and ReLU between them."""
        x = self.norm0(self.dense(z).view(-1, CHANNELS[0], SIZE, SIZE)).relu()
        x = self.norm1(self.deconv1(x)).relu()
        x = self.norm2(self.deconv2(x)).relu()
        image: Tensor = self.deconv3(x).tanh()
        return image
