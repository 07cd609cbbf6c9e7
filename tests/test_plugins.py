"""Plug-ins of another package: one file and one entry point, and every command knows them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from splitdeconv import plugins
from tests import documentation_models

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "tests" / "fixtures" / "plugins"


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Python with the example package beside this one."""
    path = os.pathsep.join(map(str, (PLUGINS, ROOT, *filter(None, sys.path))))
    environment = {**os.environ, "PYTHONPATH": path, "COLUMNS": "200"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )


COMMANDS = {
    "targets": ["targets"],
    "convert": [
        "convert",
        "model.onnx",
        "out.onnx",
        "--lowering",
        "merged",
        "--target",
        "plain",
        "--json",
        "convert.json",
    ],
    "inspect": ["inspect", "model.onnx", "--json", "inspect.json"],
    "bench": [
        "bench",
        "model.onnx",
        "--target",
        "plain",
        "--budget",
        "1000000",
        "--only",
        "deconv1",
        "--json",
        "bench.json",
    ],
    "renamed": ["convert", "model.renamed", "out.renamed", "--target", "generic"],
}
SCRIPT = """
import contextlib, io, json, os, sys
from splitdeconv.cli import main
os.chdir(sys.argv[1])
found = {}
for name, command in json.loads(sys.argv[2]).items():
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(command)
    found[name] = (code, out.getvalue(), err.getvalue())
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and what the commands have made of it."""
    path = tmp_path_factory.mktemp("plugins")
    for name in ("model.onnx", "model.renamed"):
        documentation_models.generator(path / name, channels=(8, 4, 3))
    return path


@pytest.fixture(scope="module")
def done(folder: Path) -> dict[str, tuple[int, str, str]]:
    """Exit code, output and errors of every command, in one process with the package beside this one."""
    run = python("-c", SCRIPT, folder, json.dumps(COMMANDS))
    assert run.returncode == 0, run.stderr
    found: dict[str, tuple[int, str, str]] = json.loads(run.stdout.splitlines()[-1])
    assert {name: code for name, (code, _, _) in found.items()} == dict.fromkeys(COMMANDS, 0), found
    return found


def test_targets_lists_them_and_a_broken_one_is_a_warning(done: dict[str, tuple[int, str, str]]) -> None:
    _, out, err = done["targets"]
    assert "merged" in out
    assert "plain" in out
    assert "needs package_that_is_not_there, which is not installed" in out
    assert "lowering 'broken' of example_plugins cannot be loaded" in err
    assert "broken" not in out


def test_convert_proves_their_lowering_on_their_target(done: dict[str, tuple[int, str, str]], folder: Path) -> None:
    choices = json.loads((folder / "convert.json").read_text(encoding="utf-8"))["plan"]["choices"]
    assert {choice["chosen"] for choice in choices} == {"merged:theirs:transpose"}


@pytest.mark.parametrize("name", ["inspect", "bench"])
def test_inspect_and_bench_show_it(name: str, done: dict[str, tuple[int, str, str]], folder: Path) -> None:
    assert "merged:theirs:transpose" in (folder / f"{name}.json").read_text(encoding="utf-8")


def test_a_format_is_known_by_its_suffix(done: dict[str, tuple[int, str, str]], folder: Path) -> None:
    assert (folder / "out.renamed").is_file()


def test_the_laws_hold_for_it() -> None:
    laws = "test_every_lowering_is_bit_equal_to_the_definition or test_no_lowering or test_programs_do_not_depend"
    run = python("-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/lowerings/test_lowerings.py", "-k", laws)
    assert run.returncode == 0, run.stdout
    assert "test_no_lowering_refuses_everything[merged] PASSED" in run.stdout


@pytest.mark.parametrize(
    ("line", "error"), [("splitdeconv.none:X", ModuleNotFoundError), ("splitdeconv.files:X", AttributeError)]
)
def test_a_wrong_line_of_ours_is_a_fault_and_no_missing_package(line: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        plugins.load("target", "ours", {"ours": line})


def test_a_package_for_another_process_is_asked_for_here() -> None:
    plugins.require("json")
    with pytest.raises(ModuleNotFoundError, match="'package_that_is_not_there'") as missing:
        plugins.require("package_that_is_not_there")
    assert missing.value.name == "package_that_is_not_there"
