"""The help of every command, and the record that every command can write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from splitdeconv import targets
from splitdeconv.accelerator.arch import architectures
from splitdeconv.accelerator.energy import energy_tables
from splitdeconv.cli import app, main
from tests.models import deconv_model


def commands() -> Iterator[tuple[str, Any]]:
    for name, command in app.command_line().commands.items():
        for inner, each in getattr(command, "commands", {"": command}).items():
            yield f"{name} {inner}".strip(), each


COMMANDS = dict(commands())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_takes(name: str) -> None:
    for parameter in COMMANDS[name].params:
        flag = getattr(parameter, "is_flag", False)
        assert flag or parameter.name == "help" or re.fullmatch(r"[A-Z_=\[\]]+", parameter.metavar or ""), (
            parameter.name
        )


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_no_type_stands_beside_a_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert "--help" in shown
    assert "bool" not in shown.lower()
    assert "<" not in shown, "a type in place of a name"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_which_parses(name: str) -> None:
    found = re.fullmatch(r"Example: `splitdeconv (.*)`", COMMANDS[name].epilog or "")
    assert found is not None
    assert found[1].startswith(name)
    words = found[1].split()[len(name.split()) :]
    COMMANDS[name].make_context(name, words, resilient_parsing=False)


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"demo"}))  # whose folder holds the record
def test_every_command_has_json(name: str) -> None:
    assert "--json" in [option for parameter in COMMANDS[name].params for option in parameter.opts]


@pytest.mark.parametrize(
    ("command", "choices"),
    [
        ("convert", ["auto", "generic", "splitdeconv targets", "exact", "fused", "requantised"]),
        ("simulate", [*architectures(), *energy_tables(), "splitdeconv zoo list"]),
        ("sweep", [*architectures(), *energy_tables()]),
    ],
)
def test_the_help_tells_the_choices(command: str, choices: list[str]) -> None:
    told = " ".join(parameter.help for parameter in COMMANDS[command].params)
    assert not [choice for choice in choices if choice not in told]


def test_the_help_lists_commands_in_order() -> None:
    assert list(app.command_line().commands) == list(app.COMMANDS)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_both_forms_of_help(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", option]) == 0
    assert "--input-shape" in capsys.readouterr().out


def test_the_short_form_of_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-V"]) == 0
    assert capsys.readouterr().out.startswith("splitdeconv ")


def test_json_on_the_standard_output_is_all_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(deconv_model(), tmp_path / "m.onnx")
    record, out = tmp_path / "r.json", tmp_path / "t.csv"
    assert main(["convert", str(tmp_path / "m.onnx"), str(tmp_path / "o.onnx"), "--json", str(record)]) == 0
    capsys.readouterr()
    found = []
    for command in (
        ["report", str(record), str(tmp_path / "r.html")],
        ["sweep", "dcgan", "--out", str(out), "--jobs", "1"],
        ["simulate", "dcgan"],
        ["targets"],
        ["zoo", "list"],
    ):
        assert main([*command, "--json", "-"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["outputs"] == [str(tmp_path / "r.html")]
    assert (found[1]["outputs"], found[1]["points"], found[1]["failed"]) == ([str(out)], 4, 0)


# What inspect says of sizes that are not known


def said(model: onnx.ModelProto, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    onnx.save(model, tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx")]) == 0
    return capsys.readouterr().out


def test_the_share_of_a_model_with_an_open_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = deconv_model(("N", 4, 5, 6))
    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "conv")
    model.graph.initializer.append(weight)
    model.graph.node.append(helper.make_node("Conv", ["y", "conv"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", 1, [None] * 4))
    shown = said(model, tmp_path, capsys)
    assert "?" not in shown
    assert re.search(r"The deconvs are \d+\.\d% of the model's", shown)


def test_open_sizes_are_marked_and_can_be_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(deconv_model((1, 4, "h", "w")), tmp_path, capsys)
    assert "@?×?" in shown
    assert "Sizes marked ? count as 1; --input-shape sets them." in shown


def test_sizes_that_the_model_computes_are_not_for_the_user_to_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(targets.TARGETS, "onnxruntime", "package_that_is_not_there:Runtime")  # which could tell them
    model = deconv_model()
    model.graph.node.insert(0, helper.make_node("Reshape", ["x", "sizes"], ["r"]))
    model.graph.input.append(helper.make_tensor_value_info("sizes", 7, [4]))
    model.graph.node[1].input[0] = "r"
    shown = said(model, tmp_path, capsys)
    assert "Sizes marked ? count as 1; the model computes them at run time." in shown


@pytest.mark.parametrize("dilations", [[1, 1], [3, 2]], ids=["none more", "all others more"])
def test_the_fewest_macs_are_never_above_native(
    dilations: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel = np.ones((4, 3, 2, 2), np.float32)
    shown = said(deconv_model((1, 4, 5, 6), kernel=kernel, strides=[2, 2], dilations=dilations), tmp_path, capsys)
    macs = re.findall(r"[\d.]+ k", shown)
    assert macs[0] == macs[3]
