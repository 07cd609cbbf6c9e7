"""Convolutions behind an upsampling or an interpolation whose weights only a run tells."""

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
from splitdeconv.formats.torch import ExportedModel
from splitdeconv.lowerings import candidates, lower
from splitdeconv.proof.sites import prove_site
from splitdeconv.targets import target
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
    """A convolution of an upsampled map, its weight and bias made of inputs; with ``skip`` between two other maps."""

    def __init__(self, mode: str, groups: int, *, skip: bool) -> None:
        super().__init__()
        self.mode, self.groups, self.skip = mode, groups, skip

    def forward(self, x, weight, bias):
        y = F.interpolate(x, scale_factor=2, mode=self.mode)
        other = x.repeat(1, 1, 2, 2) * 2
        y = torch.cat([other, y, other + 1], 1) if self.skip else y
        return F.conv2d(y, weight * 2, -bias, padding=weight.shape[-1] // 2, groups=self.groups)


@pytest.mark.parametrize(("mode", "size"), [("nearest", 3), ("nearest", 1), ("bilinear", 1)])
@pytest.mark.parametrize(("skip", "groups"), [(False, 1), (False, 2), (True, 1), (True, 2), (True, 12)])
def test_exported_programs_sum_the_taps_in_each_run(mode: str, size: int, skip: bool, groups: int) -> None:
    channels = (12 if skip else 4) // groups
    inputs = [torch.randint(-4, 5, each).float() for each in ((1, 4, 5, 6), (12, channels, size, size), (12,))]
    module = Modulated(mode, groups, skip=skip)
    model = ExportedModel(torch.export.export(module, tuple(inputs)))
    (site,) = model.find().sites
    assert site.deconv.run_time == ("kernel", "bias")
    forms = {each.lowering: each for each in reversed(candidates(site.deconv, "NCHW")[0])}
    assert len(forms) > 1
    for candidate in forms.values():
        program = lower(site.deconv, "NCHW", candidate)
        found, wanted = model.splice({site.id: program}).program.module()(*inputs), module(*inputs)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3 if mode == "bilinear" else 0)  # of values about 100
        assert prove_site(model, site, program, target("torch")).exact, program.name


def test_by_rule_they_stay_and_a_form_is_taken_by_name() -> None:
    inputs = torch.randn(1, 4, 5, 6), torch.randn(6, 4, 3, 3), torch.randn(6)
    program = torch.export.export(Modulated("nearest", 1, skip=False), inputs)
    by_rule = splitdeconv.convert(program, target="generic")
    assert [str(each.chosen) for each in by_rule.record.plan.choices] == ["native"]
    found = splitdeconv.convert(program, target="generic", lowering="split_phases")
    assert found.verdict is not None
    assert found.verdict.passed
    assert "run-time kernel and bias" in found.record.plan.choices[0].deconv.describe()
    other = torch.randn(1, 4, 5, 6), torch.randn(6, 4, 3, 3), torch.randn(6)
    torch.testing.assert_close(found.model.module()(*other), program.module()(*other), rtol=0, atol=1e-4)


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
