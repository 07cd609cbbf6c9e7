"""Breaks the package on purpose, one place at a time, and demands that the named tests go red.

    python -m tests.guards.mutants [--checkout DIR] [NAME …]

Snippets and tests are searched for, so that both may move: a snippet must occur once under ``src``, and a test is named
by its function. Exit code 1 if a mutant stays green, or cannot be made.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FAILED = 1  # pytest's exit code where tests failed; others mean that they did not run
SECONDS = 300  # for the tests of one mutant


@dataclass(frozen=True, slots=True)
class Mutant:
    """``snippet``, which occurs once in the package, becomes ``replacement``; all of ``tests`` must fail."""

    name: str
    snippet: str
    replacement: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "a phase reads its taps in the wrong order",
        "Phase(offset, tuple(reversed(taps)), dilation,",
        "Phase(offset, tuple(taps), dilation,",
        ("test_phases_hold_exactly_the_taps_and_inputs_of_the_definition",),
    ),
    Mutant(
        "a crop is off by one",
        "ends = [axis.surplus(shift) for",
        "ends = [max(0, axis.surplus(shift) - 1) for",
        ("test_every_lowering_is_bit_equal_to_the_definition",),
    ),
    Mutant(
        "the ONNX front-end refuses all but native",
        "reason = refuse(program, place.opset)",
        'reason = None if "NativeDeconv" in str(program) else "refused"',
        ("test_convert_writes_a_proved_model",),
    ),
    Mutant(
        "that the rewritten model does not compile is swallowed",
        "failure=str(error)",
        'failure=""',
        ("test_a_rewritten_model_that_does_not_run_is_not_written",),
    ),
    Mutant(
        "every verdict has passed",
        "            not self.failure\n",
        "            True or not self.failure\n",
        ("test_a_wrong_result_is_not_written",),
    ),
    Mutant(
        "what is ahead wins, whatever the noise",
        "return len(ratios) >= FEWEST_ROUNDS and ratios[-1 - _left_out(len(ratios))] < 1 - smallest_gain",
        "return True",
        (
            "test_equals_do_not_win_and_a_gain_of_a_tenth_is_seen",
            "test_native_stays_unless_it_is_beaten_beyond_the_noise",
        ),
    ),
    Mutant(
        "the bias is dropped",
        "lambda: conv_channels(read(), op)",
        "lambda: conv_channels(0 * read(), op)",
        ("test_convert_writes_a_proved_model",),
    ),
    Mutant(
        "quantised maps are padded with 0 instead of their zero-point",
        "zero = np.asarray(inputs[0].zero, inputs[0].dtype)",
        "zero = np.asarray(0, inputs[0].dtype)",
        ("test_the_whole_model_keeps_its_outputs",),
    ),
    Mutant(
        "the key of measured times leaves out the type",
        '{"deconv": codec.to_object(deconv),',
        '{"deconv": {**codec.to_object(deconv), "dtype": ""},',
        ("test_another_deconv_epilogue_menu_or_version_finds_nothing",),
    ),
    Mutant(
        "the guard never takes a plan back",
        "if wins(after, before, smallest_gain=0.0) and not loses:",
        "if True:",
        ("test_the_guard_gives_native_back_where_the_whole_is_not_faster",),
    ),
)


def main() -> int:
    """Make all mutants, or those whose names contain a given word; returns the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--checkout", type=Path, default=Path(__file__).resolve().parents[2])
    parser.add_argument("names", nargs="*", help="parts of the names of mutants; none means all")
    given = parser.parse_args()
    chosen = [each for each in MUTANTS if not given.names or any(part in each.name for part in given.names)]
    checkout = given.checkout.resolve()
    wanted = sorted({test for each in chosen for test in each.tests})
    files = {test: _files(checkout, test) for test in wanted}
    known = [id_ for test in wanted for id_ in files[test]]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "src")
        shutil.copytree(checkout / "src", source)
        if _pytest(checkout, source, known) != 0:
            print("the tests fail, or do not run, without any mutant")
            return 1
        outcomes = [_outcome(checkout, source, each, files) for each in chosen]
    return int(any(not red for red in outcomes))


def _files(checkout: Path, test: str) -> list[str]:
    """The ids of a test function: it may occur in several files."""
    pattern = re.compile(rf"^ *def {test}\(", re.MULTILINE)
    paths = sorted((checkout / "tests").rglob("test_*.py"))
    return [f"{path.relative_to(checkout)}::{test}" for path in paths if pattern.search(path.read_text("utf-8"))]


def _outcome(checkout: Path, source: Path, mutant: Mutant, files: dict[str, list[str]]) -> bool:
    """Whether each of the mutant's tests goes red; prints a line of the table."""
    started = time.monotonic()
    problem = _problem(checkout, source, mutant, files)
    print(f"{'red  ' if not problem else 'GREEN'}  {time.monotonic() - started:5.1f} s  {mutant.name}", flush=True)
    if problem:
        print(f"       {problem}")
    return not problem


def _problem(checkout: Path, source: Path, mutant: Mutant, files: dict[str, list[str]]) -> str:
    """Why a mutant is not red, or nothing."""
    texts = {path: path.read_text("utf-8") for path in sorted(source.rglob("*.py"))}
    holders = [path for path, text in texts.items() for _ in range(text.count(mutant.snippet))]
    if len(holders) != 1:
        places = ", ".join(str(path.relative_to(source)) for path in holders)
        return f"the snippet {mutant.snippet!r} " + (f"is ambiguous: {places}" if holders else "is missing")
    (path,) = holders
    path.write_text(texts[path].replace(mutant.snippet, mutant.replacement), "utf-8")
    try:
        for test in mutant.tests:
            if not files[test]:
                return f"no test is called {test}"
            code = _pytest(checkout, source, files[test])
            if code != FAILED:
                return f"{test}: pytest ended with {code}, wanted {FAILED}"
    finally:
        path.write_text(texts[path], "utf-8")
    return ""


def _pytest(checkout: Path, source: Path, ids: Sequence[str]) -> int:
    """Exit code of the tests over the package in ``source``."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(source.parent / "hypothesis"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *ids]
    run = subprocess.run(command, check=False, cwd=checkout, env=environment, capture_output=True, timeout=SECONDS)
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
