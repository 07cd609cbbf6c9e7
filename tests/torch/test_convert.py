"""Conversion of whole models, and the way back."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch import nn  # noqa: E402

import splitdeconv  # noqa: E402
import splitdeconv.torch as split  # noqa: E402
from splitdeconv.errors import UsageError, VerificationError  # noqa: E402
from splitdeconv.report.conversion import NOT_TIMED  # noqa: E402
from tests.torch.networks import Everything, Functional, Plain, generator  # noqa: E402

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
X = torch.randn(2, 4, 5, 6)
OWN = "Doubling overrides forward, which may do anything: its own code stays"


def everything() -> Everything:
    module = Everything()
    module(X)
    return module.eval()


def test_the_model_is_copied_and_computes_the_same() -> None:
    module = everything()
    before = copy.deepcopy(module.state_dict())
    converted = split.convert(module, (X,), "generic")
    torch.testing.assert_close(converted(X), module(X), **CLOSE)
    assert type(module.shared) is nn.ConvTranspose2d
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert list(converted.state_dict()) == list(before)


def test_the_record_names_what_was_converted_and_what_was_not() -> None:
    record = split.record(split.convert(everything()))
    assert record.converted == ("shared", "normed", "spectral", "lazy")
    assert [(each.site, each.reason) for each in record.skipped] == [("own", OWN)]
    with pytest.raises(UsageError, match=r"not a module that splitdeconv\.torch\.convert returned"):
        split.record(everything())


def test_shared_parametrised_and_hooked_modules_stay_what_they_are() -> None:
    module = everything()
    seen = []
    module.shared.register_forward_hook(lambda *_: seen.append(1))
    converted = split.convert(module)
    assert converted.shared is converted.again
    assert isinstance(converted.normed, split.SplitConvTranspose2d)
    assert torch.nn.utils.parametrize.is_parametrized(converted.normed, "weight")
    converted(X)
    assert len(seen) == 2
    converted.train()
    converted(X).sum().backward()
    assert converted.normed.parametrizations.weight.original0.grad is not None


def test_lazy_modules_are_converted_before_they_see_an_input() -> None:
    converted = split.convert(Everything())
    assert type(converted.lazy) is split.LazySplitConvTranspose2d
    converted(X)
    assert type(converted.lazy) is split.SplitConvTranspose2d


def test_wrapped_and_nested_modules_are_found() -> None:
    module = nn.ModuleList([nn.DataParallel(generator()), nn.ConvTranspose1d(2, 2, 3)])
    found = split.record(split.convert(module)).converted
    assert found == ("0.module.0", "0.module.3", "0.module.5", "1")


def test_a_single_module_is_a_model() -> None:
    converted = split.convert(nn.ConvTranspose3d(2, 2, 2))
    assert type(converted) is split.SplitConvTranspose3d
    assert split.record(converted).converted == ("",)


def test_subclasses_of_their_own_are_left_alone() -> None:
    (skipped,) = split.record(split.convert(Plain(2, 2, 3))).skipped
    assert skipped.reason == "Plain is a subclass of ConvTranspose2d of its own: its class cannot be exchanged"


def test_a_lowering_by_name_goes_where_it_applies() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.ConvTranspose2d(4, 4, 4, 2, 1, groups=2))
    converted = split.convert(module, lowering="split_rows")
    record = split.record(converted)
    assert record.converted == ("0",)
    assert converted[0].lowering == "split_rows"
    assert "groups keep their channels together" in record.skipped[0].reason
    with pytest.raises(UsageError, match="no lowering is called 'fft'"):
        split.convert(module, lowering="fft")


def test_restore_gives_the_original_with_the_present_values() -> None:
    module = everything()
    converted = split.convert(module)
    with torch.no_grad():
        converted.lazy.weight.mul_(2)
    restored = split.restore(split.freeze(converted))
    assert [type(each).__name__ for each in restored.modules()] == [type(each).__name__ for each in module.modules()]
    assert not any("split" in str(type(each)).lower() for each in restored.modules())
    assert list(restored.state_dict()) == list(module.state_dict())
    torch.testing.assert_close(restored(X), converted(X), **CLOSE)
    with pytest.raises(UsageError):
        split.record(restored)


def test_functional_calls_are_converted_in_the_exported_graph() -> None:
    module = Functional().eval()
    converted = split.convert(module, (X,), "generic")
    record = split.record(converted)
    assert len(record.converted) == 3
    assert [(each.site, each.reason) for each in record.skipped] == [("own", OWN)]
    left = [node.target for node in converted.graph.nodes if "conv_transpose" in str(node.target)]
    assert sum(str(target) == "aten.conv_transpose2d.input" for target in left) == 1
    torch.testing.assert_close(converted(X), module(X), **CLOSE)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(converted(X), module(X), **CLOSE)
            for each in (converted, module):
                each.get_parameter("weight").mul_(1.5)


def test_frozen_graphs_hold_the_filters_of_their_calls() -> None:
    module = Functional().eval()
    converted = split.convert(module, (X,), "generic")
    assert split.freeze(converted) is converted
    filters = [name for name, _ in converted.named_buffers()]
    assert len(filters) == 4  # three calls, the last without a bias, and one parameter that is sliced in the graph
    torch.testing.assert_close(converted(X), module(X), **CLOSE)
    state = {name: value * 2 for name, value in module.state_dict().items()}
    for each in (converted, module):
        each.load_state_dict(state)
    torch.testing.assert_close(converted(X), module(X), **CLOSE)
    assert not list(converted.named_buffers())


def test_functional_calls_with_dynamic_sizes_train_and_come_back() -> None:
    module = Functional()
    sizes = ({0: torch.export.Dim("n"), 2: torch.export.Dim("h"), 3: torch.export.Dim("w")},)
    converted = split.convert(module, (X,), "generic", dynamic_shapes=sizes)
    x = torch.randn(1, 4, 3, 7)
    for each in (converted, module):
        each(x).square().mean().backward()
    torch.testing.assert_close(converted.get_parameter("weight").grad, module.weight.grad, **CLOSE)
    with torch.no_grad():
        converted.get_parameter("weight").mul_(2)
        restored = split.restore(converted)
        assert type(restored) is Functional
        torch.testing.assert_close(restored(x), converted(x), **CLOSE)


def test_a_model_that_cannot_be_exported_keeps_its_functional_calls() -> None:
    class Untraceable(Functional):
        def forward(self, x):
            return super().forward(x) if x.sum().item() > -1e9 else x

    module = Untraceable().eval()
    converted = split.convert(module, (X,), "generic")
    assert type(converted.module) is split.SplitConvTranspose2d
    reason = split.record(converted).skipped[-1].reason
    assert reason.startswith("calls conv_transpose itself, and the module cannot be exported: ")
    torch.testing.assert_close(converted(X), module(X), **CLOSE)


def test_traced_graphs_are_converted() -> None:
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.ConvTranspose2d(4, 2, 2, 2)))
    converted = split.convert(traced)
    assert split.record(converted).converted == ("0",)
    torch.testing.assert_close(converted(X), traced(X), **CLOSE)


def test_measuring_wants_inputs_and_no_lowering() -> None:
    module = generator()
    with pytest.raises(UsageError, match=r"convert: module is .* \(str\); wanted a Module of torch"):
        split.convert("model.onnx")
    with pytest.raises(UsageError, match="wants example_inputs"):
        split.convert(module, target="torch")
    with pytest.raises(UsageError, match="wants no lowering beside a target"):
        split.convert(module, (torch.randn(1, 6, 1, 1),), "torch", lowering="split")


def test_the_measured_choice_keeps_its_table() -> None:
    module = nn.Sequential(*(nn.ConvTranspose2d(4, 4, 4, 2, 1) for _ in range(2)), Plain(4, 4, 3)).eval()
    module[1].load_state_dict(module[0].state_dict())
    converted = split.convert(module, (X,), "torch:cpu", seconds=1.0)
    record = split.record(converted)
    choices = record.plan.choices
    assert [choice.site for choice in choices] == ["0", "1"]
    assert record.environments[0].target == "torch:cpu:eager:contiguous:float32"
    for number, choice in enumerate(choices):
        names = {str(option.candidate) for option in choice.options}
        assert {"native", "split:crop:depth_to_space", "split:crop:depth_to_space@NHWC-NCHW"} <= names
        assert all(option.time is None or option.time.rounds >= 3 for option in choice.options)
        assert choice.options[0].time is not None
        left_alone = str(choice.chosen) == "native"
        assert isinstance(converted[number], split.SplitConvTranspose2d) is not left_alone
    torch.testing.assert_close(converted(X), module(X), **CLOSE)


def test_with_inputs_the_default_is_measured_where_the_module_is() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(4, 4, 4, 2, 1)).eval()
    record = split.record(split.convert(module, X, seconds=0.2))
    assert record.plan.target == "torch:cpu:float32"
    assert record.target_reason == "the module's device and type; target= names another"
    assert record.plan.choices[0].options[0].time is not None
    half = split.record(split.convert(module.to(torch.bfloat16), X.to(torch.bfloat16), seconds=0.2))
    assert half.plan.target == "torch:cpu:bfloat16"


def test_modules_that_no_target_runs_as_they_are_go_by_rule() -> None:
    record = split.record(split.convert(nn.ConvTranspose2d(4, 4, 4, 2, 1).double(), X.double()))
    assert record.plan.target == "generic"
    assert record.target_reason.startswith("nothing is measured, because the module is in torch.float64 on cpu; ")
    assert record.converted == ("",)


def test_an_example_may_be_a_tensor() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(4, 4, 4, 2, 1)).eval()
    record = split.record(split.convert(module, X, "generic"))
    assert [check.name for check in record.verdict.outputs] == ["output0"]
    frozen = split.freeze(split.convert(module), X)
    torch.testing.assert_close(frozen(X), module(X), **CLOSE)
    streamed = split.streaming(nn.Conv1d(2, 2, 3), torch.randn(1, 2, 9))
    assert streamed.streaming.past == 2


def test_a_layer_that_was_not_called_is_not_measured() -> None:
    module = everything()
    module.spare = nn.ConvTranspose2d(2, 2, 2)
    skipped = {
        each.site: each.reason for each in split.record(split.convert(module, (X,), "torch", seconds=0.01)).skipped
    }
    assert skipped["spare"].startswith("no call of it was seen")


def test_every_conversion_is_proved_and_says_where_nothing_was_timed() -> None:
    module = generator().eval()
    x = torch.randn(1, 6, 2, 2)
    converted = split.convert(module, (x,), "generic")
    record = split.record(converted)
    assert record is converted.splitdeconv
    assert record.verdict.passed
    assert [proof.exact for proof in record.verdict.proofs] == [True] * 3
    assert [check.against for check in record.verdict.outputs] == ["float64"]
    assert str(record).endswith(f"\n{NOT_TIMED}")
    assert split.record(copy.deepcopy(converted)) == record
    alone = split.record(split.convert(module))
    assert str(alone).startswith("target: generic (nothing is measured, because there are no example inputs)\n")
    assert str(alone).endswith(f"\n{NOT_TIMED}")
    assert not alone.verdict.outputs
    assert "without example inputs" in alone.verdict.notes[-1]
    assert split.record(split.convert(module, verify=False)).verdict.skipped == "switched off by the user"


def test_a_wrong_module_is_not_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = split.SplitConvTranspose2d.forward
    monkeypatch.setattr(split.SplitConvTranspose2d, "forward", lambda self, *args: forward(self, *args) + 1)
    with pytest.raises(VerificationError, match="not equal"):
        split.convert(generator())


def test_a_lazy_module_is_proved_for_few_channels() -> None:
    record = split.record(split.convert(nn.LazyConvTranspose2d(6, 4, 2, groups=2)))
    assert [proof.exact for proof in record.verdict.proofs] == [True]
    assert record.notes[0].endswith("not known before it sees an input; it was proved for 2 of them")


def test_nested_inputs_and_outputs_are_compared() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 2, 4, 2, 1)

        def forward(self, maps, scale, flip=False):
            y = self.up(maps["x"]) * scale
            return {"y": y.flip(-1) if flip else y, "size": y.shape[-1]}

    record = split.record(split.convert(Nested(), ({"x": X}, 2.0, True), "generic"))
    assert [check.name for check in record.verdict.outputs] == ["output0"]


def test_every_form_is_timed_beside_the_convolution_of_equal_work() -> None:
    record = split.bench(nn.ConvTranspose1d(4, 4, 4, 2, 1), (torch.randn(1, 4, 6),), seconds=0.5, forms=4)
    (layer,) = record.layers
    names = {str(option.candidate) for option in layer.options}
    assert {"native", "zero_insert"} <= names
    assert layer.equal_work is not None
    assert {"native", "zero_insert", "split", "converted", "bound"} == set(record.model.times)


def compiled(how):
    module = nn.Sequential(nn.ConvTranspose2d(4, 3, 4, 2, 1)).eval()
    return torch.jit.script(module) if how == "script" else torch.jit.trace(module, torch.randn(1, 4, 8, 8))


class FunctionalDeconv(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.conv_transpose2d(x, torch.ones(4, 3, 2, 2))


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("inputs", [None, (torch.ones(1, 4, 8, 8),)], ids=["alone", "with inputs"])
def test_compiled_modules_are_listed_as_skipped(how, inputs) -> None:
    (skipped,) = split.record(split.convert(compiled(how), inputs, "generic")).skipped
    assert (skipped.site, skipped.reason) == (
        "0",
        "is compiled by torch.jit: convert the module before it is scripted or traced",
    )


def test_compiled_functional_calls_are_listed_as_skipped() -> None:
    (skipped,) = split.record(split.convert(nn.Sequential(torch.jit.script(FunctionalDeconv())))).skipped
    assert skipped.reason.startswith("is compiled by torch.jit")


def test_deconvs_quantised_in_eager_mode_are_listed_as_skipped() -> None:
    module = nn.Sequential(torch.ao.nn.quantized.ConvTranspose2d(4, 3, 4))
    (skipped,) = split.record(split.convert(module)).skipped
    assert skipped.reason == (
        "is quantised in eager mode, which keeps its weight packed: quantise the graph (PT2E) instead"
    )


def test_batch_normalization_is_not_folded_and_the_exported_program_is_named() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(3, 4, 4, 2), nn.BatchNorm2d(4)).eval()
    converted = split.convert(module)
    assert type(converted[1]) is nn.BatchNorm2d
    (note,) = (each for each in split.record(converted).notes if "arithmetic" in each)
    assert note.startswith("arithmetic around deconvs stays, batch_norm of '0': ")
    assert "fold=True" in note
    x = torch.randn(1, 3, 5, 4)
    folded = splitdeconv.convert(torch.export.export(module, (x,)), target="generic", lowering="split", fold=True)
    assert folded.record.folded
    torch.testing.assert_close(folded.model.module()(x), module(x), rtol=0, atol=1e-5)
