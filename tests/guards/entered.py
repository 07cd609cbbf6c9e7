"""The files of the package that one conversion enters, after import.

python -m tests.guards.entered                 # generic and onnxruntime: how many
python -m tests.guards.entered --list          # and which, with the functions entered in each
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FrameType

import splitdeconv
from tests.guards import onnx_corpus
from tests.guards.terminal import workplace

PACKAGE = Path(splitdeconv.__file__).parent
TARGETS = ("generic", "onnxruntime")
BUDGET_S = 2.0


def main() -> int:
    """Print a line for each target; returns the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--list", action="store_true", help="name the files, and the functions entered in each")
    given = parser.parse_args()
    for target in TARGETS:
        _converted(target)  # imports what is imported when it is used
        found = _converted(target)
        print(f"{target}: {len(found)} files, {sum(map(len, found.values()))} functions")
        for path, names in sorted(found.items()) if given.list else ():
            print(f"  {path}: {', '.join(sorted(names))}")
    return 0


def _converted(target: str) -> Mapping[str, set[str]]:
    """A file with one deconv, of which nothing was measured before, converted to another one."""
    with workplace():
        Path("in.onnx").write_bytes(onnx_corpus.MODELS["plane"]().SerializeToString())
        return entered(partial(splitdeconv.convert, "in.onnx", "out.onnx", target=target, budget=BUDGET_S))


def entered(call: Callable[[], object]) -> Mapping[str, set[str]]:
    """The functions that a call enters, by the file of the package that they are in."""
    found: dict[str, set[str]] = defaultdict(set)

    def note(frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(str(PACKAGE)):
            found[str(Path(path).relative_to(PACKAGE))].add(frame.f_code.co_name)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return found


if __name__ == "__main__":
    sys.exit(main())
