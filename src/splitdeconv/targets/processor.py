"""What can be said cheaply about the processor that measures: its name, instruction sets and memory."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

INSTRUCTIONS = (  # those that decide which convolution kernels a runtime takes
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
)


_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of both kinds of cgroups


@cache
def name() -> str:
    """The processor's own name, or its architecture where the system does not tell."""
    if (found := _cpuinfo().get("model name")) is not None:
        return found
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.strip():
            return answer.stdout.strip()
    return platform.processor() or platform.machine()


@cache
def description() -> dict[str, str]:
    """Processors, instruction sets and memory, where they are known; for an environment's options."""
    flags = set((_cpuinfo().get("flags") or _cpuinfo().get("Features") or "").split())
    found = {
        "processors": str(_usable_processors()),
        "instructions": " ".join(flag for flag in INSTRUCTIONS if flag in flags),
        "memory_gib": _memory_gib(),
    }
    return {key: text for key, text in found.items() if text}


def _usable_processors() -> int:
    """Logical processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_gib() -> str:
    """Memory in GiB, rounded, because kernels keep a varying part of it."""
    return str(round(_physical_bytes() / 2**30)) if _physical_bytes() else ""


def memory_bytes() -> int:
    """Memory that this process may use: the machine's, or less where a container limits it; 0 where nobody tells."""
    limits = [_physical_bytes()]
    for path in _LIMITS:
        with suppress(OSError, ValueError):
            limits.append(int(Path(path).read_text(encoding="ascii")))
    return min((limit for limit in limits if limit), default=0)


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


@cache
def _cpuinfo() -> dict[str, str]:
    """First entry of each name in Linux's /proc/cpuinfo; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        key, colon, text = line.partition(":")
        if colon:
            found.setdefault(key.strip(), text.strip())
    return found
