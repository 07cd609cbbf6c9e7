"""What the networks of the zoo share: deconvs with any pads, the calls of exporters, and initial weights.

Published networks of this kind come from TensorFlow, whose SAME pads of an odd kernel differ by one between begin and
end, and PyTorch's ``ConvTranspose2d`` takes the same pad on both sides. :class:`Deconv2d` therefore cuts off what is
too much at the end. Exporters get :class:`Direct` in its place, so that files hold one node per deconv.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CALIBRATION_BATCHES, CALIBRATION_SIZE = 4, 8  # random inputs from which batch norm takes its first statistics
Pads = tuple[int, int]


class ZooNetwork(nn.Module):
    """A network that can be exported: it knows its input and how to draw one."""

    input_name: ClassVar[str]
    output_names: ClassVar[tuple[str, ...]]
    width: ClassVar[int | None] = None  # channels of its finest maps, where the constructor takes others
    width_step: ClassVar[int] = 1  # of which the width is a multiple

    latent: ClassVar[int | None] = None  # length of its input, where that is a standard normal vector
    picture: ClassVar[tuple[int, int] | None] = None  # height and width of its input, where that is a picture

    def sample(self, generator: torch.Generator, batch: int = 1) -> Tensor:
        """Random input as the network expects it, of ``batch`` items: a latent vector, or smooth pictures."""
        if self.picture is not None:
            return random_images(generator, batch, *self.picture)
        assert self.latent is not None, "a network takes latent vectors or pictures, or draws its input itself"
        return torch.randn(batch, self.latent, generator=generator)

    def shipped(self) -> dict[str, Tensor] | None:
        """Trained weights that come with the package, or None for initial ones."""
        return None


def same_pads(kernel: int, stride: int) -> Pads:
    """TensorFlow's SAME: the output is exactly ``stride`` times as large as the input."""
    return (kernel - stride) // 2, -((stride - kernel) // 2)


class Deconv2d(nn.Module):
    """A transposed convolution with square kernel and pads that may differ by side.

    Shapes: ``(N, in_channels, H, W)`` to ``(N, out_channels, H·stride, W·stride)`` with SAME pads.

    Args:
        in_channels, out_channels, kernel, stride: as for ``torch.nn.ConvTranspose2d``.
        pads: begin and end of both axes, with ``begin <= end``; None for TensorFlow's SAME.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, pads: Pads | None = None) -> None:
        super().__init__()
        self.pads = same_pads(kernel, stride) if pads is None else pads
        self.deconv = nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, self.pads[0])

    def forward(self, x: Tensor) -> Tensor:
        """The definition, less what the larger pad at the end cuts off."""
        begin, end = self.pads
        y: Tensor = self.deconv(x)
        return y if begin == end else y[:, :, : begin - end, : begin - end]


class UpsampledConv2d(nn.Module):
    """Nearest upsampling by 2 and a 3×3 convolution, the pair that is a deconv.

    Shapes: ``(N, in_channels, H, W)`` to ``(N, out_channels, 2·H, 2·W)``.

    Args:
        in_channels, out_channels: as for ``torch.nn.Conv2d``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Each pixel twice on both axes, then the convolution."""
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y


Operation = Callable[[Tensor, "Deconv2d"], Tensor]


class Direct(nn.Module):
    """A :class:`Deconv2d` for one exporter: a single node of the format."""

    def __init__(self, original: Deconv2d, operation: Operation) -> None:
        super().__init__()
        self.original, self.operation = original, operation

    def forward(self, x: Tensor) -> Tensor:
        """The format's own operation."""
        return self.operation(x, self.original)


def with_operation(network: nn.Module, operation: Operation) -> nn.Module:
    """A copy of ``network`` whose deconvs call ``operation``."""
    copied = copy.deepcopy(network)
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Deconv2d) and not isinstance(parent, Direct):
                setattr(parent, name, Direct(child, operation))
    return copied


def folded(network: nn.Module) -> nn.Module:
    """A copy in which batch norms are folded into the deconvs that they follow, in the order of their definition."""
    copied = copy.deepcopy(network)
    children = list(copied.named_children())
    for (_, before), (name, after) in pairwise(children):
        if isinstance(before, Deconv2d) and isinstance(after, nn.BatchNorm2d):
            before.deconv = fuse_conv_bn_eval(before.deconv, after, transpose=True)
            setattr(copied, name, nn.Identity())
    return copied


def plain_name(name: str) -> str:
    """Name of a parameter without the wrapper that :func:`with_operation` puts around it."""
    return name.replace(".original.", ".")


def normal_weights(network: nn.Module, deviation: float) -> None:
    """Weights from a normal distribution and no bias, as GANs start; batch norm stays as it is."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def settle_batch_norm(network: ZooNetwork, generator: torch.Generator) -> None:
    """Batch-norm statistics from some random inputs, so that activations neither vanish nor grow in evaluation mode."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    network.train()
    with torch.no_grad():
        for _ in range(CALIBRATION_BATCHES):
            network(network.sample(generator, CALIBRATION_SIZE))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def random_images(generator: torch.Generator, batch: int, height: int, width: int) -> Tensor:
    """Smooth coloured patches with a little noise, ``(batch, 3, height, width)``, values between 0 and 1."""
    coarse = torch.rand(batch, 3, 8, 8, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return (smooth + 0.1 * torch.rand(smooth.shape, generator=generator)) / 1.1
