"""Fast style transfer for 256×256 images: three convolutions, five residual blocks, two 3×3 deconvs, a convolution.

Source: Johnson et al., arXiv 1603.08155, with the instance normalisation of arXiv 1607.08022 and padded convolutions
throughout, as in the TensorFlow code that is widely used; operation counts as in arXiv 1907.01773.
"""

from __future__ import annotations

from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork

CHANNELS, BLOCKS = (32, 64, 128), 5
DEVIATION = 0.1  # of the initial weights, as in the TensorFlow code
RANGE, MIDDLE = 150.0, 127.5  # of the output, as there


class Residual(nn.Module):
    """Two convolutions with instance norm, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_a = nn.Conv2d(channels, channels, 3, 1, 1)
        self.norm_a = nn.InstanceNorm2d(channels, affine=True)
        self.conv_b = nn.Conv2d(channels, channels, 3, 1, 1)
        self.norm_b = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        y: Tensor = x + self.norm_b(self.conv_b(self.norm_a(self.conv_a(x)).relu()))
        return y


class FST(ZooNetwork):
    """``content`` ``(N, 3, 256, 256)``, values between 0 and 1, to ``image`` of the same shape, values of 0 to 255."""

    input_name, output_names = "content", ("image",)
    picture = (256, 256)

    def __init__(self) -> None:
        super().__init__()
        first, second, third = CHANNELS
        self.conv1 = nn.Conv2d(3, first, 9, 1, 4)
        self.norm1 = nn.InstanceNorm2d(first, affine=True)
        self.conv2 = nn.Conv2d(first, second, 3, 2, 1)
        self.norm2 = nn.InstanceNorm2d(second, affine=True)
        self.conv3 = nn.Conv2d(second, third, 3, 2, 1)
        self.norm3 = nn.InstanceNorm2d(third, affine=True)
        self.residuals = nn.Sequential(*(Residual(third) for _ in range(BLOCKS)))
        self.deconv1 = Deconv2d(third, second, 3, 2)
        self.norm4 = nn.InstanceNorm2d(second, affine=True)
        self.deconv2 = Deconv2d(second, first, 3, 2)
        self.norm5 = nn.InstanceNorm2d(first, affine=True)
        self.conv4 = nn.Conv2d(first, 3, 9, 1, 4)
        self.norm6 = nn.InstanceNorm2d(3, affine=True)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.trunc_normal_(module.weight, 0.0, DEVIATION, -2 * DEVIATION, 2 * DEVIATION)

    def forward(self, content: Tensor) -> Tensor:
        """Down, residual blocks, up."""
        x = self.norm1(self.conv1(content)).relu()
        x = self.norm2(self.conv2(x)).relu()
        x = self.norm3(self.conv3(x)).relu()
        x = self.residuals(x)
        x = self.norm4(self.deconv1(x)).relu()
        x = self.norm5(self.deconv2(x)).relu()
        return RANGE * self.norm6(self.conv4(x)).tanh() + MIDDLE
