"""A folder of small text files, one a case, and the differences between two such folders."""

from __future__ import annotations

import argparse
import difflib
import shutil
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path

Case = tuple[str, Callable[[], str]]  # its name, and what makes its text


def main(description: str, cases: Callable[[], Iterable[Case]]) -> int:
    """``OUT_DIR`` writes all cases, ``--compare A B`` shows what differs; returns the exit code."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("out", nargs="?", type=Path, help="folder to write; replaced if it is one of these already")
    parser.add_argument("--only", default="*", help="pattern of the cases to run, such as 'groups.*'")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="show the differences of two folders")
    given = parser.parse_args()
    if given.compare:
        return compare(*given.compare)
    if given.out is None:
        parser.error("give OUT_DIR, or --compare A B")
    _write(given.out, ((name, make) for name, make in cases() if fnmatchcase(name, given.only)))
    return 0


def _write(folder: Path, cases: Iterable[Case]) -> None:
    if folder.exists() and any(path.suffix != ".txt" for path in folder.iterdir()):
        raise SystemExit(f"{folder} holds other files; wanted a new folder or one of snapshots")
    folder = folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, (name, make) in enumerate(cases, 1):
        (folder / f"{name}.txt").write_text(make(), encoding="utf-8")
        if number % 100 == 0:
            print(f"{number} cases")
    print(f"{len(list(folder.iterdir()))} cases in {folder}")


def compare(before: Path, after: Path) -> int:
    """Unified diffs of the cases that differ; 1 if there are any."""
    texts = [{path.name: path.read_text("utf-8") for path in sorted(each.glob("*.txt"))} for each in (before, after)]
    if not all(texts):
        raise SystemExit(f"{before if not texts[0] else after} holds no cases")
    names = sorted({*texts[0], *texts[1]})
    differing = [name for name in names if texts[0].get(name) != texts[1].get(name)]
    for name in differing:
        old, new = ([] if name not in each else each[name].splitlines(keepends=True) for each in texts)
        print("".join(difflib.unified_diff(old, new, f"{before / name}", f"{after / name}")))
    print(f"{len(differing)} of {len(names)} cases differ" + "".join(f"\n  {name}" for name in differing))
    return int(bool(differing))
