"""Filters in oneDNN's order and the assembly in one copy: where they are used, and that they change nothing."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from hypothesis import example, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from splitdeconv.deconv import reference  # noqa: E402
from splitdeconv.deconv.spec import Axis, Deconv  # noqa: E402
from splitdeconv.torch_modules import assemble, packed  # noqa: E402
from splitdeconv.torch_modules.forms import inference_form  # noqa: E402
from splitdeconv.torch_modules.interpret import routine  # noqa: E402
from tests.examples import examples  # noqa: E402
from tests.strategies import deconvs, integer_tensors  # noqa: E402
from tests.torch.forms import all_forms  # noqa: E402

pytestmark = pytest.mark.skipif(not packed.is_available(), reason="this build of PyTorch has no oneDNN")

WHOLE_BLOCKS = Deconv((Axis(16, 8, 1, 4, 4, 0, 3), Axis(4, 2, 1, 1, 1, 0, 5)), 2, 4, batch=2, has_bias=True)
PAIRS = Deconv((Axis(3, 2, 1, 1, 1, 1, 3),) * 3, 2, 3, batch=2)
EVEN = Deconv((Axis(2, 2, 1, 0, 0, 0, 3), Axis(7, 6, 1, 0, 1, 0, 5)), 4, 6, groups=2, batch=2, has_bias=True)
QUICK = "split:crop:transpose@NHWC-NCHW"
PACKED = (QUICK, "native@NHWC-NCHW", "native@NHWC")
DILATED = Deconv((Axis(2, 1, 2, 0, 0, 1, 3), Axis(2, 2, 3, 1, 1, 2, 4)), 4, 6, groups=2, batch=2, has_bias=True)


def assert_every_unrecorded_form_is_exact(deconv: Deconv, seed: int) -> None:
    x, weights = integer_tensors(deconv, seed, "float32")
    wanted = reference.deconv(x.astype("float64"), weights, deconv)
    bias = None if weights.bias is None else torch.from_numpy(weights.bias)
    for form in all_forms(deconv):
        found = routine(deconv, form)
        assert (found.pack is None) is (form.layout == "NCHW")
        filters = found.split(torch.from_numpy(weights.kernel), bias)
        if found.pack is not None:
            given, apply = [torch.from_numpy(x)], found.apply_packed
            filters = found.pack(filters, x.shape)
        else:  # PyTorch's own order, in which nothing is packed
            given, apply = (
                [torch.from_numpy(x), torch.from_numpy(x).movedim(1, -1).contiguous().movedim(-1, 1)],
                found.apply,
            )
        with torch.inference_mode():
            for each in given:
                np.testing.assert_array_equal(apply(each, filters).numpy(), wanted, str(form))


@given(deconvs(), st.integers(0, 2**32))
@example(WHOLE_BLOCKS, 0)
@example(PAIRS, 0)
@example(EVEN, 0)
@example(DILATED, 0)  # output pads that PyTorch takes and oneDNN does not
@examples(10, 3_000)
def test_every_unrecorded_form_is_bit_equal_to_the_definition(deconv: Deconv, seed: int) -> None:
    assert_every_unrecorded_form_is_exact(deconv, seed)


def test_the_assembly_takes_the_place_of_what_it_can_do_in_one_copy() -> None:
    forms = {str(form): form for form in all_forms(WHOLE_BLOCKS)}
    merged = routine(WHOLE_BLOCKS, forms[QUICK]).program
    assert assemble.interleave_of(merged) == assemble.Interleave(merged, (4, 1), (4, 1))
    uneven = dataclasses.replace(WHOLE_BLOCKS, axes=(Axis(16, 8, 1, 4, 3, 0, 3), WHOLE_BLOCKS.axes[1]))
    assert assemble.interleave_of(routine(uneven, forms[QUICK]).program) is None
    phases = routine(WHOLE_BLOCKS, forms["split_phases:concat@NHWC-NCHW"]).program
    (join,) = assemble.joins(phases).values()
    assert len(join.values()) == 16
    assert not assemble.joins(merged)


def layer(**options) -> tuple[nn.Module, nn.Module]:
    """PyTorch's module and ours with the same integers, in evaluation mode."""
    native, ours = nn.ConvTranspose2d(6, 4, 4, 2, 1), split.SplitConvTranspose2d(6, 4, 4, 2, 1, **options)
    with torch.no_grad():
        for parameter in native.parameters():
            parameter.copy_(torch.randint(-8, 9, parameter.shape))
    ours.load_state_dict(native.state_dict())
    return native.eval(), ours.eval()


