"""Transposed convolutions for PyTorch, computed by ordinary convolutions.

Functions and modules that stand in for ``torch.nn.functional.conv_transpose{1,2,3}d`` and
``torch.nn.ConvTranspose{1,2,3}d``, and the conversion of whole models.
"""

from __future__ import annotations

from splitdeconv.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401  # asked for first, so that its absence is said in one line
except ModuleNotFoundError as error:
    raise MissingExtraError("splitdeconv.torch", "torch", "torch") from error

from splitdeconv.pipeline.arguments import checked
from splitdeconv.torch.convert import bench, convert, record, restore
from splitdeconv.torch.merge import merge_upsampling
from splitdeconv.torch_modules.functions import split_conv_transpose1d, split_conv_transpose2d, split_conv_transpose3d
from splitdeconv.torch_modules.interpolated import (
    SplitInterpolatedConv1d,
    SplitInterpolatedConv2d,
    SplitInterpolatedConv3d,
)
from splitdeconv.torch_modules.modules import (
    LazySplitConvTranspose1d,
    LazySplitConvTranspose2d,
    LazySplitConvTranspose3d,
    SplitConvTranspose1d,
    SplitConvTranspose2d,
    SplitConvTranspose3d,
)
from splitdeconv.torch_modules.modules import freeze as _freeze
from splitdeconv.torch_modules.modules import thaw as _thaw
from splitdeconv.torch_modules.streamed import Streamed
from splitdeconv.torch_modules.streamed import streaming as _streaming
from splitdeconv.torch_modules.upsampled import SplitUpsampledConv1d, SplitUpsampledConv2d, SplitUpsampledConv3d

freeze, thaw, streaming = checked(_freeze), checked(_thaw), checked(_streaming)

__all__ = [
    "LazySplitConvTranspose1d",
    "LazySplitConvTranspose2d",
    "LazySplitConvTranspose3d",
    "SplitConvTranspose1d",
    "SplitConvTranspose2d",
    "SplitConvTranspose3d",
    "SplitInterpolatedConv1d",
    "SplitInterpolatedConv2d",
    "SplitInterpolatedConv3d",
    "SplitUpsampledConv1d",
    "SplitUpsampledConv2d",
    "SplitUpsampledConv3d",
    "Streamed",
    "bench",
    "convert",
    "freeze",
    "merge_upsampling",
    "record",
    "restore",
    "split_conv_transpose1d",
    "split_conv_transpose2d",
    "split_conv_transpose3d",
    "streaming",
    "thaw",
]
