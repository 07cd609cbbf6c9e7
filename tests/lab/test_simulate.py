"""``splitdeconv simulate`` from the command line, and the published ranges beside ours."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from splitdeconv.cli import main

PAPER_SPEED_UP = (2.41, 4.34)


def simulate(tmp_path: Path, *arguments: str) -> list[dict[str, Any]]:
    path = tmp_path / "r.json"
    assert main(["simulate", *arguments, "--json", str(path)]) == 0
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["results"]
    return found


def by_name(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in record["rows"]}


def test_the_table_of_a_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = simulate(tmp_path, "sngan", "--layers", "--assumptions")
    rows = by_name(record)
    assert rows["NZP"]["speed_up"] == 1
    assert rows["SD-WAsparse"]["speed_up"] == 4
    assert rows["SD-WAsparse"]["whole_speed_up"] < 4
    assert rows["NZP"]["deconvs"]["cycles"] == 1_572_864
    assert record["kind"] == "estimated"
    assert "recollected" in record["architecture"]["stated"]["array.rows"]["source"]
    text = capsys.readouterr().out
    assert "estimated" in text
    assert "deconv2" in text


def test_sd_with_both_skips_on_the_dot_production_array_is_within_or_above_the_published_range(tmp_path: Path) -> None:
    for record in simulate(tmp_path, "paper", "--form", "split:cropped", "--skip", "both"):
        speed_up = by_name(record)["SD cropped-WAsparse"]["speed_up"]
        assert speed_up >= PAPER_SPEED_UP[0], record["network"]


def test_hardware_for_deconvs_is_compared_with_its_own_zero_insertion(tmp_path: Path) -> None:
    (record,) = simulate(tmp_path, "sngan", "--arch", "fcn-engine-16x16")
    assert by_name(record)["native deconv"]["speed_up"] == 4


def test_sensitivity_ranges_hold_the_assumed_ratio(tmp_path: Path) -> None:
    (record,) = simulate(tmp_path, "dcgan", "--sensitivity", "--form", "split:full", "--skip", "both")
    row = by_name(record)["SD-WAsparse"]
    assert row["speed_up_range"][0] <= row["speed_up"] <= row["speed_up_range"][1]
    assert row["saving_range"][0] < row["energy_saving"] < row["saving_range"][1]
    assert "DRAM energy ×2" in row["varied"]


def test_refusals_are_rows(tmp_path: Path) -> None:
    (record,) = simulate(tmp_path, "sngan", "--form", "native")
    assert record["rows"][0]["refused"] == "deconv1: the processor has no deconv of its own"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "nothing: no such file or network"),
        (["sngan", "--arch", "tpu"], "no architecture is called 'tpu'"),
        (["sngan", "--skip", "zeros"], "--skip: found 'zeros', wanted one of none, activations, weights, both"),
        (["sngan", "--form", "fft"], "no form is called 'fft'"),
        (["sngan", "--input-shape", "x=a"], "--input-shape x=a: wanted whole numbers"),
        (["sngan", "--energy", "free"], "no energy table is called 'free'"),
        (["sngan", "--arch", "zigzag:none"], "zigzag"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_json_on_the_standard_output_is_nothing_but_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "sngan", "--layers", "--assumptions", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "simulate"


def test_a_model_without_deconvs_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dense.json"
    path.write_text(json.dumps({"layer": [{"kind": "dense", "in_features": 8, "out_features": 4}]}), "utf-8")
    assert main(["simulate", str(path)]) == 2
    assert "dense.json: no deconv, wanted at least one" in capsys.readouterr().err


def test_a_list_of_layers_is_the_same_for_estimates_and_benchmarks(tmp_path: Path) -> None:
    benchmarks = Path(__file__).parents[2] / "benchmarks" / "layers.json"
    (record,) = simulate(tmp_path, str(benchmarks), "--form", "split:full", "--skip", "none")
    assert record["network"] == "layers"
    assert record["rows"][0]["layers"][0]["name"] == "dcgan2"


@pytest.mark.parametrize("width", [60, 80])
def test_the_tables_fit_the_terminal(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    monkeypatch.setattr("splitdeconv.cli.simulate.console", lambda: shown)
    simulate(tmp_path, "sngan", "--layers", "--assumptions")
    assert isinstance(shown.file, io.StringIO)
    lines = shown.file.getvalue().splitlines()
    assert any(line.startswith("SD-WAsparse") for line in lines)
    assert max(map(len, lines)) <= width
