"""The documents name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from splitdeconv.cli import app as application
from splitdeconv.lowerings import LOWERINGS
from splitdeconv.targets import TARGETS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def commands() -> dict[str, list[str]]:
    """Every command with its options."""
    application.load_commands()
    group = typer.main.get_command(application.app)
    found = {}
    for name, command in group.commands.items():  # type: ignore[attr-defined]
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
