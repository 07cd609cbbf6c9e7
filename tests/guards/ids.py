"""Tests lost and gained between two lists of ids, wherever their files have moved.

    pytest --collect-only -q > OLD     # before, and the same after
    python -m tests.guards.ids OLD NEW

Ids are matched by the test's name and its parameters, files and classes do not count. Exit code 1 if any was lost.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path


def names(path: Path) -> tuple[Counter[str], dict[str, set[str]]]:
    """How often each ``test[parameters]`` occurs, and in which files."""
    counted: Counter[str] = Counter()
    files: dict[str, set[str]] = defaultdict(set)
    for line in path.read_text("utf-8").splitlines():
        file, separator, rest = line.partition("::")
        if not separator or not file.endswith(".py"):
            continue
        test, bracket, parameters = rest.partition("[")
        name = test.rpartition("::")[2] + bracket + parameters
        counted[name] += 1
        files[name].add(file)
    return counted, files


def main(old: Path, new: Path) -> int:
    """Print what was lost and gained; returns the exit code."""
    (before, old_files), (after, new_files) = names(old), names(new)
    lost, gained = before - after, after - before
    for title, found, files in (("lost", lost, old_files), ("gained", gained, new_files)):
        print(f"{title}: {found.total()}")
        for name, count in sorted(found.items()):
            print(f"  {name}" + (f" ×{count}" if count > 1 else "") + f"  ({', '.join(sorted(files[name]))})")
    print(f"{before.total()} tests before, {after.total()} after")
    return int(bool(lost))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
