"""The modules: drop-in for PyTorch's own, with filters that are never out of date."""

from __future__ import annotations

import copy
import io

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from splitdeconv.errors import UsageError  # noqa: E402

PAIRS = {
    1: (nn.ConvTranspose1d, split.SplitConvTranspose1d),
    2: (nn.ConvTranspose2d, split.SplitConvTranspose2d),
    3: (nn.ConvTranspose3d, split.SplitConvTranspose3d),
}
LAZY = {
    1: (nn.LazyConvTranspose1d, split.LazySplitConvTranspose1d),
    2: (nn.LazyConvTranspose2d, split.LazySplitConvTranspose2d),
    3: (nn.LazyConvTranspose3d, split.LazySplitConvTranspose3d),
}


def twins(rank=2, **options):
    """PyTorch's module and ours with the same values, in float64."""
    arguments = {"kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1, "dtype": torch.float64, **options}
    native, ours = (each(4, 6, **arguments) for each in PAIRS[rank])
    ours.load_state_dict(native.state_dict())
    return native, ours


def example(rank=2):
    return torch.randn(2, 4, *(3, 5, 4)[:rank], dtype=torch.float64)


def assert_same(ours, native, x) -> None:
    torch.testing.assert_close(ours(x), native(x))


@pytest.mark.parametrize("rank", sorted(PAIRS))
def test_the_constructor_makes_the_same_parameters(rank) -> None:
    found = []
    for kind in PAIRS[rank]:
        torch.manual_seed(3)
        found.append(kind(4, 6, 3, 2, 1, 1, 2, False, 1, "zeros"))
    native, ours = found
    assert isinstance(ours, PAIRS[rank][0])
    assert list(ours.state_dict()) == list(native.state_dict()) == ["weight"]
    assert torch.equal(ours.weight, native.weight)
    native.load_state_dict(ours.state_dict(), strict=True)


def test_other_padding_modes_are_refused_as_in_pytorch() -> None:
    for kind in PAIRS[2]:
        with pytest.raises(ValueError, match='Only "zeros" padding mode is supported'):
            kind(4, 6, 3, padding_mode="reflect")


@pytest.mark.parametrize("rank", sorted(PAIRS))
def test_results_and_gradients(rank) -> None:
    native, ours = twins(rank)
    x = example(rank)
    assert_same(ours, native, x)
    assert_same(ours, native, x[0])
    for module in (native, ours):
        module(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, native.weight.grad)
    torch.testing.assert_close(ours.bias.grad, native.bias.grad)


@pytest.mark.parametrize("rank", sorted(PAIRS))
def test_pytorchs_own_module_inputs(rank) -> None:
    modules = pytest.importorskip("torch.testing._internal.common_modules", reason="torch carries no module samples")
    kinds = [(PAIRS[rank][0], PAIRS[rank][1]), (LAZY[rank][0], LAZY[rank][1])]
    tried = 0
    for native_kind, our_kind in kinds:
        (found,) = [each for each in modules.module_db if each.module_cls is native_kind]
        inputs = found.module_inputs_func(found, device="cpu", dtype=torch.float64, requires_grad=True, training=True)
        for each in inputs:
            arguments, keywords = each.constructor_input.args, each.constructor_input.kwargs
            native, ours = native_kind(*arguments, **keywords), our_kind(*arguments, **keywords)
            x = each.forward_input.args[0]
            wanted = native.double()(x)
            ours.double()(x)
            ours.load_state_dict(native.state_dict())
            torch.testing.assert_close(ours(x), wanted)
            tried += 1
    assert tried >= 4


@pytest.mark.parametrize("rank", sorted(PAIRS))
def test_the_output_size_decides_the_output_pad(rank) -> None:
    native, ours = twins(rank, output_padding=0)
    x = example(rank)
    for more in (0, 1):
        size = [2 * length - 1 + more for length in x.shape[2:]]
        torch.testing.assert_close(ours(x, size), native(x, size))
        torch.testing.assert_close(ours(x, output_size=[2, 6, *size]), native(x, output_size=[2, 6, *size]))
    with pytest.raises(ValueError, match="requested an output size"):
        ours(x, [99] * rank)
    ours.eval()
    with torch.no_grad():
        for more in (0, 1, 0):
            size = [2 * length - 1 + more for length in x.shape[2:]]
            torch.testing.assert_close(ours(x, size), native(x, size))


@pytest.mark.parametrize("rank", sorted(LAZY))
def test_lazy_modules_become_ours(rank) -> None:
    lazy = LAZY[rank][1](6, 3, 2, lowering="split_phases")
    x = torch.randn(1, 4, *(3, 5, 4)[:rank])
    y = lazy(x)
    assert type(lazy) is PAIRS[rank][1]
    assert lazy.lowering == "split_phases"
    native = PAIRS[rank][0](4, 6, 3, 2)
    native.load_state_dict(lazy.state_dict())
    torch.testing.assert_close(y, native(x), rtol=1e-4, atol=1e-5)


def test_a_lowering_by_name_and_one_that_is_refused() -> None:
    native, ours = twins()
    ours.lowering = "split_row_groups@NHWC"
    assert_same(ours, native, example())
    assert "lowering='split_row_groups@NHWC'" in repr(ours)
    with pytest.raises(UsageError, match="groups keep their channels together"):
        split.SplitConvTranspose2d(4, 4, 4, 2, groups=2, lowering="split_rows")


def changed_in_place(module) -> None:
    with torch.no_grad():
        module.weight.mul_(2)


def changed_by_data(module) -> None:
    module.weight.data = module.weight.data * 2


def changed_by_data_twice(module) -> None:
    """The memory of the first values is free again and could be given out once more."""
    module.weight.data = module.weight.data * 1
    module.weight.data = module.weight.data * 2


def changed_by_optimiser(module) -> None:
    module.weight.grad = torch.ones_like(module.weight)
    module.bias.grad = torch.ones_like(module.bias)
    torch.optim.SGD(module.parameters(), 0.1, weight_decay=0.1).step()


def changed_by_loading(module) -> None:
    state = {name: value + 1 for name, value in module.state_dict().items()}
    module.load_state_dict(state)


def changed_by_assignment(module) -> None:
    module.load_state_dict({name: value + 1 for name, value in module.state_dict().items()}, assign=True)


def changed_by_a_new_parameter(module) -> None:
    module.weight = nn.Parameter(module.weight.detach() * 3)


def changed_bias(module) -> None:
    with torch.no_grad():
        module.bias.add_(1)


CHANGES = [
    changed_in_place,
    changed_by_data,
    changed_by_data_twice,
    changed_by_optimiser,
    changed_by_loading,
    changed_by_assignment,
    changed_by_a_new_parameter,
    changed_bias,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_kept_filters_are_made_anew_when_a_parameter_changes(change) -> None:
    native, ours = (module.eval() for module in twins())
    x = example()
    with torch.no_grad():
        ours(x)
        kept = ours._kept
        ours(x)
        assert ours._kept is kept
    for module in (native, ours):
        change(module)
    with torch.no_grad():
        assert_same(ours, native, x)


def test_kept_filters_follow_type_and_memory_format() -> None:
    native, ours = (module.eval() for module in twins())
    x = example()
    with torch.no_grad():
        ours(x)
        for module in (native, ours):
            module.float().to(memory_format=torch.channels_last)
        found, wanted = ours(x.float()), native(x.float())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert found.stride() == wanted.stride()


def test_gradients_reach_the_parameter_in_evaluation_mode() -> None:
    _, ours = twins()
    ours.eval()
    x = example()
    with torch.no_grad():
        ours(x)
    ours(x).sum().backward()
    assert ours.weight.grad.abs().sum() > 0


def test_filters_kept_in_inference_mode_serve_autograd_afterwards() -> None:
    native, ours = (module.eval().requires_grad_(False) for module in twins())
    with torch.inference_mode():
        ours(example())
    x = example().requires_grad_()
    ours(x).square().sum().backward()
    found, x.grad = x.grad, None
    native(x).square().sum().backward()
    torch.testing.assert_close(found, x.grad)


def test_functional_call_uses_the_given_parameters() -> None:
    native, ours = (module.eval() for module in twins())
    x = example()
    with torch.no_grad():
        ours(x)
        given = {name: value * 2 for name, value in ours.named_parameters()}
        found = torch.func.functional_call(ours, given, (x,))
        torch.testing.assert_close(found, torch.func.functional_call(native, given, (x,)))
        assert_same(ours, native, x)


def test_copies_and_saved_modules_hold_no_kept_filters(tmp_path) -> None:
    native, ours = (module.eval() for module in twins())
    x = example()
    with torch.no_grad():
        ours(x)
        copied = copy.deepcopy(ours)
        assert copied._kept is None
        assert_same(copied, native, x)
        torch.save(ours, tmp_path / "module.pt")
        assert_same(torch.load(tmp_path / "module.pt", weights_only=False), native, x)


def test_kept_filters_are_no_part_of_the_state() -> None:
    _, ours = twins()
    ours.eval()
    with torch.no_grad():
        ours(example())
    assert list(ours.state_dict()) == ["weight", "bias"]
    assert not list(ours.buffers())


@pytest.mark.parametrize("normed", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrisations(normed) -> None:
    native, ours = twins()
    torch.manual_seed(1)
    native = normed(native)
    torch.manual_seed(1)
    ours = normed(ours)
    ours.load_state_dict(native.state_dict())
    x = example()
    for module in (native, ours):
        module(x).square().sum().backward()
    for (name, found), (_, wanted) in zip(ours.named_parameters(), native.named_parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, msg=name)
    for module in (native, ours):
        module.eval()
    with torch.no_grad(), parametrize.cached():
        assert_same(ours, native, x)
        assert_same(ours, native, x)
    parametrize.remove_parametrizations(ours, "weight")
    assert type(ours) is split.SplitConvTranspose2d
    assert_same(ours, native, x)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("normed", [weight_norm, spectral_norm])
def test_the_older_norms(normed) -> None:
    native, ours = twins()
    native, ours = normed(native), normed(ours)
    x = example()
    ours(x), native(x)
    ours.load_state_dict(native.state_dict())
    for module in (native, ours):
        module.eval()
    assert_same(ours, native, x)
    split.freeze(ours)
    assert_same(ours, native, x)


def test_frozen_modules_hold_their_filters_in_buffers() -> None:
    native, ours = twins()
    native.eval()
    assert split.freeze(ours) is ours
    x = example()
    assert_same(ours, native, x)
    assert len(list(ours.buffers())) == 2
    assert all(buffer.is_contiguous() for buffer in ours.buffers())
    assert list(ours.state_dict()) == ["weight", "bias", "_split_filter0", "_split_filter1"]  # for exporters
    assert_same(copy.deepcopy(ours), native, x)
    changed = {name: value + 1 for name, value in native.state_dict().items()}
    for module in (native, ours):
        assert str(module.load_state_dict(changed)) == "<All keys matched successfully>"
    _, other = twins()
    assert str(other.load_state_dict(ours.state_dict())) == "<All keys matched successfully>"
    assert_same(other.eval(), native, x)
    assert_same(ours, native, x)
    for size in ([6, 10], [5, 9]):
        torch.testing.assert_close(ours(x, size), native(x, size))
    assert not ours(x).requires_grad


@pytest.mark.parametrize("end", [split.thaw, lambda module: module.train()], ids=["thaw", "train"])
def test_frozen_modules_can_be_trained_again(end) -> None:
    native, ours = twins()
    end(split.freeze(ours))
    assert not list(ours.buffers())
    changed_in_place(ours)
    changed_in_place(native)
    assert_same(ours, native, example())
    assert ours(example()).requires_grad


def test_frozen_modules_follow_moves() -> None:
    native, ours = twins()
    split.freeze(ours).float().to(memory_format=torch.channels_last)
    native.eval().float().to(memory_format=torch.channels_last)
    x = example().float()
    torch.testing.assert_close(ours(x), native(x), rtol=1e-4, atol=1e-5)
    assert all(buffer.dtype == torch.float32 for buffer in ours.buffers())
    assert "NHWC" in ours._frozen.lowering


def test_state_dicts_go_through_files_both_ways() -> None:
    native, ours = twins()
    file = io.BytesIO()
    torch.save(split.thaw(split.freeze(ours)).state_dict(), file)
    file.seek(0)
    assert str(native.load_state_dict(torch.load(file))) == "<All keys matched successfully>"
