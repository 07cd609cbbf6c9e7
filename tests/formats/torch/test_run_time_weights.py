"""Exported programs and modules that compute the weights of their deconvs: every form bit-equal, groups = batch too."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

import torch.nn.functional as F  # noqa: E402, N812
from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import splitdeconv  # noqa: E402
import splitdeconv.torch  # noqa: E402
from splitdeconv import lowerings  # noqa: E402
from splitdeconv.formats.folding import RUN_TIME  # noqa: E402
from splitdeconv.formats.torch.exported import ExportedModel  # noqa: E402
from splitdeconv.formats.torch.modules import ModuleModel  # noqa: E402
from splitdeconv.pipeline.sites import site_table  # noqa: E402
from splitdeconv.proof.sites import prove_site  # noqa: E402
from splitdeconv.targets import target  # noqa: E402
from splitdeconv.torch_modules.graphs import OPEN  # noqa: E402
from tests.fixtures.stylegan2 import STYLES, Generator, exported  # noqa: E402

CALLS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
STEP = 6  # of a layer's forms in one example


def drawn(*shape: int) -> torch.Tensor:
    return torch.randint(-4, 5, shape).float()


class Modulated(nn.Module):
    """A deconv whose weights a style scales in each run, in one group an image."""

    def __init__(self, ins: int, outs: int, kernel: tuple[int, ...], bias: bool, **numbers) -> None:
        super().__init__()
        self.weight = nn.Parameter(drawn(ins, outs, *kernel))
        self.bias = nn.Parameter(drawn(outs)) if bias else None
        self.numbers = numbers

    def forward(self, x, style):
        ins, outs, *kernel = self.weight.shape
        ones = (1,) * len(kernel)
        weight = (self.weight * style.reshape(-1, ins, 1, *ones)).reshape(-1, outs, *kernel)
        bias = None if self.bias is None else self.bias.repeat(x.shape[0])
        maps = x.reshape(1, -1, *x.shape[2:])
        y = CALLS[len(kernel) - 1](maps, weight, bias, groups=x.shape[0], **self.numbers)
        return y.reshape(x.shape[0], outs, *y.shape[2:])


@st.composite
def modulated(draw) -> tuple[Modulated, tuple[torch.Tensor, torch.Tensor]]:
    """1 to 3 axes, unequal strides, dilation, pads, output pads; several images."""
    rank = draw(st.integers(1, 3))

    def each(first: int, last: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(first, last)) for _ in range(rank))

    kernel, stride, dilation = each(1, 4), each(1, 3), each(1, 2)
    pads = tuple(draw(st.integers(0, (size - 1) * gap // 2)) for size, gap in zip(kernel, dilation, strict=True))
    output_pad = tuple(draw(st.integers(0, max(pair) - 1)) for pair in zip(stride, dilation, strict=True))
    batch, ins, outs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    numbers = {"stride": stride, "padding": pads, "output_padding": output_pad, "dilation": dilation}
    module = Modulated(ins, outs, kernel, draw(st.booleans()), **numbers).eval()
    return module, (drawn(batch, ins, *each(3, 5)), drawn(batch, ins))


def assert_bit_equal(module: Modulated, inputs: tuple[torch.Tensor, ...], first: int, step: int) -> None:
    model, wanted = ExportedModel(torch.export.export(module, inputs)), module(*inputs)
    (site,) = model.find().sites
    assert site.deconv.run_time == (("kernel",) if module.bias is None else ("kernel", "bias"))
    offered = [option.candidate for option in site_table(model, site, target("torch")).options]
    for candidate in offered[first::step]:
        program = lowerings.lower(site.deconv, "NCHW", candidate)
        written = model.splice({site.id: program}).program
        assert torch.equal(written.module()(*inputs), wanted), candidate
        is_native = candidate.lowering == "native"
        assert is_native or not any("conv_transpose" in str(node.target) for node in written.graph.nodes)


@given(modulated(), st.integers(0, STEP - 1))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_form_is_bit_equal(drawn_layer, first) -> None:
    assert_bit_equal(*drawn_layer, first, STEP)


@pytest.mark.long
@given(modulated())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_form_is_bit_equal_on_a_hundred(drawn_layer) -> None:
    assert_bit_equal(*drawn_layer, 0, 1)


MODULE = Modulated(3, 2, (3, 3), bias=True, stride=(2, 2)).eval()
INPUTS = (drawn(2, 3, 4, 5), drawn(2, 3))


def test_by_rule_it_stays_and_by_name_it_is_split_and_proved() -> None:
    program = torch.export.export(MODULE, INPUTS)
    (choice,) = splitdeconv.convert(program, target="generic").record.plan.choices
    assert str(choice.chosen) == "native"
    found = splitdeconv.convert(program, target="generic", lowering="split")
    assert [proof.exact for proof in found.verdict.proofs] == [True]
    assert found.model.state_dict.keys() == program.state_dict.keys()  # no filter is stored
    assert torch.equal(found.model.module()(*INPUTS), MODULE(*INPUTS))


def test_nothing_is_folded_into_weights_that_are_not_stored() -> None:
    class Doubled(Modulated):
        def forward(self, x, style):
            return F.conv_transpose2d(x, self.weight * style.reshape(-1, 1, 1, 1)) * 2.0

    module = Doubled(3, 2, (3, 3), bias=False).eval()
    folds, (left,) = ExportedModel(torch.export.export(module, (INPUTS[0], INPUTS[1][0]))).foldable()
    assert folds == ()
    assert left.reason == f"mul not folded: {RUN_TIME}"


def test_functional_calls_of_a_module_form_their_filters_in_each_forward() -> None:
    converted = splitdeconv.torch.convert(MODULE, INPUTS, lowering="split")
    assert not any("aten.conv_transpose" in str(node.target) for node in converted.graph.nodes)
    assert torch.equal(converted(*INPUTS), MODULE(*INPUTS))
    style = INPUTS[1].clone().requires_grad_()
    (mine,), (wanted,) = (torch.autograd.grad(each(INPUTS[0], style).sum(), style) for each in (converted, MODULE))
    assert torch.equal(mine, wanted)


def test_as_many_groups_as_an_open_batch_are_refused_with_the_reason() -> None:
    batch = Dim("batch", min=2, max=8)
    network, styles = Generator(4, 1).eval(), torch.randn(2, STYLES)  # its convolutions have such groups, too
    program = torch.export.export(network, (styles,), dynamic_shapes=({0: batch},))
    findings = ExportedModel(program).find()
    assert [each.reason for each in findings.skipped] == [OPEN]


def test_calls_of_a_module_are_timed_with_what_forms_their_filters() -> None:
    model = ModuleModel.of(MODULE, INPUTS, measured=True)
    (site,) = model.find().sites
    assert site.deconv.run_time == ("kernel", "bias")
    program = lowerings.lower(site.deconv, "NCHW", lowerings.candidates(site.deconv, "NCHW")[0][-1])
    assert prove_site(model, site, program, target("torch")).exact


class Hypernetwork(nn.Module):
    """A class, which is a number without axes, makes kernel and bias."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.kernel, self.bias = nn.Linear(3, 4 * 2 * 16), nn.Linear(3, 2)

    def forward(self, x, label):
        known = self.embedding(label)
        return F.conv_transpose2d(x, self.kernel(known).view(4, 2, 4, 4), self.bias(known), stride=2, padding=1)


