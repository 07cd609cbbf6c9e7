"""Runtimes, compilers and modelled processors. One line here, one module and one extra make a new one.

Other packages bring theirs by entry points of the group ``splitdeconv.targets``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from splitdeconv import plugins
from splitdeconv.errors import UsageError
from splitdeconv.targets.target import Compiled, CompileError, Target

TARGETS = plugins.registry(
    "target",
    {
        "command": "splitdeconv.targets.command:Command",
        "accelerator": "splitdeconv.targets.accelerator:Accelerator",
        "onnxruntime": "splitdeconv.targets.onnxruntime:OnnxRuntime",
        "openvino": "splitdeconv.targets.openvino:OpenVino",
        "litert": "splitdeconv.targets.litert:LiteRt",
        "vela": "splitdeconv.targets.vela:Vela",
        "torch": "splitdeconv.targets.torch:Torch",
    },
)

__all__ = ["TARGETS", "CompileError", "Compiled", "Target", "target"]

MOST_THREADS = 1024


def target(text: str, *, threads: int = 0, precision: str = "") -> Target:
    """The target named ``name`` or ``name:option`` (a device, a configuration).

    Args:
        text: as on the command line.
        threads: worker threads; 0 leaves it to the target.
        precision: arithmetic to compute in, for targets that have ``precisions``; empty keeps the model's.

    Raises:
        UsageError: no such target, or it does not know the option.
        MissingExtraError: its package is not installed.
    """
    name, _, option = text.partition(":")
    if not 0 <= threads <= MOST_THREADS:
        raise UsageError(f"--threads {threads}: wanted 1 to {MOST_THREADS}, or 0 for the target's own choice")
    kind: type[Target] = plugins.load("target", name, TARGETS)
    options: dict[str, Any] = {"threads": threads}
    if precision:
        if precision not in kind.precisions:
            there = f"there are {', '.join(kind.precisions)}" if kind.precisions else "it computes in the model's own"
            raise UsageError(f"target '{name}' knows no --precision {precision}; {there}")
        options["precision"] = precision
    made: Callable[..., Target] = kind
    return made(option, **options)
