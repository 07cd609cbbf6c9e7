"""GP-GAN's blending network for 64×64 images: a convolutional encoder, a bottleneck of 4000, four 4×4 deconvs.

Source: Wu et al., arXiv 1703.07195 (Blending GAN). The layer behind the bottleneck, a deconv over a 1×1 map in the
published code, is the dense layer that it computes: arXiv 1907.01773 does not count it. The optimisation of the
Gaussian-Poisson equation that follows the network is left out.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork, normal_weights, random_images

CHANNELS, BOTTLENECK, SIZE = (64, 128, 256, 512), 4000, 4
DEVIATION = 0.02  # as DCGAN


class GPGAN(ZooNetwork):
    """``composite`` ``(N, 3, 64, 64)`` to ``image`` of the same shape, both with values between −1 and 1."""

    input_name, output_names = "composite", ("image",)

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = CHANNELS
        self.conv1 = nn.Conv2d(3, first, 4, 2, 1)
        self.conv2 = nn.Conv2d(first, second, 4, 2, 1)
        self.encoder_norm2 = nn.BatchNorm2d(second)
        self.conv3 = nn.Conv2d(second, third, 4, 2, 1)
        self.encoder_norm3 = nn.BatchNorm2d(third)
        self.conv4 = nn.Conv2d(third, fourth, 4, 2, 1)
        self.encoder_norm4 = nn.BatchNorm2d(fourth)
        self.bottleneck = nn.Linear(fourth * SIZE * SIZE, BOTTLENECK)
        self.expansion = nn.Linear(BOTTLENECK, fourth * SIZE * SIZE)
        self.norm0 = nn.BatchNorm2d(fourth)
        self.deconv1 = Deconv2d(fourth, third, 4, 2)
        self.norm1 = nn.BatchNorm2d(third)
        self.deconv2 = Deconv2d(third, second, 4, 2)
        self.norm2 = nn.BatchNorm2d(second)
        self.deconv3 = Deconv2d(second, first, 4, 2)
        self.norm3 = nn.BatchNorm2d(first)
        self.deconv4 = Deconv2d(first, 3, 4, 2)
        normal_weights(self, DEVIATION)

    def forward(self, composite: Tensor) -> Tensor:
        """Encode, squeeze through the bottleneck, decode."""
        x = nn.functional.leaky_relu(self.conv1(composite), 0.2)
        x = nn.functional.leaky_relu(self.encoder_norm2(self.conv2(x)), 0.2)
        x = nn.functional.leaky_relu(self.encoder_norm3(self.conv3(x)), 0.2)
        x = nn.functional.leaky_relu(self.encoder_norm4(self.conv4(x)), 0.2)
        x = self.expansion(self.bottleneck(x.flatten(1)))
        x = self.norm0(x.view(-1, CHANNELS[-1], SIZE, SIZE)).relu()
        x = self.norm1(self.deconv1(x)).relu()
        x = self.norm2(self.deconv2(x)).relu()
        x = self.norm3(self.deconv3(x)).relu()
        image: Tensor = self.deconv4(x).tanh()
        return image

    def sample(self, generator: torch.Generator, batch: int = 1) -> Tensor:
        """Smooth random images."""
        return random_images(generator, batch, 64, 64) * 2 - 1
