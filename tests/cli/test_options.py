"""A request is told once: the command line has an option for each field, and Python a keyword of the same name."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import splitdeconv
from splitdeconv.cli.app import app, command_line
from splitdeconv.cli.options import request_of
from splitdeconv.pipeline.request import BenchRequest, ConvertRequest, RestoreRequest

KINDS = {"convert": ConvertRequest, "restore": RestoreRequest, "bench": BenchRequest}
INSIDE = {"forms", "equal_work"}  # of the reproduction, which benches what the paper has
CONTAINERS = {"layers", "only", "skip", "inputs", "in_shapes", "progress"}  # None or () in Python, empty in a request


@pytest.mark.parametrize("name", KINDS)
def test_python_has_a_keyword_with_the_same_default_for_each_field(name: str) -> None:
    keywords = inspect.signature(getattr(splitdeconv, name)).parameters
    wanted = {each.name: each.default for each in fields(KINDS[name]) if each.init and each.name not in INSIDE}  # type: ignore[arg-type]
    assert set(wanted) == set(keywords) - ({"model", "out"} if name != "bench" else {"model", "layers"})
    for field, default in wanted.items():
        if field not in CONTAINERS and default is not MISSING:
            assert keywords[field].default == default, field


@pytest.mark.parametrize("name", KINDS)
def test_the_command_line_has_an_option_for_each_field(name: str) -> None:
    command_line()
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    words = {"layers": "layer", "inputs": "input", "in_shapes": "input-shape"}
    for each in fields(KINDS[name]):  # type: ignore[arg-type]
        if each.init and each.name not in INSIDE | {"progress"}:
            assert f"--{words.get(each.name, each.name.replace('_', '-'))} " in shown, each.name


def test_what_stands_behind_the_options_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones(3))
    given: dict[str, Any] = {
        "layer": ["up=split"],
        "only": ["u*"],
        "skip": None,
        "input": [f"x={tmp_path / 'x.npy'}"],
        "input_shape": ["x=1,3"],
        "plan": None,
        "threads": 2,
    }
    request = request_of(ConvertRequest, given)
    assert (request.layers, request.only, request.skip) == ({"up": "split"}, ("u*",), ())
    assert (request.in_shapes, list(request.inputs)) == ({"x": [(1, 3)]}, ["x"])
    assert request.options.threads == 2
    several = request_of(ConvertRequest, {**given, "input_shape": ["x=1,3", "z=7", "x=1,5"]})
    assert several.in_shapes == {"x": [(1, 3), (1, 5)], "z": [(7,)]}
    assert request.overrides.forces("up")
