"""CONTRIBUTING says which files know a lowering, a target, a format, an operation; this reads the source for it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "splitdeconv"
ROW = re.compile(r"^\| (?:lowering|target|format|operation): `(\w+)` \| (.*) \|$", re.MULTILINE)
FILES = sorted(SOURCE.rglob("*.py"))
ROWS = ROW.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def names(path: Path) -> set[str]:
    """Names that a file uses or imports, and its strings up to a colon, without a suffix's dot."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module.rpartition(".")[2], *(each.name for each in node.names)}
        elif isinstance(node, ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.lstrip(".").split(":")[0])
    return found


# ONNX's evaluator finds an operator by its class's name.
USED_TWICE = {"Conv", "Reshape"}


def test_a_class_name_is_used_once() -> None:
    nodes = [node for path in FILES for node in tree(path).body]
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert {name for name, uses in classes.items() if uses > 1} <= USED_TWICE


def test_the_table_has_rows() -> None:
    assert {name for name, _ in ROWS} >= {"col2im", "openvino", "tflite", "Spread"}


@pytest.mark.parametrize(("name", "listed"), ROWS)
def test_the_files_that_know_a_name_are_those_of_the_table(name: str, listed: str) -> None:
    files = [path.relative_to(SOURCE) for path in FILES if name in names(path)]
    assert [str(path) for path in files if path.parts[0] != "lab"] == re.findall(r"`([^`]+)`", listed)
