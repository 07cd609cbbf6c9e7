"""CPU time and memory of a process and all of its descendants, as Linux counts them; zeros elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

TICK_S = 0.5  # between two looks; a peak between them is not missed


@dataclass
class Usage:
    """What a tree of processes has used since this was made.

    Attributes:
        root: its number.
        cpu_s: CPU time by the last look, in seconds.
        peak_mb: the most memory that was resident in all of them together by the last look, in MB; each process by its
            own peak, so short peaks between two looks are not missed.
    """

    root: int
    cpu_s: float = 0.0
    peak_mb: int = 0
    _before: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for process in _tree(self.root):
            self._before[process] = _cpu_s(process)
            with suppress(OSError):
                Path(f"/proc/{process}/clear_refs").write_text("5")  # the kernel counts its peak anew

    def look(self) -> None:
        """Bring the figures up to date."""
        processes = list(_tree(self.root))
        used = sum(_cpu_s(process) - self._before.get(process, 0.0) for process in processes)
        self.cpu_s = max(self.cpu_s, used)  # what has ended is in its parent's figures, or had its share before
        self.peak_mb = max(self.peak_mb, sum(map(_peak_mb, processes)))


def _tree(root: int) -> Iterator[int]:
    """The process and its descendants."""
    waiting = [root] if sys.platform == "linux" else []
    while waiting:
        process = waiting.pop()
        yield process
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            with suppress(OSError):  # the thread has ended
                waiting.extend(map(int, children.read_text().split()))


def _stat(process: int) -> list[str]:
    """The fields of its state behind the name; empty where it has ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_s(process: int) -> float:
    stat = _stat(process)
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK") if stat else 0.0


def _peak_mb(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) // 1024