def integers(*sizes: int) -> torch.Tensor:
    return torch.randint(-8, 9, (2, 6, *sizes)).float()


@pytest.mark.parametrize("lowering", PACKED)
def test_inference_packs_and_anything_else_does_not(lowering: str) -> None:
    native, ours = layer(lowering=lowering)
    x = integers(5, 4)
    with torch.no_grad():
        assert torch.equal(ours(x), native(x))
        assert ours._kept.packed_for == (2, 6, 5, 4)
        assert torch.equal(ours(x[0]), native(x[0]))
        assert ours._kept.packed_for == (1, 6, 5, 4)
        assert torch.equal(ours(x.double().float().to(memory_format=torch.channels_last)), native(x))
        with torch.autocast("cpu", torch.bfloat16):
            assert ours(x).dtype == torch.bfloat16
        assert ours._kept.packed_for == ()
    y = ours(x.requires_grad_())
    (found,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(found, torch.autograd.grad(native(x).sum(), x)[0])
    for wider in (x.detach().double(), torch.vmap(lambda each: each)(x.detach())):
        with torch.no_grad():
            assert torch.equal(copy.deepcopy(ours).to(wider.dtype)(wider), native.to(wider.dtype)(wider))


@pytest.mark.parametrize("lowering", PACKED)
def test_packed_filters_follow_the_parameter(lowering: str) -> None:
    native, ours = layer(lowering=lowering)
    x = integers(4, 4)
    with torch.no_grad():
        ours(x)
        for each in (native, ours):
            each.weight.mul_(2)
            each.bias.add_(1)
        assert torch.equal(ours(x), native(x))
        native.load_state_dict(layer()[0].state_dict())
        ours.load_state_dict(native.state_dict())
        assert torch.equal(ours(x), native(x))


@pytest.mark.parametrize("prepare", [nn.Module.eval, split.freeze])
def test_filters_are_packed_anew_for_another_number_of_threads(prepare) -> None:
    ours, x = prepare(layer(lowering=QUICK)[1]), integers(4, 4)
    threads = torch.get_num_threads()
    with torch.no_grad():
        ours(x)
        first = ours._packed or ours._kept
        try:
            torch.set_num_threads(threads + 1)
            ours(x)
            second = ours._packed or ours._kept
            ours(x)
        finally:
            torch.set_num_threads(threads)
    assert (first.threads, second.threads) == (threads, threads + 1)
    assert (ours._packed or ours._kept) is second


@pytest.mark.parametrize("lowering", PACKED)
@pytest.mark.parametrize("prepare", [nn.Module.eval, lambda module: split.freeze(module, (integers(4, 4),))])
def test_packed_filters_are_no_part_of_the_model(prepare, lowering: str) -> None:
    native, ours = layer(lowering=lowering)
    prepare(ours)
    x = integers(4, 4)
    with torch.no_grad():
        wanted = ours(x)
        assert torch.equal(wanted, native(x))
        assert [name for name in ours.state_dict() if not name.startswith("_split_filter")] == list(native.state_dict())
        for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), split.restore(ours)):
            assert torch.equal(twin(x), wanted)
        assert torch.equal(ours.double()(x.double()), wanted.double())
        assert torch.equal(ours.float()(x), wanted)


