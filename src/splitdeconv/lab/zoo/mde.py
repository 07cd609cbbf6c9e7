"""Monocular depth estimation (monodepth) with the VGG encoder and the deconv decoder, 256×512.

Source: Godard et al., arXiv 1609.03677, and its published code. There a deconv pads its input and crops its output; the
operation counts of arXiv 1907.01773 are those of plain SAME deconvs, as here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn

from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork

ENCODER = ((7, 32), (5, 64), (3, 128), (3, 256), (3, 512), (3, 512), (3, 512))  # kernel and channels of each pair
DECODER = (512, 512, 256, 128, 64, 32, 16)
SCALES = 4  # disparities, the finest last
LARGEST_DISPARITY = 0.3  # of the image's width, as in the published code


class MDE(ZooNetwork):
    """``left`` ``(N, 3, 256, 512)``, values between 0 and 1, to four disparity maps ``(N, 2, ·, ·)``, finest first.

    Their values are shares of the image's width; ``disparity1`` has 256×512 pixels, each next one half as many a side.
    """

    input_name, output_names = "left", ("disparity1", "disparity2", "disparity3", "disparity4")
    picture = (256, 512)

    def __init__(self) -> None:
        super().__init__()
        channels = 3
        for number, (kernel, out) in enumerate(ENCODER, 1):
            setattr(self, f"conv{number}", nn.Conv2d(channels, out, kernel, 1, kernel // 2))
            setattr(self, f"conv{number}b", nn.Conv2d(out, out, kernel, 2, kernel // 2))
            channels = out
        for number, out in enumerate(DECODER, 1):
            level = len(DECODER) + 1 - number
            setattr(self, f"deconv{number}", Deconv2d(channels, out, 3, 2))
            skipped = ENCODER[level - 2][1] if level > 1 else 0
            disparities = 2 if level < SCALES else 0
            setattr(self, f"merge{level}", nn.Conv2d(out + skipped + disparities, out, 3, 1, 1))
            if level <= SCALES:
                setattr(self, f"disparity{level}", nn.Conv2d(out, 2, 3, 1, 1))
            channels = out
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)  # the default of TensorFlow's slim
                nn.init.zeros_(module.bias)

    def forward(self, left: Tensor) -> tuple[Tensor, ...]:
        """Encode, decode with skip connections, and predict at four scales."""
        x, skips = left, []
        for number in range(1, len(ENCODER) + 1):
            x = F.elu(self.get_submodule(f"conv{number}b")(F.elu(self.get_submodule(f"conv{number}")(x))))
            skips.append(x)
        disparities: list[Tensor] = []
        for number in range(1, len(DECODER) + 1):
            level = len(DECODER) + 1 - number
            parts = [F.elu(self.get_submodule(f"deconv{number}")(x))]
            if level > 1:
                parts.append(skips[level - 2])
            if disparities:
                parts.append(F.interpolate(disparities[-1], scale_factor=2.0, mode="nearest"))
            x = F.elu(self.get_submodule(f"merge{level}")(torch.cat(parts, 1) if len(parts) > 1 else parts[0]))
            if level <= SCALES:
                disparities.append(LARGEST_DISPARITY * self.get_submodule(f"disparity{level}")(x).sigmoid())
        return tuple(reversed(disparities))
