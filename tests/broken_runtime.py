"""An ONNX Runtime that does not take one model, for tests of what is then said and left unwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitdeconv.targets import CompileError
from splitdeconv.targets.onnxruntime import OnnxRuntime


def break_runtime(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """ONNX Runtime refuses the model file ``name``, for the rest of a test."""
    whole = OnnxRuntime.compile

    def broken(self: OnnxRuntime, given: bytes | Path) -> object:
        if isinstance(given, Path) and given.name == name:
            raise CompileError("no kernel")
        return whole(self, given)

    monkeypatch.setattr(OnnxRuntime, "compile", broken)
