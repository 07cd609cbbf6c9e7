"""Sizes that cannot be inferred come from one run of the model, where something may run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import splitdeconv
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.errors import UsageError
from splitdeconv.formats.open_sizes import sizes_together
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.pipeline.bench import bench_model
from splitdeconv.pipeline.inspect import inspect
from splitdeconv.pipeline.request import BenchRequest
from splitdeconv.pipeline.sizes import find_sized
from splitdeconv.proof.whole import Given
from splitdeconv.results.plan import Cost, Option, SiteTable, table_over_sizes
from splitdeconv.results.times import Measurement
from splitdeconv.targets.target import CompileError
from tests.onnx_models import build, load, single
from tests.strategies import integer_tensors

pytest.importorskip("onnxruntime")

DECONV = Deconv((Axis(3, 2, in_size=4),), 2, 2)


def indexed() -> onnx.ModelProto:
    """A deconv behind an indexing by Range, which inference does not follow."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["width"]),
        helper.make_node("Range", ["zero", "width", "one"], ["indices"]),
        helper.make_node("Gather", ["x", "indices"], ["a"], axis=3),
        helper.make_node("ConvTranspose", ["a", "w"], ["y"], name="up", strides=[2, 2]),
    ]
    known = {"last": np.array(3), "zero": np.array(0), "one": np.array(1), "w": np.ones((2, 2, 3, 3), np.float32)}
    return build(nodes, {"x": (1, 2, 5, 7)}, {"y": None}, known)


def test_sizes_of_inner_maps_come_from_a_run() -> None:
    (plain,) = load(indexed()).find().sites
    assert plain.deconv.in_sizes == (5, None)
    found = inspect(indexed(), {}, ())
    assert [site.deconv.in_sizes for site in found.findings.sites] == [(5, 7)]
    assert found.findings.other_macs == 0


class Refusing:
    """A target that runs nothing."""

    def compile(self, *_: object, **__: object) -> None:
        raise CompileError("no")

    def compile_plain(self, *_: object) -> None:
        raise CompileError("no")


@pytest.mark.parametrize("runner", [None, Refusing()])
def test_without_a_run_they_stay_unknown(runner: object) -> None:
    found = find_sized(load(indexed()), {}, {}, runner)  # type: ignore[arg-type]
    assert [site.deconv.in_sizes for site in found.sites] == [(5, None)]


def test_bench_does_not_time_a_site_of_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitdeconv.pipeline.bench.find_sized", lambda model, shapes, *_: model.find(shapes))
    found = bench_model(indexed(), BenchRequest(target="onnxruntime", budget=0.2))
    assert found.layers == ()
    assert any("'up' is not timed" in note for note in found.notes)


@pytest.mark.parametrize("target", ["generic", "onnxruntime"])
def test_a_site_that_the_given_sizes_rule_out_keeps_its_open_ones(target: str) -> None:
    deconv = Deconv((Axis(4, 2, pad_begin=3, pad_end=3, in_size=8),), 2, 2)
    _, weights = integer_tensors(deconv, 3, "float32")
    model = single(deconv, weights, in_dims=(1, 2, "n"))
    assert "output size is -2" in str(inspect(model, {"x": (1, 2, 1)}, ()))
    (choice,) = splitdeconv.convert(model, target=target, in_shapes={"x": (1, 2, 1)}).record.plan.choices
    assert choice.deconv.in_sizes == (None,)


def shapes_of(given: dict[str, Any]) -> tuple[dict[str, tuple[int, ...]], ...]:
    weights = np.ones((2, 2, 3, 3), np.float32)
    nodes = [helper.make_node("Sum", ["x", "z"], ["s"]), helper.make_node("ConvTranspose", ["s", "w"], ["y"])]
    return sizes_together(
        load(build(nodes, {"x": (1, 2, "h", 7), "z": (1, 2, "h", 7)}, {"y": None}, {"w": weights})), given
    )


