"""Convolutions behind an upsampling or an interpolation whose weights only a run tells."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
from splitdeconv.formats.onnx.convolution import HALF
from splitdeconv.formats.torch import ExportedModel
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.proof.sites import prove_site
from splitdeconv.targets import target
from tests.formats.onnx import stretched_models as onnx_models
from tests.formats.onnx.stretched_models import node
from tests.formats.tflite import stretched_models as tflite_models
from tests.models import op_types
from tests.onnx_models import load, programs, run, written
from tests.tflite_models import loaded

SIZE = {"nearest": 3, "linear": 1, "zeros": 4, "skip": 3}


def front_of(kind: str) -> onnx_models.Nodes:
    if kind == "zeros":
        return onnx_models.upfirdn2d()
    return onnx_models.skip() if kind == "skip" else onnx_models.resize(mode=kind)


def computed_onnx(kind: str, what: str, groups: int = 1) -> onnx.ModelProto:
    """A convolution whose weight, or bias, is made of an input."""
    channels = (6 if kind == "skip" else 3) // groups
    kernel = onnx_models.kernel_of((6, channels, SIZE[kind], SIZE[kind]))
    model = onnx_models.model_of(front_of(kind), kernel=kernel, pads=[0] * 4, group=groups)
    (conv,) = (each for each in model.graph.node if each.op_type == "Conv")
    name = conv.input[1 if what == "weight" else 2]
    model.graph.node.insert(0, node("Mul", [name, "style"], "made"))
    conv.input[list(conv.input).index(name)] = "made"
    model.graph.input.append(onnx.helper.make_tensor_value_info("style", onnx.TensorProto.FLOAT, [1]))
    return model


@pytest.mark.parametrize("what", ["weight", "bias"])
@pytest.mark.parametrize(("kind", "groups"), [*((kind, 1) for kind in SIZE), ("nearest", 3), ("skip", 2), ("skip", 6)])
def test_onnx_operators_sum_the_taps_in_each_run(kind: str, groups: int, what: str) -> None:
    model = computed_onnx(kind, what, groups)
    loaded = load(model)
    (site,) = loaded.find().sites
    assert site.deconv.run_time == (("kernel",) if what == "weight" else ("bias",))
    feeds = {"x": np.random.default_rng(0).integers(-4, 5, (1, 3, 5, 6)).astype(np.float32), "style": np.float32([2])}
    (wanted,) = run(model, feeds).values()
    for number, (candidate, program) in enumerate(programs(loaded, site)):
        (found,) = run(written(loaded.splice({site.id: program})), feeds).values()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-3 if kind == "linear" else 0, err_msg=str(candidate))
        if number % 5 == 0:
            assert prove_site(loaded, site, program, target("onnxruntime")).exact, program.name


def done_with(model: onnx.ModelProto, weight: str) -> list[str]:
    """The operators between a weight and the convolutions that move or compute something."""
    reached, found = {weight}, list[str]()
    for each in model.graph.node:
        if reached & set(each.input) and each.op_type not in ("Conv", "ConvTranspose", "MatMul"):
            reached.update(each.output)
            found.append(each.op_type)
    return [each for each in found if each != "Reshape"]


@pytest.mark.parametrize(("kind", "groups"), [*((kind, 1) for kind in SIZE), ("nearest", 3), ("skip", 2)])
def test_alone_a_site_does_with_its_weight_what_it_does_in_the_model(kind: str, groups: int) -> None:
    """So the times of its forms are those of the model, where the original does nothing with it."""
    loaded = load(computed_onnx(kind, "weight", groups))
    (site,) = loaded.find().sites
    native = lower(site.deconv, "NCHW", NATIVE)
    for _, program in [(NATIVE, native), *list(programs(loaded, site))[::4]]:
        alone = onnx.load_from_string(loaded.emit(site, program).content)
        in_model = loaded if program is native else loaded.splice({site.id: program})
        assert done_with(alone, "kernel") == done_with(written(in_model), "made"), program.name
    assert done_with(onnx.load_from_string(loaded.emit(site, native).content), "kernel") == []


def test_in_onnx_it_is_taken_by_name_proved_and_restored(tmp_path: Path) -> None:
    onnx.save(computed_onnx("nearest", "weight"), tmp_path / "a.onnx")
    conversion = splitdeconv.convert(tmp_path / "a.onnx", tmp_path / "b.onnx", target="generic", lowering="split")
    assert conversion.verdict is not None
    assert conversion.verdict.passed
    assert "Resize" not in op_types(onnx.load(tmp_path / "b.onnx"))
    assert not splitdeconv.restore(tmp_path / "b.onnx", tmp_path / "c.onnx").record.skipped
    assert op_types(onnx.load(tmp_path / "c.onnx")) == op_types(onnx.load(tmp_path / "a.onnx"))


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same in float16, but for the factors of a Resize."""
    graph = model.graph
    factors = {name for each in graph.node if each.op_type == "Resize" for name in each.input[2:]}
    for each in graph.initializer:
        values = onnx.numpy_helper.to_array(each)
        if values.dtype == np.float32 and each.name not in factors:
            each.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), each.name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model


def test_of_16_bits_no_sums_are_taken_in_a_run() -> None:
    model = half(computed_onnx("nearest", "weight"))
    (skipped,) = load(model).find().skipped
    assert skipped.reason == HALF
    (site,) = load(half(computed_onnx("zeros", "weight"))).find().sites
    assert site.deconv.run_time == ("kernel",)


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


@pytest.mark.parametrize(("mode", "size"), [("nearest", 3), ("bilinear", 1)])
def test_alone_the_original_of_a_program_does_nothing_with_its_weight(mode: str, size: int) -> None:
    inputs = torch.randn(1, 4, 5, 6), torch.randn(12, 2, size, size), torch.randn(12)
    model = ExportedModel(torch.export.export(Modulated(mode, 2, skip=False), inputs))
    (site,) = model.find().sites
    graph = model.emit(site, lower(site.deconv, "NCHW", NATIVE)).content.module.graph.graph
    _, kernel, _ = (each for each in graph.nodes if each.op == "placeholder")
    assert ["conv" in str(each.target) for each in kernel.users] == [True]


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
