"""A small generator of cartoon faces, 64×64, trained by the project: deconvs 4×4/2, 5×5/2, 3×3/2 and 5×5/2.

Source: ours, after Dosovitskiy et al., arXiv 1411.5928: a deconv network that learns to draw from attributes. Its
weights are in ``faces.onnx``; ``python -m splitdeconv.lab.zoo.train`` makes them.
"""

from __future__ import annotations

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from splitdeconv.lab import zoo
from splitdeconv.lab.zoo.drawing import NUMBERS
from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork

HIDDEN, CHANNELS, SIZE = 128, (48, 48, 40, 24), 4
SLOPE = 0.1  # of negative values


class Faces(ZooNetwork):
    """``z`` ``(N, 16)``, standard normal, to ``image`` ``(N, 3, 64, 64)``, values between −1 and 1."""

    input_name, output_names = "z", ("image",)
    latent = NUMBERS

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth = CHANNELS
        self.dense1 = nn.Linear(NUMBERS, HIDDEN)
        self.dense2 = nn.Linear(HIDDEN, first * SIZE * SIZE)
        self.deconv1 = Deconv2d(first, second, 4, 2)
        self.deconv2 = Deconv2d(second, third, 5, 2)
        self.deconv3 = Deconv2d(third, fourth, 3, 2)
        self.deconv4 = Deconv2d(fourth, 3, 5, 2)

    def forward(self, z: Tensor) -> Tensor:
        """Two dense layers, four deconvs."""
        x = nn.functional.leaky_relu(self.dense2(nn.functional.leaky_relu(self.dense1(z), SLOPE)), SLOPE)
        x = nn.functional.leaky_relu(self.deconv1(x.view(-1, CHANNELS[0], SIZE, SIZE)), SLOPE)
        x = nn.functional.leaky_relu(self.deconv2(x), SLOPE)
        x = nn.functional.leaky_relu(self.deconv3(x), SLOPE)
        image: Tensor = self.deconv4(x).tanh()
        return image

    def shipped(self) -> dict[str, Tensor] | None:
        """The weights in ``faces.onnx``, where the exporter keeps their names."""
        tensors = onnx.load(zoo.trained()).graph.initializer
        floats = [each for each in tensors if each.data_type == onnx.TensorProto.FLOAT]
        return {each.name: torch.from_numpy(numpy_helper.to_array(each).copy()) for each in floats}
