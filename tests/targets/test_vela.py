"""Vela's estimates, and its own words for what stays on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("ethosu.vela")
pytest.importorskip("ai_edge_litert")

import splitdeconv
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.errors import UsageError
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.times import Untimed, timed
from splitdeconv.targets import CompileError, target
from splitdeconv.targets.vela import ACCELERATORS, Estimate, Vela, configurations
from tests.tflite_models import Case, build, loaded

CASE = Case(kind="int8_per_channel", in_sizes=(8, 8), kernel=(3, 3), in_channels=16, out_channels=16)
NATIVE, ROWS = Candidate("native"), Candidate("split_rows")


@pytest.fixture(scope="module")
def u55() -> Vela:
    found = target("vela:ethos-u55-128")
    assert isinstance(found, Vela)
    return found


def site_model(case: Case, candidate: Candidate) -> Compilable:
    model = loaded(build(case))
    (site,) = model.find().sites
    return model.emit(site, lower(site.deconv, "NHWC", candidate))


def estimate(u55: Vela, candidate: Candidate) -> Estimate:
    return u55.estimate(site_model(CASE, candidate).read())


def test_native_computes_the_inserted_zeros_and_the_rows_do_not(u55: Vela) -> None:
    native, rows = estimate(u55, NATIVE), estimate(u55, ROWS)
    useful = 16 * 16 * 8 * 8 * 9
    assert native.macs == 4 * useful
    assert rows.macs == pytest.approx(useful * 4 / 3)
    assert 0 < rows.cycles < native.cycles
    assert rows.cpu_operators == 0


def test_an_operator_behind_may_choose_the_layout(u55: Vela) -> None:
    forms = u55.variants(ROWS)
    assert [str(each) for each in forms] == ["split_rows", "split_rows:relayout"]
    with_pool = estimate(u55, forms[1])
    assert with_pool.operators[-1].operator == "MaxPool"


def test_a_stride_that_the_npu_lacks_is_refused_in_velas_words(u55: Vela, tmp_path: Path) -> None:
    case = CASE.with_(stride=(3, 3))
    content = site_model(case, NATIVE)
    with pytest.raises(CompileError, match=r"TRANSPOSE_CONV stays on the CPU: stride out of range: \(3,3\)"):
        u55.compile(content)
    whole = tmp_path / "whole.tflite"
    whole.write_bytes(content.read())
    native, rows = u55.compile(Compilable(whole), whole=True), u55.compile(site_model(case, ROWS))
    assert native.estimate.cpu_operators == 1
    found = u55.measure({NATIVE: native, ROWS: rows}, {}, 1.0)
    assert list(timed(found)) == [ROWS]
    assert found[NATIVE] == Untimed("1 of its operators stay on the CPU and are not counted, not 0")


def test_estimates_are_called_estimates(u55: Vela) -> None:
    found = timed(u55.measure({ROWS: u55.compile(site_model(CASE, ROWS))}, {}, 1.0))[ROWS]
    assert found.kind == "estimated"
    assert found.low_ms == found.median_ms == found.high_ms


def test_a_model_that_is_none_is_a_reason(u55: Vela) -> None:
    with pytest.raises(CompileError, match="Vela"):
        u55.estimate(b"no model at all")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("ethos-n78", "has no accelerator 'ethos-n78'; there are ethos-u55-32"),
        ("ethos-u55-128,memory-mode=Huge", "has no memory-mode 'Huge'; there are Sram_Only"),
        ("ethos-u55-128,clock=1", "has no setting 'clock'; there are system-config, memory-mode"),
    ],
)
def test_unknown_configurations_are_named(option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        target(f"vela:{option}")


def test_the_accelerators_are_those_of_the_installed_vela() -> None:
    features = pytest.importorskip("ethosu.vela.architecture_features")
    assert set(features.Accelerator.member_list()) == set(ACCELERATORS)
    system_configs, memory_modes = configurations()
    assert "Ethos_U55_High_End_Embedded" in system_configs
    assert "Shared_Sram" in memory_modes


def test_a_float_model_is_not_for_an_npu(u55: Vela) -> None:
    deconv = Deconv((Axis(4, 2), Axis(4, 2)), 4, 4)
    assert "quantise the model first" in (u55.refuse(lower(deconv, "NHWC", ROWS)) or "")
    quantised = Deconv((Axis(4, 2), Axis(4, 2)), 4, 4, dtype="int8", quant=Quant("int8", "int8", True))
    assert u55.refuse(lower(quantised, "NHWC", ROWS)) is None
    assert (
        u55.refuse(lower(quantised, "NHWC", Candidate("split", "union", "depth_to_space")))
        == "Vela has no DEPTH_TO_SPACE"
    )


def test_an_original_that_stays_on_the_cpu_is_no_holder_of_times() -> None:
    """Its figure leaves out the deconv, so it says nothing; the move to the NPU is the gain."""
    content = build(CASE.with_(stride=(3, 3)))
    conversion = splitdeconv.convert(content, target="vela:ethos-u55-128", cache=False)
    (choice,) = conversion.plan.choices
    assert choice.chosen != NATIVE
    assert "the original does not run on vela:ethos-u55-128" in choice.reason
    assert "it leaves 1 more operator to another processor" in " ".join(conversion.record.notes)
    assert conversion.verdict.passed


def test_a_bench_of_such_a_model_leaves_its_time_out(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(build(CASE.with_(stride=(3, 3))))
    record = splitdeconv.bench(path, target="vela:ethos-u55-128")
    assert record.model is not None
    assert "converted" in record.model.times
    assert "native" not in record.model.times
    assert "the whole model has no comparable time as native" in " ".join(record.notes)
