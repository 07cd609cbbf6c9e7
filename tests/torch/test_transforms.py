"""What PyTorch does with functions and modules: compile, export, map, cast, trace."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

import torch.nn.functional as F  # noqa: E402, N812
from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from splitdeconv.lowerings import LOWERINGS  # noqa: E402
from splitdeconv.torch_modules.functions import Geometry, deconv_of  # noqa: E402
from tests.torch.forms import all_forms  # noqa: E402

GEOMETRY = Geometry((2, 3), (1, 2), (1, 0), 1, (1, 1))
WEIGHT = (4, 6, 4, 5)
FORMS = [str(form) for form in all_forms(deconv_of(torch.empty(WEIGHT), False, GEOMETRY))]
ONE_OF_EACH = ("native", "zero_insert", "split@NHWC", "split_phases", "split_rows", "split_row_groups@NHWC", "col2im")
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def parameters():
    return torch.randn(WEIGHT), torch.randn(6)


def example(batch=2, height=5, width=4):
    return torch.randn(batch, 4, height, width)


def ours(x, weight, bias=None, lowering=None):
    return split.split_conv_transpose2d(x, weight, bias, *GEOMETRY, lowering=lowering)


def native(x, weight, bias=None):
    return F.conv_transpose2d(x, weight, bias, *GEOMETRY)


def operators(program) -> set[str]:
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_maps_over_inputs_and_weights(form) -> None:
    weight, bias = parameters()
    inputs, weights = torch.stack([example(), example()]), torch.stack([weight, weight * 2])
    for axes in ((0, None), (None, 0), (0, 0)):
        arguments = (inputs if axes[0] == 0 else inputs[0], weights if axes[1] == 0 else weight)
        found = torch.vmap(lambda x, w: ours(x, w, bias, form), axes)(*arguments)
        torch.testing.assert_close(found, torch.vmap(lambda x, w: native(x, w, bias), axes)(*arguments), **CLOSE)


def test_gradients_per_sample() -> None:
    weight, _ = parameters()
    inputs = torch.stack([example(), example()])
    found, wanted = (
        torch.vmap(torch.func.grad(lambda w, x, each=each: each(x, w).square().sum()), (None, 0))(weight, inputs)
        for each in (ours, native)
    )
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_mapping_a_module_in_evaluation_mode() -> None:
    module = split.SplitConvTranspose2d(4, 6, 4, 2, 1).eval()
    inputs = torch.stack([example(), example()])
    with torch.no_grad():
        torch.testing.assert_close(torch.vmap(module)(inputs), torch.stack([module(x) for x in inputs]), **CLOSE)


@pytest.mark.parametrize("form", ONE_OF_EACH)
def test_every_lowering_compiles_without_a_graph_break(form) -> None:
    assert {each.partition("@")[0] for each in ONE_OF_EACH} == {
        name for name, each in LOWERINGS.items() if not each.only_written_out
    } - {"separable"}
    weight, bias = (tensor.requires_grad_() for tensor in parameters())
    x = example()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True)
    y, wanted = compiled(x, weight, bias, form), native(x, weight, bias)
    torch.testing.assert_close(y, wanted, **CLOSE)
    found = torch.autograd.grad(y.square().sum(), (weight, bias))
    torch.testing.assert_close(found, torch.autograd.grad(wanted.square().sum(), (weight, bias)), rtol=1e-4, atol=1e-3)


def test_compiled_code_serves_all_sizes() -> None:
    weight, bias = parameters()
    compiled = torch.compile(ours, backend="aot_eager", fullgraph=True, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for sizes in ((2, 7, 9), (3, 8, 11), (2, 9, 3)):  # unlike those of the weight, which are fixed
            x = example(*sizes)
            torch.testing.assert_close(compiled(x, weight, bias), native(x, weight, bias), **CLOSE)


@pytest.mark.parametrize("prepare", [nn.Module.train, nn.Module.eval, split.freeze], ids=["train", "eval", "frozen"])
def test_modules_compile_without_a_graph_break(prepare) -> None:
    module = split.SplitConvTranspose2d(4, 6, 5, 2, 2, 1)
    reference = nn.ConvTranspose2d(4, 6, 5, 2, 2, 1)
    reference.load_state_dict(module.state_dict())
    prepare(module)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    x = example()
    torch.testing.assert_close(compiled(x), reference(x), **CLOSE)
    torch.testing.assert_close(compiled(x, [10, 8]), reference(x, [10, 8]), **CLOSE)


def test_compiled_modules_see_changed_parameters() -> None:
    module = split.SplitConvTranspose2d(4, 2, 4, 2, 1).eval()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    x = example()
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(compiled(x), F.conv_transpose2d(x, module.weight, module.bias, 2, 1), **CLOSE)
            module.weight.mul_(2)


@pytest.mark.parametrize("strict", [False, True], ids=["non-strict", "strict"])
@pytest.mark.parametrize("frozen", [False, True], ids=["live", "frozen"])
def test_exported_graphs_hold_no_deconv_and_serve_all_sizes(strict, frozen) -> None:
    module = split.SplitConvTranspose2d(4, 6, 5, 2, 2, 1).eval()
    if frozen:
        split.freeze(module)
    sizes = ({0: Dim("n"), 2: Dim("h"), 3: Dim("w")},)
    program = torch.export.export(module, (example(),), dynamic_shapes=sizes, strict=strict)
    assert not any("movedim" in name for name in operators(program))  # which not every exporter knows
    program = program.run_decompositions()
    names = operators(program)
    assert not any("transpose" in name for name in names)
    assert all(node.args[6] is False for node in program.graph.nodes if str(node.target) == "aten.convolution.default")
    assert ("aten.cat.default" in names) is not frozen
    x = example(1, 3, 9)
    torch.testing.assert_close(program.module()(x), module(x))


def test_exported_graphs_need_nothing_of_this_package() -> None:
    program = torch.export.export(split.SplitConvTranspose2d(4, 6, 4, 2, 1).eval(), (example(),))
    assert not any("splitdeconv" in name for name in operators(program))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_the_types_of_pytorch(dtype) -> None:
    module = split.SplitConvTranspose2d(4, 6, 4, 2, 1)
    reference = nn.ConvTranspose2d(4, 6, 4, 2, 1)
    reference.load_state_dict(module.state_dict())
    x = example()
    for lowering in (None, "col2im", "split_rows@NHWC"):
        module.lowering = lowering
        with torch.autocast("cpu", dtype):
            found, wanted = module(x), reference(x)
        assert found.dtype == wanted.dtype == dtype
        torch.testing.assert_close(found, wanted, rtol=4e-2, atol=4 * torch.finfo(dtype).eps)
        found.sum().backward()
        assert module.weight.grad.dtype == torch.float32


@pytest.mark.parametrize(("rank", "memory_format"), [(2, torch.channels_last), (3, torch.channels_last_3d)])
def test_the_memory_format_goes_through(rank, memory_format) -> None:
    x = torch.randn(2, 4, *(3, 5, 4)[:rank]).to(memory_format=memory_format)
    weight = torch.randn(4, 3, *(3,) * rank)
    call, wanted_call = getattr(split, f"split_conv_transpose{rank}d"), getattr(F, f"conv_transpose{rank}d")
    for each in (weight, weight.to(memory_format=memory_format)):
        for given in (x, x.contiguous()):
            found, wanted = call(given, each, stride=2), wanted_call(given, each, stride=2)
            torch.testing.assert_close(found, wanted, **CLOSE)
            assert found.stride() == wanted.stride()


def test_an_output_can_be_viewed_as_pytorchs_own() -> None:
    x, (weight, bias) = example(), parameters()
    for form in FORMS:
        assert ours(x, weight, bias, form).is_contiguous()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_traced_modules() -> None:
    module = split.SplitConvTranspose2d(4, 6, 4, 2, 1).eval()
    traced = torch.jit.trace(module, (example(),))
    x = example(1, 7, 3)
    torch.testing.assert_close(traced(x), module(x))
    assert "conv_transpose" not in str(traced.inlined_graph).replace("SplitConvTranspose", "")


def test_meta_tensors_have_shapes() -> None:
    with torch.device("meta"):
        module, reference = split.SplitConvTranspose2d(4, 6, 5, 2, 2, 1), nn.ConvTranspose2d(4, 6, 5, 2, 2, 1)
        x = example()
    assert module(x).shape == reference(x).shape
    assert module.eval()(x).shape == reference(x).shape