@pytest.mark.parametrize("lowering", PACKED)
def test_a_frozen_module_compiles_with_the_filters_that_were_packed(lowering: str) -> None:
    native, ours = layer(lowering=lowering)
    split.freeze(ours, (integers(4, 4),))
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(ours, backend=keep, fullgraph=True)
    with torch.no_grad():
        for sizes in ((4, 4), (5, 4)):
            x = integers(*sizes)
            assert torch.equal(compiled(x), native(x))
    (first,) = (node for node in graphs[0].graph.nodes if "conv_transpose" in str(node.target))
    (second,) = (node for node in graphs[1].graph.nodes if "conv_transpose" in str(node.target))
    assert (first.args[-1], second.args[-1]) == (True, False)  # packed for the sizes of the example only
    exported = torch.export.export(ours, (integers(4, 4),))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)


@pytest.mark.parametrize(
    ("module", "sizes"),
    [
        (nn.ConvTranspose1d(6, 8, 16, 8, 4, groups=2), (2100,)),
        (nn.ConvTranspose2d(6, 64, 3, 2, 1, 1), (17, 40)),
        (nn.ConvTranspose3d(6, 32, 2, 2), (6, 7, 8)),
    ],
)
def test_a_large_output_of_the_packed_deconv_is_transposed_in_blocks(module: nn.Module, sizes: tuple[int, ...]) -> None:
    native, x = module.eval(), integers(*sizes)
    with torch.no_grad():
        for parameter in native.parameters():
            parameter.copy_(torch.randint(-8, 9, parameter.shape))
        y = split.convert(native, lowering="native@NHWC-NCHW")(x)
    assert y.numel() * y.element_size() > assemble.LARGE_BYTES
    assert torch.equal(y, native(x))
    assert y.is_contiguous()


def ran(module: nn.Module, x: torch.Tensor) -> set[str]:
    """Names of the operators that a call runs."""
    with torch.no_grad(), torch.autograd.profiler.profile() as profile:
        module(x)
    return {event.name for event in profile.function_events}


def test_without_a_lowering_inference_keeps_the_deconv_where_no_form_was_faster() -> None:
    overlapping, ours = layer()
    assert inference_form(PAIRS, channels_last=False).candidate.lowering == "native"
    apart = Deconv((Axis(2, 2),) * 2, 4, 4)
    rules = [inference_form(apart, channels_last).candidate.lowering for channels_last in (False, True)]
    assert rules == ["split", "native"]
    x = integers(4, 4)
    assert "aten::conv_transpose2d" in ran(ours, x)
    assert "aten::conv_transpose2d" in ran(split.freeze(copy.deepcopy(ours)), x)
    assert "aten::conv_transpose2d" not in ran(layer(lowering="split")[1], x)
    assert "aten::conv_transpose2d" not in ran(copy.deepcopy(ours).double(), x.double())
    assert "aten::conv_transpose2d" in ran(torch.compile(ours, backend="eager"), x)
    for module in (ours, split.freeze(copy.deepcopy(ours))):
        exported = torch.export.export(module, (x,))
        assert not any("conv_transpose" in str(node.target) for node in exported.graph.nodes)
        with torch.no_grad():
            assert torch.equal(exported.module()(x), overlapping(x))


@pytest.mark.parametrize("lowering", PACKED[1:])
def test_the_packed_deconv_is_used_in_inference_alone(lowering: str) -> None:
    _, ours = layer(lowering=lowering)
    x = integers(4, 4)
    names = ran(ours, x)
    assert "mkldnn::_convolution_transpose_pointwise" in names
    assert "aten::conv_transpose2d" not in names
    assert "aten::conv_transpose2d" in ran(copy.deepcopy(ours).double(), x.double())
    exported = torch.export.export(ours, (x,))
    assert not any("mkldnn" in str(node.target) for node in exported.graph.nodes)
    assert torch.equal(torch.vmap(ours)(x.unsqueeze(1)).squeeze(1), ours(x))


def test_without_a_lowering_inference_splits_wide_strides() -> None:
    wide = split.SplitConvTranspose2d(6, 4, 7, 4, 1).eval()
    x = integers(4, 4)
    for module in (wide, split.freeze(copy.deepcopy(wide))):
        names = ran(module, x)
        assert "mkldnn::_convolution_pointwise" in names
        assert "aten::conv_transpose2d" not in names
