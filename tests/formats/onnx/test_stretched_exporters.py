"""Upsamplings and inserted zeros as PyTorch's two exporters write them: found, with fixed and with open sizes."""

from __future__ import annotations

import io
from typing import Any

import onnx
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")

import torch.nn.functional as F  # noqa: E402, N812  # the name that all PyTorch code uses
from torch import nn  # noqa: E402

from tests.onnx_models import load  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
CHANNELS = 4


class Behind(nn.Module):
    """A convolution behind what ``stretch`` makes of the input."""

    def __init__(self, stretch: Any) -> None:
        super().__init__()
        self.stretch, self.conv = stretch, nn.Conv2d(CHANNELS, 2, 3, padding=1)

    def forward(self, x: Any) -> Any:
        return self.conv(self.stretch(x))


def expanded(x: Any) -> Any:
    n, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w)


def into_zeros(x: Any) -> Any:
    n, c, h, w = x.shape
    u = torch.zeros(n, c, 2 * h, 2 * w, dtype=x.dtype)
    u[:, :, ::2, ::2] = x
    return u


def upfirdn2d(x: Any) -> Any:
    n, c, h, w = x.shape
    x = F.pad(x.reshape(n, c, h, 1, w, 1), [0, 1, 0, 0, 0, 1])
    return F.pad(x.reshape(n, c, 2 * h, 2 * w), [2, 1, 2, 1])


WAYS = {
    "interpolate": ("repeat", lambda x: F.interpolate(F.silu(x), scale_factor=2)),
    "recomputed": ("repeat", lambda x: F.interpolate(F.silu(x), scale_factor=2.0, recompute_scale_factor=True)),
    "norm": ("repeat", nn.Sequential(nn.Upsample(scale_factor=2), nn.BatchNorm2d(CHANNELS), nn.ReLU())),
    "repeat_interleave": ("repeat", lambda x: x.repeat_interleave(2, -1).repeat_interleave(2, -2)),
    "expand": ("repeat", expanded),
    "exact": ("repeat", lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact")),
    "into_zeros": ("zeros", into_zeros),
    "upfirdn2d": ("zeros", upfirdn2d),
}
SLOW = sorted(set(WAYS) - {"exact", "interpolate", "into_zeros"})
SCRIPTED = sorted(set(WAYS) - {"exact"})  # an operator that the older exporter does not know


def exported(module: nn.Module, *, dynamo: bool, is_open: bool) -> onnx.ModelProto:
    file, x = io.BytesIO(), torch.randn(1, CHANNELS, 6, 8)
    options: dict[str, Any] = {"dynamo": dynamo, "verbose": False}
    if is_open and dynamo:
        dynamic = torch.export.Dim.DYNAMIC
        options["dynamic_shapes"] = ({0: dynamic, 2: dynamic, 3: dynamic},)
    elif is_open:
        options |= {"input_names": ["x"], "dynamic_axes": {"x": {0: "n", 2: "h", 3: "w"}}}
    torch.onnx.export(module.eval(), (x,), file, **options)
    return onnx.load_from_string(file.getvalue())


def assert_found(name: str, model: onnx.ModelProto) -> None:
    stretch, _ = WAYS[name]
    found = load(model).find()
    (site,) = found.sites
    assert site.deconv.written_out is not None
    assert site.deconv.written_out.stretch == stretch
    assert site.deconv.strides == (2, 2)
    assert not found.skipped


@pytest.mark.parametrize("is_open", [False, True], ids=["fixed", "open"])
@pytest.mark.parametrize("name", SCRIPTED)
def test_by_the_older_exporter(name: str, is_open: bool) -> None:
    assert_found(name, exported(Behind(WAYS[name][1]), dynamo=False, is_open=is_open))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name in SLOW else ()) for name in sorted(WAYS)]
)
def test_by_the_newer_exporter_with_open_sizes(name: str) -> None:
    assert_found(name, exported(Behind(WAYS[name][1]), dynamo=True, is_open=True))