@pytest.mark.parametrize("form", ["older", "program"])
def test_a_hypernetwork_with_a_number_as_input_is_split_and_its_outputs_compared(form) -> None:
    network, inputs = Hypernetwork().eval(), (torch.randn(1, 4, 5, 6), torch.tensor(3))
    model = torch.export.export(network, inputs) if form == "program" else exported(network, inputs, dynamo=False)
    found = splitdeconv.convert(model, target="generic", lowering="split")
    assert found.record.plan.choices[0].deconv.run_time == ("kernel", "bias")
    assert found.verdict.outputs[0].passed
    assert found.record.before.peak_bytes < found.record.after.peak_bytes


@pytest.mark.parametrize("form", ["older", "newer", "program"])
def test_stylegan2_with_images_as_groups_has_no_deconv_left(form) -> None:
    network, styles = Generator(4, 1).eval(), torch.randn(2, STYLES)
    if form == "program":
        model = torch.export.export(network, (styles,))
    else:
        model = exported(network, (styles,), dynamo=form == "newer")
    found = splitdeconv.convert(model, target="generic", lowering="split")
    assert [proof.exact for proof in found.verdict.proofs] == [True]
    assert found.verdict.outputs[0].passed
    (choice,) = found.record.plan.choices
    assert choice.deconv.describe() == "8→8 3×3/2 @4×4 g2 run-time kernel"
    left = found.model.graph.nodes if form == "program" else found.model.graph.node
    assert not any("conv_transpose" in str(getattr(each, "target", "")) for each in left)
    assert not any(getattr(each, "op_type", "") == "ConvTranspose" for each in left)
