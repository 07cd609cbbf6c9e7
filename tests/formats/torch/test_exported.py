"""Exported programs: every form bit-equal to the definition, files in and out, sizes, and what is left alone."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from hypothesis import HealthCheck, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import splitdeconv  # noqa: E402
from splitdeconv import lowerings  # noqa: E402
from splitdeconv.errors import InputError  # noqa: E402
from splitdeconv.formats.torch import splice, written  # noqa: E402
from splitdeconv.formats.torch.exported import ExportedModel  # noqa: E402
from splitdeconv.lowerings.candidate import Candidate  # noqa: E402
from splitdeconv.pipeline.sites import site_table  # noqa: E402
from splitdeconv.proof.sites import prove_site  # noqa: E402
from splitdeconv.targets import target  # noqa: E402
from tests.examples import examples  # noqa: E402

X = torch.randn(2, 4, 5, 6)
STEP = 6  # of a layer's forms in one example
OPEN = ({0: Dim("n"), 2: Dim("h", max=300), 3: Dim("w")},)


class Decoder(nn.Module):
    """A plain deconv, one with weight norm, and one whose weight is used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.ConvTranspose2d(4, 6, 4, 2, 1)
        self.normed = nn.utils.parametrizations.weight_norm(nn.ConvTranspose2d(6, 4, (3, 5), (2, 1), (1, 2), (1, 0)))
        self.shared = nn.ConvTranspose2d(4, 2, 3, 3, bias=False)

    def forward(self, x):
        return self.shared(self.normed(self.plain(x).relu())), self.shared.weight.sum()


class Branch(nn.Module):
    """A deconv in a branch, and one whose weights are an input."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(4, 4, 2, 2)

    def forward(self, x, weight):
        y = torch.cond(x.sum() > 0, self.up, lambda z: nn.functional.interpolate(z, scale_factor=2.0), (x,))
        return nn.functional.conv_transpose2d(y, weight)


def exported(module: nn.Module, *inputs, **options):
    return torch.export.export(module.eval(), inputs or (X,), **options)


def targets_of(program) -> list[str]:
    return [str(node.target) for node in program.graph.nodes]


@st.composite
def layers(draw) -> tuple[nn.Module, torch.Tensor]:
    """A module and an input: 1 to 3 axes, non-square, unequal strides, dilation, groups, with and without a batch."""
    rank = draw(st.integers(1, 3))

    def each(first: int, last: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(first, last)) for _ in range(rank))

    groups = draw(st.sampled_from([1, 1, 2]))
    kernel, stride, dilation = each(1, 4), each(1, 3), each(1, 2)
    output_pad = tuple(draw(st.integers(0, max(pair) - 1)) for pair in zip(stride, dilation, strict=True))
    kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    pads = tuple(draw(st.integers(0, (size - 1) * gap // 2)) for size, gap in zip(kernel, dilation, strict=True))
    channels = groups * draw(st.integers(1, 3)), groups * draw(st.integers(1, 2))
    module = kind(*channels, kernel, stride, pads, output_pad, groups, draw(st.booleans()), dilation)
    shape = (channels[0], *each(3, 5))
    return module, torch.randn(shape if draw(st.booleans()) else (2, *shape))


@given(layers(), st.integers(0, STEP - 1))
@examples(4, 80, *HealthCheck)
def test_every_form_is_bit_equal_to_the_definition_alone_and_written(layer, first) -> None:
    module, x = layer
    model = ExportedModel(exported(module, x))
    (site,) = model.find().sites
    offered = [option.candidate for option in site_table(model, site, target("torch")).options]
    assert len(offered) > 3
    for number, candidate in enumerate(offered[first::STEP]):
        program = lowerings.lower(site.deconv, "NCHW", candidate)
        assert prove_site(model, site, program, target("torch")).exact, candidate
        if number == 1:
            written = model.splice({site.id: program}).program
            torch.testing.assert_close(written.module()(x), module(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dynamic_shapes", [None, OPEN], ids=["definite", "open"])
def test_a_file_is_converted_proved_and_written(dynamic_shapes, tmp_path: Path) -> None:
    module = Decoder()
    source, out = tmp_path / "model.pt2", tmp_path / "out.pt2"
    torch.export.save(exported(module, dynamic_shapes=dynamic_shapes), source)
    found = splitdeconv.convert(source, out, target="generic")
    assert len(found.record.converted) == 3
    assert all(proof.exact for proof in found.verdict.proofs)
    assert found.verdict.outputs
    program = torch.export.load(out)
    assert not any(name.startswith(("aten.conv_transpose", "aten._weight_norm")) for name in targets_of(program))
    kept = {name for name in program.state_dict if "filter" not in name}
    assert kept == {"shared.weight"}
    assert program.range_constraints.keys() == torch.export.load(source).range_constraints.keys()
    for x in (X,) if dynamic_shapes is None else (X, torch.randn(3, 4, 7, 9)):
        torch.testing.assert_close(program.module()(x), module(x), rtol=1e-4, atol=1e-5)


def test_an_object_is_not_changed_and_its_tensors_are_shared() -> None:
    program = exported(Decoder())
    before = str(program.graph), dict(program.state_dict)
    found = splitdeconv.convert(program, target="generic", only=["plain*"])
    assert (str(program.graph), dict(program.state_dict)) == before
    assert {each.dtype for each in program.state_dict.values()} == {torch.float32}
    rewritten = found.model
    assert isinstance(rewritten, torch.export.ExportedProgram)
    assert rewritten.state_dict["shared.weight"] is program.state_dict["shared.weight"]
    assert "plain.weight" not in rewritten.state_dict
    assert "normed.parametrizations.weight.original0" in rewritten.state_dict


def test_channels_last_stays_so_and_the_output_may_be_the_deconv_itself() -> None:
    x = X.to(memory_format=torch.channels_last)
    program = exported(nn.ConvTranspose2d(4, 6, 4, 2, 1), x)
    rewritten = splitdeconv.convert(program, target="generic").model
    assert rewritten.module()(x).stride() == program.module()(x).stride()
    (output,) = rewritten.graph_signature.user_outputs
    assert output in [node.name for node in rewritten.graph.nodes]


def test_sizes_are_those_of_the_file_or_the_users() -> None:
    model = ExportedModel(exported(Decoder(), dynamic_shapes=OPEN))
    plain, _, shared = model.find().sites
    assert (plain.deconv.batch, plain.deconv.in_sizes, shared.deconv.in_sizes) == (None, (None, None), (None, None))
    assert model.find().other_macs is None
    found = model.find({"x": (1, 4, 8, 3)})
    assert [site.deconv.in_sizes for site in found.sites] == [(8, 3), (16, 6), (32, 6)]
    assert found.other_macs == 0
    with pytest.raises(InputError, match="does not take inputs of x=1×3×8×3"):
        model.find({"x": (1, 3, 8, 3)})


def test_open_sizes_are_not_bound_to_the_kernels_of_a_small_example() -> None:
    """oneDNN takes maps of more than 20,480 elements; the example has fewer, and both of the proof's have more."""
    module = nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ConvTranspose2d(16, 8, 4, 2, 1))
    program = exported(module, X[:1], dynamic_shapes=({2: Dim("h", max=300), 3: Dim("w", max=300)},))
    found = splitdeconv.convert(program, target="generic")
    assert found.verdict.passed
    assert len(found.record.converted) == 1