def test_shapes_of_several_inputs_go_together() -> None:
    small, large = (1, 2, 4, 7), (1, 2, 8, 7)
    assert shapes_of({}) == ({},)
    assert shapes_of({"x": [small]}) == shapes_of({"x": small}) == ({"x": small},)
    assert shapes_of({"x": [small, large], "z": [small, large]}) == ({"x": small, "z": small}, {"x": large, "z": large})
    assert shapes_of({"x": [small, large], "z": small}) == ({"x": small, "z": small}, {"x": large, "z": small})
    assert shapes_of({"x": [small, small]}) == ({"x": small},)
    with pytest.raises(UsageError, match="--input-shape x: 2 sizes, another input has 3; wanted as many, or one"):
        shapes_of({"x": [small, large], "z": [small, large, small]})


def test_a_site_over_several_sizes_has_what_runs_at_all_of_them() -> None:
    def table(refused: str, **times: float | None) -> SiteTable:
        options = [
            Option(
                Candidate(name), Cost(1, 1, 1), None if time is None else Measurement(time, time, time, 1, "estimated")
            )
            for name, time in times.items()
            if name != refused
        ]
        return SiteTable("up", DECONV, tuple(options), (Refusal(Candidate(refused), "no"),) if refused else ())

    small = table("", native=1.0, split_rows=2.0, split_phases=3.0, col2im=1.0)
    large = table("col2im", native=4.0, split_rows=8.0, split_phases=None, col2im=1.0)
    found = table_over_sizes([small, large])
    assert {str(each.candidate): each.time and each.time.median_ms for each in found.options} == {
        "native": 2.0,
        "split_rows": 4.0,
        "split_phases": None,
    }
    assert [(str(each.candidate), each.reason) for each in found.refusals] == [("col2im", "no")]


OPEN = ({"x": (1, 2, "h", 7)}, {"y": None})


def opened() -> onnx.ModelProto:
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", strides=[2, 2])]
    return build(nodes, *OPEN, {"w": np.ones((2, 2, 3, 3), np.float32)})


def test_a_conversion_for_several_sizes_says_so_and_is_proved_at_each(tmp_path: Path) -> None:
    sizes = [(1, 2, 4, 7), (1, 2, 9, 7)]
    found = splitdeconv.convert(
        opened(), target="onnxruntime", layers={"up": "split"}, in_shapes={"x": sizes}, budget=0.2, cache=False
    )
    assert found.plan.measured_at == tuple({"x": each} for each in sizes)
    assert json.loads(found.plan.to_json())["measured_at"] == [{"x": list(each)} for each in sizes]
    assert "measured at x 1×2×4×7; x 1×2×9×7" in found.record.notes
    assert found.record.whole is not None
    assert len(found.record.whole.after.at_each_size()) == 2
    assert sum(note.startswith("at x 1×2×") for note in found.record.notes) == 2
    page = tmp_path / "page.html"
    found.report(page)
    assert all(f"whole model, x {each}" in page.read_text("utf-8") for each in ("1×2×4×7", "1×2×9×7"))
    assert found.verdict.passed
    (tmp_path / "plan.json").write_text(found.plan.to_json(), encoding="utf-8")
    again = splitdeconv.convert(opened(), plan=tmp_path / "plan.json", target="generic")
    assert [choice.chosen for choice in again.plan.choices] == [choice.chosen for choice in found.plan.choices]


def test_each_size_is_compared() -> None:
    given = Given({}, ({"x": (1, 2, 4, 7)}, {"x": (1, 2, 5, 7)}, {"x": (1, 2, 6, 7)}))
    feeds = [given.feeds(load(opened()), trial) for trial in range(given.trials(load(opened())))]
    assert [each["x"].shape[2] for each in feeds if not isinstance(each, str)] == [4, 5, 6]


def test_several_sizes_are_for_conversions_and_for_inputs_without_an_array() -> None:
    sizes = {"x": [(1, 2, 4, 7), (1, 2, 9, 7)]}
    with pytest.raises(UsageError, match="--input-shape: 2 sizes; wanted one: only convert takes several"):
        inspect(opened(), sizes, ())
    with pytest.raises(UsageError, match="--input x: has one size, and --input-shape gives it 2; wanted one of both"):
        splitdeconv.convert(opened(), in_shapes=sizes, inputs={"x": np.zeros((1, 2, 4, 7), np.float32)})
    with pytest.raises(UsageError, match="--input-shape x: has 2 sizes, the model's input is"):
        splitdeconv.convert(opened(), in_shapes={"x": [(1, 2, 4, 7), (1, 2)]})
