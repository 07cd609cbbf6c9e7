"""The oldest versions that ``pyproject.toml`` allows, as constraints for pip: ``python -m tests.lowest EXTRA …``.

Extras of the package's own inside an extra are followed; what has another bound than ``>=`` or ``==`` is left to pip.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from splitdeconv.files import read_toml

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[([^\]]*)\])?(?:[>=]=([0-9.]+))?")


def constraints(extras: Sequence[str]) -> list[str]:
    """``name==version`` for every direct dependency."""
    project = read_toml(PROJECT)["project"]
    found = set(_lowest(project["dependencies"], project["optional-dependencies"]))
    found.update(_lowest([f"splitdeconv[{','.join(extras)}]"], project["optional-dependencies"]))
    return sorted(found)


def _lowest(requirements: Sequence[str], extras: dict[str, list[str]]) -> Iterator[str]:
    for requirement in requirements:
        match = REQUIREMENT.match(requirement)
        assert match is not None, requirement
        name, inner, version = match.groups()
        if name == "splitdeconv":
            for extra in inner.split(","):
                yield from _lowest(extras[extra], extras)
        elif version is not None:
            yield f"{name}=={version}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(constraints(sys.argv[1:])) + "\n")
