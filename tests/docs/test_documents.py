"""The documents name what there is."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splitdeconv.cli import app as application
from splitdeconv.lowerings import LOWERINGS
from splitdeconv.targets import TARGETS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def commands() -> dict[str, list[str]]:
    """Every command with its options."""
    found = {}
    for name, command in application.command_line().commands.items():
        parameters = [each for part in (command, *getattr(command, "commands", {}).values()) for each in part.params]
        options = [option for each in parameters for option in (*each.opts, *each.secondary_opts)]
        found[name] = [option for option in options if option.startswith("--")]
    return found


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_option_is_documented(name: str) -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    section = text.partition(f"## `splitdeconv {name}")[2].partition("\n## ")[0]
    assert section, f"docs/cli.md has no section on {name}"
    ordinary = text.partition("\n## ")[0]
    pairs = {option: option.replace("--", "--no-", 1) for option in commands()[name]}
    for option, negated in pairs.items():
        assert option in section or negated in section or option in ordinary, f"docs/cli.md: {name} {option}"


def test_every_target_and_lowering_is_documented() -> None:
    targets, theory = (ROOT / "docs" / "targets.md").read_text(), (ROOT / "docs" / "theory.md").read_text()
    assert not [name for name in TARGETS if f"`{name}" not in targets]
    assert not [name for name in LOWERINGS if f"`{name}" not in theory]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_architecture_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    package = ROOT / "src" / "splitdeconv"
    modules = {path.stem for path in package.glob("*.py")} | {
        path.parent.name for path in package.glob("*/__init__.py")
    }
    assert not [name for name in sorted(modules - {"__init__", "__main__"}) if f"`{name}" not in text]


EXTENSION_POINTS = {
    "splitdeconv.lowerings.lowering": ("Lowering", "Builder"),
    "splitdeconv.targets.target": ("Target", "Compiled", "MeasuredModel", "CompileError", "one_line"),
    "splitdeconv.formats.model": ("Model", "Site", "Origin"),
}
NAVIGATION = re.compile(r"```\{toctree\}\n((?::[^\n]*\n)*)\n(.*?)```", re.DOTALL)


def public_names() -> list[tuple[str, str]]:
    """Module and name of everything that users and extensions may rely on."""
    found = [(module, name) for module, names in EXTENSION_POINTS.items() for name in names]
    for module in ("splitdeconv", "splitdeconv.torch", "splitdeconv.lab.zoo"):
        text = (ROOT / "src" / Path(*module.split(".")) / "__init__.py").read_text()
        listed = re.search(r"^__all__ = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
        found += [(module, name) for name in re.findall(r'"(\w+)"', listed[1] if listed else "")]
    return found


@pytest.mark.parametrize(("module", "name"), public_names(), ids=lambda each: each)
def test_every_public_name_is_in_the_reference(module: str, name: str) -> None:
    reference = "".join(page.read_text() for page in ROOT.glob("docs/api*.md"))
    assert re.search(rf"^\.\. (auto|py:)\w+:: {re.escape(module)}\.{name}$", reference, re.MULTILINE)


@pytest.mark.parametrize(("module", "name"), public_names(), ids=lambda each: each)
def test_every_public_name_says_what_its_parts_are(module: str, name: str) -> None:
    if module == "splitdeconv.torch":
        pytest.importorskip("torch")
    found = getattr(importlib.import_module(module), name)
    unsaid = [f"{where}: {part}" for where, doc, parts in documented(found) for part in parts if part not in words(doc)]
    assert not unsaid


def documented(found: Any) -> Iterator[tuple[str, str, list[str]]]:
    """Docstrings of a public thing and its methods, each with the names that it must tell of."""
    if isinstance(found, str):  # __version__
        return
    assert inspect.getdoc(found), f"{found} has no docstring"
    if not inspect.isclass(found):
        yield found.__name__, inspect.getdoc(found) or "", list(inspect.signature(found).parameters)
        return
    if dataclasses.is_dataclass(found):
        yield found.__name__, inspect.getdoc(found) or "", [each.name for each in dataclasses.fields(found)]
    for name, method in vars(found).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert inspect.getdoc(method), f"{found.__name__}.{name} has no docstring"
            parts = [each for each in inspect.signature(method).parameters if each != "self"]
            yield f"{found.__name__}.{name}", inspect.getdoc(method) or "", parts


def words(doc: str) -> set[str]:
    """The words of a docstring."""
    return set(re.findall(r"\w+", doc))


def test_the_navigation_has_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text()
    entries = [entry for _, body in NAVIGATION.findall(index) for entry in body.split()]
    listed = {path.relative_to(ROOT / "docs").as_posix() for e in entries for path in ROOT.glob(f"docs/{e}.md")}
    there = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert there - listed == {"index.md"}, "a page of docs/ gets one line in a toctree of docs/index.md"
    assert len(entries) == len(set(entries))
