"""``python -m tests.attack FOLDER``: see the package."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tests.attack.harness import SETTLED, Outcome, Worker
from tests.attack.kinds import KINDS, attack


def main() -> int:
    """Go on with the attack in a folder; returns 1 if something came out that must not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--count", type=int, default=0, help="cases of each kind, instead of all")
    parser.add_argument("--case", type=int, help="only this number, shown in full")
    given = parser.parse_args()
    if given.case is not None:
        for kind in given.kind or KINDS:
            sys.stdout.write(f"{kind} {given.case}: {attack(kind, given.case, Worker())}\n")
        return 0
    given.folder.mkdir(parents=True, exist_ok=True)
    journal = given.folder / "journal.jsonl"
    counts = {kind: given.count or KINDS[kind][1] for kind in given.kind or KINDS}
    _go_on(journal, counts, time.monotonic() + 60 * given.minutes)
    lines, faults = summary(journal)
    (given.folder / "summary.txt").write_text("\n".join(lines) + "\n")
    sys.stdout.write("\n".join(lines) + "\n")
    return 1 if faults else 0


def _go_on(journal: Path, counts: dict[str, int], deadline: float) -> None:
    """Do the cases that failed once more, and those that the journal does not have, evenly among the kinds."""
    outcomes = last_outcomes(journal)
    done = Counter(kind for kind, _ in outcomes)
    again = [case for case, line in outcomes.items() if line["outcome"] not in SETTLED and case[0] in counts]
    worker = Worker()
    try:
        with journal.open("a", encoding="utf-8") as file:
            while time.monotonic() < deadline:
                kind = min(counts, key=lambda each: done[each] / counts[each])
                if again:
                    kind, number = again.pop()
                elif done[kind] < counts[kind]:
                    number = done[kind]
                    done[kind] += 1
                else:
                    return
                file.write(json.dumps(_line(kind, number, worker)) + "\n")
                file.flush()
    finally:
        worker.close()


def _line(kind: str, number: int, worker: Worker) -> dict[str, object]:
    started = time.monotonic()
    outcome = attack(kind, number, worker)
    return {
        "kind": kind,
        "number": number,
        "outcome": outcome.name,
        "detail": outcome.detail[:300] if outcome.name in SETTLED else outcome.detail,
        "seconds": round(time.monotonic() - started, 2),
    }


def read(journal: Path) -> Iterator[dict[str, object]]:
    """The cases that were done; a line that was cut off is done again."""
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def last_outcomes(journal: Path) -> dict[tuple[str, int], dict[str, object]]:
    """The last line of each case, by its kind and number."""
    return {(str(line["kind"]), int(str(line["number"]))): line for line in read(journal)}


def summary(journal: Path) -> tuple[list[str], int]:
    """A line for each kind and for each fault, and how many faults there are."""
    lines = list(last_outcomes(journal).values())
    shown = []
    for kind in KINDS:
        found = Counter(str(line["outcome"]) for line in lines if line["kind"] == kind)
        if found:
            each = ", ".join(f"{name} {count}" for name, count in found.items())
            shown.append(f"{kind}: {found.total()} cases; {each}")
    faults = [line for line in lines if line["outcome"] not in SETTLED]
    shown += [f"{line['outcome']}: {line['kind']} {line['number']}: {line['detail']}" for line in faults]
    return [*shown, f"{len(faults)} of {len(lines)} cases must not be so"], len(faults)


def sample(kind: str, seconds: float) -> list[tuple[int, Outcome]]:
    """The faults among the cases of one kind that fit into some seconds, from a place that the day decides."""
    worker, start, faults = Worker(), time.time_ns() % KINDS[kind][1], []
    deadline = time.monotonic() + seconds
    try:
        for number in range(start, start + KINDS[kind][1]):
            outcome = attack(kind, number, worker)
            if outcome.name not in SETTLED:
                faults.append((number, outcome))
            if time.monotonic() > deadline:
                break
    finally:
        worker.close()
    return faults


if __name__ == "__main__":
    sys.exit(main())
