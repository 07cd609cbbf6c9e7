"""Which kernels take the original is asked of LiteRT; what follows where others take its rewritten form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

import splitdeconv
from splitdeconv.deconv.network import Compilable
from splitdeconv.errors import CompileError, InputError
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.convert import Conversion
from splitdeconv.targets.litert import LiteRt, LiteRtModel, interpreter
from tests.tflite_models import KINDS, Case, build, loaded, random_input

COMPUTED = Case("int8_per_channel", in_sizes=(6, 7), computed=True)  # as Keras writes it where the batch is open
UNREACHED = Case("int8", kernel=(2, 2), stride=(3, 3))  # SAME, with outputs that no tap reaches
APART = "no delegate takes the original"


def offered(case: Case, kernels: str, numerics: str = "exact") -> int:
    """How many forms beside native the format can write."""
    model = loaded(build(case), numerics).seen_by(LiteRt(kernels))
    (site,) = model.find().sites
    forms = [each for each in candidates(site.deconv, "NHWC")[0] if each != NATIVE]
    return sum(model.refuse(site, lower(site.deconv, "NHWC", each)) is None for each in forms)


@pytest.mark.parametrize("case", [COMPUTED, UNREACHED, UNREACHED.with_(kind="uint8")])
def test_xnnpack_takes_only_the_rewritten_forms(case: Case) -> None:
    assert offered(case, "xnnpack") == offered(case, "builtin") == 0
    assert offered(case, "reference") > 3


def test_only_delegates_quantise_a_hybrid_map_alike_before_and_after() -> None:
    hybrid = COMPUTED.with_(kind="hybrid")
    assert [offered(hybrid, kernels) for kernels in ("xnnpack", "reference")] == [0, 0]
    assert offered(hybrid.with_(computed=False), "xnnpack") > 3


@pytest.mark.parametrize("case", [COMPUTED.with_(computed=False), COMPUTED.with_(kind="int16"), Case(computed=True)])
def test_one_set_of_kernels_takes_both(case: Case) -> None:
    assert offered(case, "xnnpack") > 3


def test_fused_numerics_allow_other_rounding_but_not_another_range_of_the_input() -> None:
    assert offered(COMPUTED, "xnnpack", "fused") > 3
    assert offered(COMPUTED.with_(kind="hybrid"), "xnnpack", "fused") == 0


def converted(case: Case, **options: Any) -> Conversion:
    return splitdeconv.convert(build(case), cache=False, **options)


@pytest.mark.parametrize("case", [COMPUTED, UNREACHED, COMPUTED.with_(kind="hybrid")])
def test_such_a_site_stays_native_and_the_reason_is_said(case: Case) -> None:
    (choice,) = converted(case, target="generic").plan.choices
    assert choice.chosen == NATIVE
    assert APART in choice.reason


def test_the_reference_kernels_keep_its_bits() -> None:
    conversion = converted(COMPUTED, target="litert:reference", lowering="split", budget=2)
    assert conversion.plan.choices[0].chosen.lowering == "split"
    assert conversion.verdict.passed
    assert [check.after for check in conversion.verdict.outputs] == [0.0]


def test_what_vela_compiles_is_proved_in_the_reference_kernels() -> None:
    pytest.importorskip("ethosu.vela")
    conversion = converted(COMPUTED, target="vela", lowering="split_rows", budget=2)
    (proof,) = conversion.verdict.proofs
    assert (proof.exact, proof.where) == (True, "litert:reference")
    assert [check.after for check in conversion.verdict.outputs] == [0.0]


def refuse(monkeypatch: pytest.MonkeyPatch, *, forms: bool) -> None:
    """LiteRT with XNNPACK takes no TRANSPOSE_CONV; nothing at all unless ``forms``."""
    sound = LiteRt.compile

    def broken(self: LiteRt, model: Compilable, *, whole: bool = False) -> LiteRtModel:
        sites = TfliteModel.from_object(model.read())
        if self.kernels == "xnnpack" and not (forms and sites is not None and not sites.find().sites):
            raise CompileError("no such kernel")
        return sound(self, model, whole=whole)

    monkeypatch.setattr(LiteRt, "compile", broken)


def test_forms_of_an_original_that_does_not_run_are_compared_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, forms=True)
    conversion = converted(Case("int16"), target="litert", budget=2)
    (choice,) = conversion.plan.choices
    assert choice.chosen != NATIVE
    assert "the original does not run on litert: no such kernel" in choice.reason
    assert NATIVE not in [option.candidate for option in choice.options]
    assert "both are compared on litert:reference" in " ".join(conversion.verdict.notes)
    assert [check.after for check in conversion.verdict.outputs] == [0.0]


def test_a_target_that_runs_no_form_is_an_input_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refuse(monkeypatch, forms=False)
    out = tmp_path / "out.tflite"
    with pytest.raises(InputError, match=r"runs no form of site '.*', and not the model as it is: no such kernel"):
        splitdeconv.convert(build(Case("int8")), out, target="litert", budget=2, cache=False)
    assert not out.exists()


def test_each_output_has_a_name_of_its_own() -> None:
    model = loaded(build(Case("int8")))
    graph = model.root.subgraphs[0]
    graph.outputs = np.append(graph.outputs, graph.outputs).astype(np.int32)
    content = model.to_object()
    assert list(LiteRtModel(interpreter(content, "xnnpack", 1)).run({"x": random_input(Case("int8"), 0)})) == [
        "y",
        "y#2",
    ]
    conversion = splitdeconv.convert(content, target="generic", cache=False)
    assert [check.name for check in conversion.verdict.outputs] == ["y", "y#2"]


def opened(case: Case) -> TfliteModel:
    """The model with an open batch."""
    model = loaded(build(case))
    for tensor in model.root.subgraphs[0].tensors:
        if tensor.name in (b"x", b"y"):
            tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_offered_can_be_written_and_run(kind: str, batch: int) -> None:
    case = Case(kind, kernel=(2, 2), in_sizes=(3, 2))
    model = loaded(build(case)) if batch == 1 else opened(case)
    (site,) = model.find().sites
    x = random_input(case.with_(batch=batch), 0)
    written = 0
    for candidate in candidates(site.deconv, "NHWC")[0]:
        program = lower(site.deconv, "NHWC", candidate)
        if candidate != NATIVE and model.refuse(site, program) is None:
            y = LiteRtModel(interpreter(model.emit(site, program).read(), "xnnpack", 1)).run({"x": x})["y"]
            assert y.shape == (batch, *case.out_sizes, case.out_channels)
            written += 1
    assert written > 3


def test_litert_says_nothing_on_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    code = "from tests.tflite_models import *; from splitdeconv.targets.litert import *; "
    code += "interpreter(build(Case('int8')), 'xnnpack', 1)"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert capfd.readouterr() == ("", "")


def test_without_a_target_forms_run_in_all_kernels() -> None:
    case = Case("int8", kernel=(2, 2), same=False)
    conversion = converted(case, target="generic")
    (choice,) = conversion.plan.choices
    assert choice.chosen != NATIVE
    assert not [option for option in choice.options if option.candidate.form == "depth_to_space"]
    assert "LiteRT's reference kernels have no DEPTH_TO_SPACE of int8 (version 2)" in {
        refusal.reason for refusal in choice.refusals
    }
    rewritten = conversion.rewritten.to_object()
    assert isinstance(rewritten, bytes)
    for kernels in ("xnnpack", "builtin", "reference"):
        LiteRtModel(interpreter(rewritten, kernels, 1)).run({"x": random_input(case, 0)})


@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize("computed", [False, True])
def test_what_is_timed_as_native_has_the_kernels_of_the_original(kind: str, computed: bool) -> None:
    model = loaded(build(Case(kind, computed=computed)))
    (site,) = model.find().sites
    alone = model.emit(site, lower(site.deconv, "NHWC", NATIVE)).read()
    ready = [LiteRtModel(interpreter(each, "xnnpack", 1)) for each in (model.to_object(), alone)]
    delegated = [bool(each.read_by_delegates) for each in ready]
    assert delegated == [not computed] * 2
