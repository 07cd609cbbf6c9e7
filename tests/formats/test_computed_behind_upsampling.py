"""Convolutions behind an upsampling or an interpolation whose weights only a run tells: they stay, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # torch's own abbreviation
from torch import nn
from torch.nn.utils import parametrizations

import splitdeconv
import splitdeconv.torch
from splitdeconv.formats.onnx.convolution import COMPUTED
from splitdeconv.formats.torch.exported import COMPUTED as COMPUTED_THERE
from tests.formats.onnx import stretched_models as onnx_models
from tests.formats.onnx.stretched_models import node
from tests.formats.tflite import stretched_models as tflite_models
from tests.onnx_models import load, run
from tests.tflite_models import loaded

SIZE = {"nearest": 3, "linear": 1, "zeros": 4, "skip": 3}


def front_of(kind: str) -> onnx_models.Nodes:
    if kind == "zeros":
        return onnx_models.upfirdn2d()
    return onnx_models.skip() if kind == "skip" else onnx_models.resize(mode=kind)


def computed_onnx(kind: str, what: str) -> onnx.ModelProto:
    """A convolution whose weight, or bias, is made of an input."""
    channels = 6 if kind == "skip" else 3
    kernel = onnx_models.kernel_of((4, channels, SIZE[kind], SIZE[kind]))
    model = onnx_models.model_of(front_of(kind), kernel=kernel, pads=[0] * 4)
    (conv,) = (each for each in model.graph.node if each.op_type == "Conv")
    name = conv.input[1 if what == "weight" else 2]
    model.graph.node.insert(0, node("Mul", [name, "style"], "made"))
    conv.input[list(conv.input).index(name)] = "made"
    model.graph.input.append(onnx.helper.make_tensor_value_info("style", onnx.TensorProto.FLOAT, [1]))
    return model


@pytest.mark.parametrize("what", ["weight", "bias"])
@pytest.mark.parametrize("kind", SIZE)
def test_in_onnx_it_stays_and_the_model_is_what_it_was(kind: str, what: str) -> None:
    model = computed_onnx(kind, what)
    conversion = splitdeconv.convert(model, target="generic", lowering="split")
    (skipped,) = load(model).find().skipped
    assert skipped.reason == (COMPUTED if what == "weight" else "its bias is computed at run time")
    assert [each.reason for each in conversion.record.skipped] == [skipped.reason]
    feeds = {"x": np.random.default_rng(0).integers(-4, 5, (1, 3, 5, 6)).astype(np.float32), "style": np.float32([2])}
    for found, wanted in zip(run(conversion.model, feeds).values(), run(model, feeds).values(), strict=True):
        np.testing.assert_array_equal(found, wanted)


class Modulated(nn.Module):
    """A convolution of an upsampled map, its weight given; with ``skip`` beside another map."""

    def __init__(self, mode: str, *, skip: bool = False) -> None:
        super().__init__()
        self.mode, self.skip = mode, skip

    def forward(self, x, weight):
        y = F.interpolate(x, scale_factor=2, mode=self.mode)
        return F.conv2d(torch.cat([y, y * 2], 1) if self.skip else y, weight * 2)


@pytest.mark.parametrize(("mode", "size"), [("nearest", 3), ("nearest", 1), ("bilinear", 1)])
@pytest.mark.parametrize("skip", [False, True])
def test_in_exported_programs_it_stays(mode: str, size: int, skip: bool) -> None:
    inputs = torch.randn(1, 4, 5, 6), torch.randn(2, 8 if skip else 4, size, size)
    module = Modulated(mode, skip=skip)
    conversion = splitdeconv.convert(torch.export.export(module, inputs), target="generic", lowering="split")
    assert [each.reason for each in conversion.record.skipped] == [COMPUTED_THERE]
    assert torch.equal(conversion.model.module()(*inputs), module(*inputs))


@pytest.mark.parametrize("writes", [[tflite_models.resize()], [tflite_models.resize(), tflite_models.beside("v", "s")]])
def test_in_tflite_it_stays(writes: Sequence[Any]) -> None:
    model = loaded(tflite_models.model_of(*writes))
    graph = model.root.subgraphs[0]
    weights = graph.operators[-1].inputs[1]
    graph.tensors[weights].buffer = 0
    graph.inputs = [*graph.inputs, weights]
    (skipped,) = loaded(model.to_object()).find().skipped
    assert skipped.reason == "its weights are not constant: they are an input"


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_in_modules_a_weight_that_is_computed_of_parameters_is_computed_as_ever(mode: str) -> None:
    """And its gradients reach the parameters."""
    conv = parametrizations.weight_norm(nn.Conv2d(4, 3, 1 if mode == "bilinear" else 3))
    module = nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), conv).double()
    merged = splitdeconv.torch.merge_upsampling(module)
    assert "Split" in type(merged[1]).__mro__[1].__name__
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(merged(x), module(x), rtol=0, atol=1e-12)
    for each in (merged, module):
        each(x).square().sum().backward()
    for one, other in zip(merged.parameters(), module.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-10, atol=1e-12)
