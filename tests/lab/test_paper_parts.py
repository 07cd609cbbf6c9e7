"""Parts of the reproduction on small or invented inputs: counts, simulation, efficiency, tables of times."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from splitdeconv import codec
from splitdeconv.lab.paper import commodity, counts, efficiency, parameters, simulated
from splitdeconv.lab.paper.networks import NAMES, TITLES
from splitdeconv.lab.paper.result import Column, Result, Sheet, geometric
from splitdeconv.lab.paper.times import DeconvTimes, Times
from splitdeconv.results.record import Environment
from splitdeconv.results.times import Measurement


def silent(_stage: str, _share: float) -> None:
    """No progress."""


def table(result: Result, name: str) -> dict[str, dict[str, object]]:
    """Rows of a sheet by their first cell, cells by their heading."""
    (sheet,) = [each for each in result.sheets if each.name == name]
    heads = [column.title for column in sheet.columns]
    return {str(row[0]): dict(zip(heads, row, strict=True)) for row in sheet.rows}


def test_counts_are_those_of_the_paper() -> None:
    result = counts.counts(silent)
    rows = table(result, "counts")
    for name in (TITLES[each] for each in NAMES if each != "artgan"):
        for form in ("original", "NZP", "SD"):
            assert round(float(str(rows[name][f"{form}, ours"])), 2) == rows[name][f"{form}, paper"], (name, form)
        assert rows[name]["without zero taps, ours"] == rows[name]["original, ours"]
    assert rows["ArtGAN"]["original, paper"] == 822.08
    assert rows["ArtGAN"]["original, ours"] != 822.08
    assert "DCGAN, SNGAN, FST, GP-GAN, MDE" in result.notes[0]


def test_split_filters_have_the_weights_of_their_zero_extension() -> None:
    rows = table(parameters.parameters(silent), "parameters")
    assert rows["DCGAN"]["SD over original"] == pytest.approx(36 / 25)
    assert rows["FST"]["SD over original"] == pytest.approx(16 / 9)
    assert rows["SNGAN"]["SD over original"] == 1
    assert all(row["deconvs, ours"] == row["deconvs, original"] for row in rows.values())


def test_simulation_has_every_variant_on_both_arrays() -> None:
    result = simulated.simulated(silent)
    for array in simulated.ARRAYS:
        rows = table(result, f"simulated-speed-up-{array}")
        variants = {f"SD{skip}" for skip in ("", "-Asparse", "-Wsparse", "-WAsparse")}
        assert {"NZP", simulated.ENGINE, simulated.WHOLE} | variants <= set(rows)
        assert all(cell == 1 for head, cell in rows["NZP"].items() if head != "form")
        for title in TITLES.values():
            assert float(str(rows["SD-WAsparse"][title])) >= float(str(rows["SD"][title]))
        assert set(table(result, f"simulated-energy-{array}")) == set(rows)
    assert {sheet.kind for sheet in result.sheets} == {"estimated"}
    assert codec.from_object(Result, json.loads(json.dumps(codec.to_object(result))), "here") == result


def test_an_ideal_array_is_as_efficient_at_every_size_and_a_coarse_one_is_not() -> None:
    flat, coarse = (efficiency.simulated(array) for array in ("dot-product-16x16", "regular-2d-32x7"))
    assert len({each.rate for each in flat}) == 1
    by_size = {each.size: each.rate for each in coarse if each.kernel == efficiency.FILTER}
    assert by_size[8] < by_size[16] < by_size[32]  # an 8×8 map leaves most of 32×7 PEs idle


def rates(scale: float) -> dict[str, object]:
    found = [
        efficiency.Rate(size, kernel, scale * size * kernel, scale, scale, 5) for size, kernel in efficiency.points()
    ]
    return {"rates": [{key: getattr(each, key) for key in each.__dataclass_fields__} for each in found]}


def test_measured_and_estimated_rates_never_share_a_table() -> None:
    result = efficiency.PART.result({"dot-product-16x16": rates(1.0), "onnxruntime": rates(2.0)})
    by_name = {sheet.name: sheet for sheet in result.sheets}
    assert {name: sheet.kind for name, sheet in by_name.items()} == {
        "efficiency-maps-estimated": "estimated",
        "efficiency-filters-estimated": "estimated",
        "efficiency-maps-measured": "measured",
        "efficiency-filters-measured": "measured",
    }
    assert [row[2] for row in by_name["efficiency-maps-measured"].rows] == [1, 2, 4, 8, 16]
    assert [row[-1] for row in by_name["efficiency-filters-measured"].rows] == [1.0, 2.14, 3.64, 5.22]


def layer(native: float, inserted: float | None, split: float, chosen: float) -> DeconvTimes:
    times = {"native": native, "zero_insert": inserted, "split": split, "chosen": chosen}
    known = {form: None if ms is None else Measurement(ms, 0.9 * ms, 1.1 * ms, 50) for form, ms in times.items()}
    return DeconvTimes("up", "4×4/2", known, "split_rows", "split:full:depth_to_space")


def times(*layers: DeconvTimes) -> Times:
    whole = {
        "native": Measurement(5, 5, 5, 50),
        "zero_insert": Measurement(12, 12, 12, 50),
        "chosen": Measurement(4, 3, 5, 50),
    }
    return Times(layers, whole, Environment("somewhere", {}), ("restless",))


def test_a_network_is_the_sum_of_its_deconvs() -> None:
    found = times(layer(2, 8, 3, 1), layer(1, 4, 2, 1))
    assert found.part("zero_insert") == 12
    assert found.ratio("zero_insert", "chosen") == 6
    assert found.ratio("zero_insert", "chosen", whole=True) == 3
    assert found.ratio("native", "split", whole=True) is None
    assert found.spread("chosen") == pytest.approx(0.1)
    assert codec.from_object(Times, json.loads(json.dumps(codec.to_object(found))), "here") == found


def test_a_form_that_one_deconv_lacks_has_no_sum() -> None:
    found = times(layer(2, 8, 3, 1), layer(1, None, 2, 1))
    assert found.part("zero_insert") is None
    assert found.ratio("zero_insert", "chosen") is None
    assert found.ratio("native", "chosen") == 1.5


def test_the_reached_ratios_are_of_measured_runtimes_only() -> None:
    one, two = (codec.to_object(times(layer(2, 8, 3, 1))), codec.to_object(times(layer(2, 2, 3, 1))))
    found = {"onnxruntime-float32.dcgan": one, "onnxruntime-float32.fst": two, "ethos-u55-128.dcgan": one}
    result = commodity.PART.result(found)
    rows = table(result, "over-nzp")
    assert list(rows["DCGAN"]) == ["network", "ONNX Runtime, float32"]
    assert rows["DCGAN"]["ONNX Runtime, float32"] == 8
    assert rows["geometric mean"]["ONNX Runtime, float32"] == pytest.approx(4)
    assert rows["least"]["ONNX Runtime, float32"] == 2
    assert rows["MDE"]["ONNX Runtime, float32"] is None
    kinds = {sheet.name: sheet.kind for sheet in result.sheets}
    assert kinds["ethos-u55-128-deconvs"] == "estimated"
    assert kinds["onnxruntime-float32-whole"] == "measured"


def test_cells_have_their_unit_on_the_page_and_all_digits_in_the_file() -> None:
    columns = Column("network"), Column("time", "ms", 1), Column("ratio", "×"), Column("count")
    sheet = Sheet("t", "a table", "measured", columns, (("a, b", 1.26, 2.0, 1000), ("c", None, None, None)))
    texts = [[column.text(cell) for column, cell in zip(columns, row, strict=True)] for row in sheet.rows]
    assert texts == [["a, b", "1.3 ms", "2.00×", "1,000"], ["c", "–", "–", "–"]]
    assert sheet.csv() == 'network,time [ms],ratio [×],count\n"a, b",1.26,2.0,1000\nc,,,\n'
    assert codec.from_object(Sheet, codec.to_object(replace(sheet, on_page=False)), "here").on_page is False


def test_geometric_mean_of_nothing_is_nothing() -> None:
    assert geometric([None, 2.0, 8.0]) == pytest.approx(4)
    assert geometric([None]) is None