def test_the_work_of_the_rest_is_counted() -> None:
    module = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ConvTranspose2d(8, 2, 2, 2))
    assert ExportedModel(exported(module)).find().other_macs == 2 * 8 * 4 * 9 * 3 * 4


def test_what_cannot_be_rewritten_is_skipped_with_a_reason() -> None:
    findings = ExportedModel(exported(Branch(), X, torch.randn(4, 2, 3, 3))).find()
    assert [site.deconv.run_time for site in findings.sites] == [("kernel",)]
    assert [each.reason for each in findings.skipped] == ["is computed inside of a branch or a loop"]


def test_weights_that_a_run_changes_are_not_taken_as_constant() -> None:
    class Moving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.randn(4, 2, 3, 3))

        def forward(self, x):
            self.weight.mul_(0.5)
            return nn.functional.conv_transpose2d(x, self.weight)

    model = ExportedModel(exported(Moving()))
    (site,) = model.find().sites
    assert site.deconv.run_time == ("kernel",)
    program = lowerings.lower(site.deconv, "NCHW", Candidate.parse("split:union:two_steps"))
    both = [copy.deepcopy(each.program).module() for each in (model, model.splice({site.id: program}))]
    for _ in range(2):
        before, after = (each(X) for each in both)
        torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)


def test_a_model_that_draws_numbers_is_compared_with_itself() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 4, 4, 2, 1)

        def forward(self, x):
            return self.up(x + torch.randn_like(x))

    found = splitdeconv.convert(exported(Noisy()), target="generic")
    (check,) = found.verdict.outputs
    assert check.passed
    assert check.against.startswith("the original")


def test_a_constant_argument_is_handed_over(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(4, 4, 4, 2, 1)

        def forward(self, maps, factor, *, offset):
            return {"y": self.up(maps["x"]) * factor + offset}

    program = torch.export.export(Scaled().eval(), ({"x": X}, 3.0), {"offset": torch.ones(1)})
    found = splitdeconv.convert(program, target="generic")
    assert found.verdict.outputs[0].passed
    given_inputs = ({"x": X}, 3.0), {"offset": torch.ones(1)}
    torch.testing.assert_close(
        found.model.module()(*given_inputs[0], **given_inputs[1]),
        program.module()(*given_inputs[0], **given_inputs[1]),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_wrong_tap_is_not_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*args, **options):
        found = written.write(*args, **options)
        return written.Written(found.graph, (found.filters[0].flip(-1), *found.filters[1:]))

    monkeypatch.setattr(splice, "write", wrong)
    with pytest.raises(splitdeconv.VerificationError, match="not equal"):
        splitdeconv.convert(exported(nn.ConvTranspose2d(4, 6, 4, 2, 1)), target="generic")


def test_inputs_have_the_names_types_and_open_sizes_of_the_program() -> None:
    (found,) = ExportedModel(exported(Decoder(), dynamic_shapes=OPEN)).inputs()
    assert (found.name, found.dtype, found.shape) == ("x", "float32", (None, 4, None, None))
    with pytest.raises(splitdeconv.UsageError, match="--input y: the model has no such input; it has x"):
        splitdeconv.convert(exported(Decoder()), inputs={"y": np.zeros(1, np.float32)}, target="generic")
