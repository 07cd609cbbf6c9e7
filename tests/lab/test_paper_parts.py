"""Parts of the reproduction on small or invented inputs: counts, simulation, efficiency, tables of times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from splitdeconv import codec
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.lab.paper import commodity, counts, efficiency, parameters, simulated
from splitdeconv.lab.paper.networks import NAMES, TITLES
from splitdeconv.lab.paper.part import PaperPart, PaperSetting
from splitdeconv.lab.paper.result import Result, geometric, grouped
from splitdeconv.lab.paper.times import PaperTimes
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.bench import NATIVE, ZERO_INSERT, BenchRecord, LayerTimes, ModelTimes
from splitdeconv.results.plan import Cost, Option, Skipped
from splitdeconv.results.record import Environment
from splitdeconv.results.times import Measurement


def silent(_stage: str, _share: float) -> None:
    """No progress."""


def table(result: Result, name: str) -> dict[str, dict[str, object]]:
    """Rows of a table by their first cell, cells by their heading."""
    found = result.tables[name]
    return {str(row[0]): dict(zip(found.titles(), row, strict=True)) for row in found.rows}


def again(part: PaperPart, found: Any) -> Any:
    """What a step has found, written and read as the store does."""
    (step,) = part.steps(PaperSetting(Path("out")))
    text = json.dumps(codec.to_object(found, step.holds))
    return codec.from_object(step.holds, json.loads(text), "here")


def test_counts_are_those_of_the_paper() -> None:
    result = counts.shown(counts.counts(silent))
    rows = table(result, "counts")
    for name in (TITLES[each] for each in NAMES if each != "artgan"):
        for form in ("original", "NZP", "SD"):
            assert round(float(str(rows[name][f"{form}, ours"])), 2) == rows[name][f"{form}, paper"], (name, form)
        assert rows[name]["without zero taps, ours"] == rows[name]["original, ours"]
    assert rows["ArtGAN"]["original, paper"] == 822.08
    assert rows["ArtGAN"]["original, ours"] != 822.08
    assert "DCGAN, SNGAN, FST, GP-GAN, MDE" in result.notes[0]


def test_split_filters_have_the_weights_of_their_zero_extension() -> None:
    rows = table(parameters.shown(parameters.parameters(silent)), "parameters")
    assert rows["DCGAN"]["SD over original"] == pytest.approx(36 / 25)
    assert rows["FST"]["SD over original"] == pytest.approx(16 / 9)
    assert rows["SNGAN"]["SD over original"] == 1
    assert all(row["deconvs, ours"] == row["deconvs, original"] for row in rows.values())


@pytest.mark.parametrize("names", [("dcgan", "sngan"), pytest.param(NAMES, marks=pytest.mark.long)], ids=len)
def test_simulation_has_every_variant_on_both_arrays(names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "NAMES", names)
    found = simulated.simulated(silent)
    assert again(simulated.PART, found) == found
    result = simulated.shown(found)
    for array in simulated.ARRAYS:
        rows = table(result, f"simulated-speed-up-{array}")
        variants = {f"SD{skip}" for skip in ("", "-Asparse", "-Wsparse", "-WAsparse")}
        assert {"NZP", simulated.ENGINE, simulated.WHOLE} | variants <= set(rows)
        assert all(cell == 1 for head, cell in rows["NZP"].items() if head != "form")
        for title in (TITLES[name] for name in names):
            assert float(str(rows["SD-WAsparse"][title])) >= float(str(rows["SD"][title]))
        assert set(table(result, f"simulated-energy-{array}")) == set(rows)
        assert len(result.files[f"simulated-ranges-{array}"].rows) > len(rows)
    assert {each.kind for each in (*result.tables.values(), *result.charts.values())} == {"estimated"}


def test_an_ideal_array_is_as_efficient_at_every_size_and_a_coarse_one_is_not() -> None:
    flat, coarse = (efficiency.simulated(array) for array in ("dot-product-16x16", "regular-2d-32x7"))
    assert max(each.rate for each in flat) == pytest.approx(min(each.rate for each in flat))
    by_size = {each.size: each.rate for each in coarse if each.kernel == efficiency.FILTER}
    assert by_size[8] < by_size[16] < by_size[32]  # an 8×8 map leaves most of 32×7 PEs idle


def conv_times(scale: float) -> list[efficiency.ConvTime]:
    found = []
    for size, kernel in efficiency.points():
        ms = efficiency.macs(size, kernel) / (scale * size * kernel)
        found.append(efficiency.ConvTime(size, kernel, Measurement(ms, ms, ms, 5)))
    return found


def test_measured_and_estimated_rates_never_share_a_table() -> None:
    result = efficiency.PART.result({"dot-product-16x16": conv_times(1.0), "onnxruntime": conv_times(2.0)})
    by_name = result.tables
    assert {name: each.kind for name, each in by_name.items()} == {
        "efficiency-maps-estimated": "estimated",
        "efficiency-filters-estimated": "estimated",
        "efficiency-maps-measured": "measured",
        "efficiency-filters-measured": "measured",
    }
    assert [row[2] for row in by_name["efficiency-maps-measured"].rows] == pytest.approx([1, 2, 4, 8, 16])
    assert [row[-1] for row in by_name["efficiency-filters-measured"].rows] == [1.0, 2.14, 3.64, 5.22]


SPLIT, ROWS = Candidate.parse("split:full:depth_to_space"), Candidate.parse("split_rows")


def layer(native: float, inserted: float | None, split: float, chosen: float) -> LayerTimes:
    deconv = Deconv((Axis(4, 4, 2, pad_begin=1, pad_end=1),), 1, 1)
    known = {NATIVE: native, ZERO_INSERT: inserted, SPLIT: split, ROWS: chosen}
    options = [
        Option(candidate, Cost(0, 0, 0), None if ms is None else Measurement(ms, 0.9 * ms, 1.1 * ms, 50))
        for candidate, ms in known.items()
    ]
    return LayerTimes("up", "", deconv, tuple(options), (), None, ROWS, "fastest")


def record(*layers: LayerTimes) -> BenchRecord:
    whole = {
        "native": Measurement(5, 5, 5, 50),
        "zero_insert": Measurement(12, 12, 12, 50),
        "converted": Measurement(4, 3, 5, 50),
    }
    skipped = (Skipped("odd", "graph", "its weights are computed"),)
    return BenchRecord("model", Environment("somewhere", {}), layers, ModelTimes(whole), skipped, ("restless",))


def test_a_network_is_the_sum_of_its_deconvs() -> None:
    found = PaperTimes(record(layer(2, 8, 3, 1), layer(1, 4, 2, 1)))
    assert found.ms("zero_insert") == 12
    assert found.ratio("zero_insert", "converted") == 6
    assert found.ratio("zero_insert", "converted", whole=True) == 3
    assert found.ratio("native", "split", whole=True) is None
    assert found.spread("converted") == pytest.approx(0.1)
    assert found.spread("converted", whole=True) == pytest.approx(0.25)
    assert found.notes() == ("restless", "odd is left alone: its weights are computed")


def test_a_form_that_one_deconv_lacks_has_no_sum() -> None:
    found = PaperTimes(record(layer(2, 8, 3, 1), layer(1, None, 2, 1)))
    assert found.ms("zero_insert") is None
    assert found.ratio("zero_insert", "converted") is None
    assert found.ratio("native", "converted") == 1.5


def test_where_native_inserts_zeros_it_is_the_baseline() -> None:
    found = PaperTimes(record(layer(2, None, 3, 1)), inserts_zeros=True)
    assert found.ratio("zero_insert", "converted") == 2
    assert found.ratio("zero_insert", "converted", whole=True) == 1.25


def test_the_reached_ratios_are_of_measured_runtimes_only() -> None:
    one, two = record(layer(2, 8, 3, 1)), record(layer(2, 2, 3, 1))
    found = {"onnxruntime-float32.dcgan": one, "onnxruntime-float32.fst": two, "ethos-u55-128.dcgan": one}
    result = commodity.PART.result(found)
    rows = table(result, "over-nzp")
    assert list(rows["DCGAN"]) == ["network", "ONNX Runtime, float32"]
    assert rows["DCGAN"]["ONNX Runtime, float32"] == 8
    assert rows["geometric mean"]["ONNX Runtime, float32"] == pytest.approx(4)
    assert rows["least"]["ONNX Runtime, float32"] == 2
    assert rows["MDE"]["ONNX Runtime, float32"] is None
    assert result.tables["ethos-u55-128-deconvs"].kind == "estimated"
    assert result.tables["onnxruntime-float32-whole"].kind == "measured"
    (row, _) = result.files["onnxruntime-float32-layers"].rows
    assert row[3:9] == ("split_rows", "split:full:depth_to_space", 8, pytest.approx(7.2), pytest.approx(8.8), 50)


def test_bars_are_grouped_with_what_is_published_at_the_end() -> None:
    one, other, paper = grouped(["DCGAN", "FST"], {"SD": [2.0, None], "plan": [3.0, 4.0]}, {"low": 2.41})
    assert [(bar.name, bar.text) for bar in one.bars] == [("SD", "2.00"), ("plan", "3.00")]
    assert [(bar.name, bar.series) for bar in other.bars] == [("plan", 1)]  # the same colour as in the other group
    assert (paper.title, paper.bars[0].text) == ("the paper", "2.41")


def test_geometric_mean_of_nothing_is_nothing() -> None:
    assert geometric([None, 2.0, 8.0]) == pytest.approx(4)
    assert geometric([None]) is None
