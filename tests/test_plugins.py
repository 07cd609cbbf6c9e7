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


def splitdeconv(*arguments: str | Path) -> str:
    """What a command prints; it must succeed."""
    run = python("-m", "splitdeconv", *arguments)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plugins") / "model.onnx"
    documentation_models.generator(path, channels=(8, 4, 3))
    return path


def test_targets_lists_them_and_a_broken_one_is_a_warning() -> None:
    run = python("-m", "splitdeconv", "targets")
    assert run.returncode == 0
    assert "merged" in run.stdout
    assert "plain" in run.stdout
    assert "needs package_that_is_not_there, which is not installed" in run.stdout
    assert "lowering 'broken' of example_plugins cannot be loaded" in run.stderr
    assert "broken" not in run.stdout


def test_convert_proves_their_lowering_on_their_target(model: Path, tmp_path: Path) -> None:
    out, record = tmp_path / "out.onnx", tmp_path / "record.json"
    splitdeconv("convert", model, out, "--lowering", "merged", "--target", "plain", "--json", record)
    choices = json.loads(record.read_text(encoding="utf-8"))["plan"]["choices"]
    assert {choice["chosen"] for choice in choices} == {"merged:theirs:transpose"}


def test_inspect_and_bench_show_it(model: Path, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    splitdeconv("inspect", model, "--json", record)
    assert "merged:theirs:transpose" in record.read_text(encoding="utf-8")
    splitdeconv("bench", model, "--target", "plain", "--budget", "1", "--json", record)
    assert "merged:theirs:transpose" in record.read_text(encoding="utf-8")


def test_a_format_is_known_by_its_suffix(model: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "model.renamed"
    renamed.write_bytes(model.read_bytes())
    splitdeconv("convert", renamed, tmp_path / "out.renamed", "--target", "generic")
    assert (tmp_path / "out.renamed").is_file()


def test_the_laws_hold_for_it() -> None:
    laws = "test_every_lowering_is_bit_equal_to_the_definition or test_no_lowering or test_programs_do_not_depend"
    run = python("-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/lowerings/test_lowerings.py", "-k", laws)
    assert run.returncode == 0, run.stdout
    assert "test_no_lowering_refuses_everything[merged] PASSED" in run.stdout
