"""Runtimes, compilers and modelled processors. One line here, one module and one extra make a new one."""

from __future__ import annotations

from typing import cast

from splitdeconv import plugins
from splitdeconv.targets.base import Compiled, CompileError, Target

TARGETS = {
    "accelerator": "splitdeconv.targets.accelerator:Accelerator",
    "onnxruntime": "splitdeconv.targets.onnxruntime:OnnxRuntime",
}

__all__ = ["TARGETS", "CompileError", "Compiled", "Target", "target"]


def target(text: str, *, threads: int = 0) -> Target:
    """The target named ``name`` or ``name:option`` (a device, a configuration).

    Args:
        text: as on the command line.
        threads: worker threads; 0 leaves it to the target.

    Raises:
        UsageError: no such target, or it does not know the option.
        MissingExtraError: its package is not installed.
    """
    name, _, option = text.partition(":")
    return cast("Target", plugins.load("target", name, TARGETS)(option, threads=threads))
