"""Ratios and means from invented times; the plain convolution of equal work."""

from __future__ import annotations

import json
import math

import pytest

from splitdeconv import codec
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.results.bench import (
    EQUAL_WORK,
    NATIVE,
    ZERO_INSERT,
    BenchRecord,
    LayerTimes,
    ModelTimes,
    fixed_split,
    short_list,
)
from splitdeconv.results.plan import Cost, Option
from splitdeconv.results.record import Environment
from splitdeconv.results.times import Measurement

SPLIT, ROWS = Candidate("split", "union", "transpose"), Candidate("split_rows")
DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 8), Axis(4, 2, 1, 1, 1, 0, 8)), 128, 64)


def time(median_ms: float, rounds: tuple[float, ...] = ()) -> Measurement:
    rounds = rounds or (median_ms,) * 10
    return Measurement(median_ms, median_ms, median_ms, len(rounds), rounds_ms=rounds)


def layer(name: str = "up", chosen: Candidate = SPLIT, equal: float | None = 1.5, **times: float) -> LayerTimes:
    known = {"native": NATIVE, "zero_insert": ZERO_INSERT, "split": SPLIT, "rows": ROWS}
    options = tuple(Option(known[each], Cost(1, 1, 1), time(median)) for each, median in times.items())
    refusals = (Refusal(Candidate("col2im"), "no two taps overlap"),)
    return LayerTimes(name, "", DECONV, options, refusals, None if equal is None else time(equal), chosen, "")


def record(*layers: LayerTimes) -> BenchRecord:
    return BenchRecord("list.json", Environment("onnxruntime", {"onnxruntime": "1"}), layers)


def test_the_best_is_the_fastest_that_is_neither_native_nor_the_baseline() -> None:
    assert layer(native=1.0, zero_insert=0.5, split=3.0, rows=2.0).best == ROWS
    assert layer(native=1.0, zero_insert=0.5).best is None


def test_ratios_are_taken_round_by_round() -> None:
    slow, fast = time(9.0, (2.0, 20.0, 4.0, 6.0, 200.0)), time(3.0, (1.0, 10.0, 2.0, 3.0, 100.0))
    options = (Option(NATIVE, Cost(1, 1, 1), slow), Option(SPLIT, Cost(1, 1, 1), fast))
    times = LayerTimes("up", "", DECONV, options, (), None, SPLIT, "")
    assert times.ratio(NATIVE, SPLIT) == 2.0
    assert times.ratio(NATIVE, EQUAL_WORK) is None


def test_summaries_have_the_geometric_mean_and_the_worst_layer() -> None:
    found = {
        each.title: each
        for each in record(
            layer("one", native=4.0, zero_insert=8.0, split=2.0),
            layer("two", chosen=NATIVE, equal=1.0, native=2.0, zero_insert=16.0, split=4.0),
            layer("three", equal=None, native=8.0, split=1.0),
        ).summaries()
    }
    best = found["native / best lowering"]
    assert best.mean == pytest.approx((2 * 0.5 * 8) ** (1 / 3))
    assert (best.worst, best.layer, best.count) == (0.5, "two", 3)
    converted = found["native / converted"]
    assert (converted.worst, converted.layer) == (1.0, "two")
    assert found["zero_insert / converted"].mean == pytest.approx(math.sqrt(4 * 8))
    limit = found["converted / equal-work convolution"]
    assert (limit.worst, limit.layer, limit.count) == (2.0, "two", 2)


def test_a_record_without_layers_has_no_summaries() -> None:
    assert record().summaries() == ()


def test_json_names_candidates_and_carries_the_summaries() -> None:
    whole = ModelTimes({"native": time(3.0), "converted": time(1.5)})
    made = BenchRecord("m.onnx", Environment("openvino", {}), (layer(native=2.0, split=1.0),), whole)
    (run,) = json.loads(codec.bench_to_json([made]))["runs"]
    assert run["layers"][0]["chosen"] == "split:union:transpose"
    assert run["layers"][0]["equal_work"]["median_ms"] == 1.5
    assert run["summaries"][0]["mean"] == 2.0
    assert whole.ratio("native", "converted") == 2.0
    assert whole.ratio("zero_insert", "converted") is None


def test_the_share_of_the_room_is_what_is_saved_of_what_the_bound_saves() -> None:
    whole = ModelTimes({"native": time(3.0), "converted": time(2.0), "bound": time(1.0)})
    assert whole.captured == 0.5
    assert ModelTimes({"native": time(1.04), "converted": time(1.0), "bound": time(1.0)}).captured is None
    assert ModelTimes({"native": time(3.0), "converted": time(2.0)}).captured is None


FULL, FULL_TRANSPOSE = Candidate("split", "full", "depth_to_space"), Candidate("split", "full", "transpose")


def test_the_papers_split_is_the_full_window_by_depth_to_space_where_there_is_one() -> None:
    assert fixed_split([NATIVE, SPLIT, FULL_TRANSPOSE, FULL]) == FULL
    assert fixed_split([NATIVE, SPLIT, FULL_TRANSPOSE]) == FULL_TRANSPOSE
    assert fixed_split([NATIVE, SPLIT]) == SPLIT  # of a deconv without any other window
    assert fixed_split([NATIVE, ROWS]) is None


def test_a_short_list_keeps_what_the_comparison_with_the_paper_needs() -> None:
    order = (NATIVE, ROWS, SPLIT, FULL_TRANSPOSE, FULL, Candidate("col2im"), ZERO_INSERT)
    assert short_list(order, 2) == (NATIVE, ROWS, FULL, ZERO_INSERT)
    rows = Candidate("split", "full", "rows")
    without = (NATIVE, ROWS, FULL_TRANSPOSE, rows, ZERO_INSERT)
    assert short_list(without, 1) == (NATIVE, FULL_TRANSPOSE, rows, ZERO_INSERT)
