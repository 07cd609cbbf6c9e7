"""An ONNX Runtime that does not take one model, for tests of what is then said and left unwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitdeconv.targets import CompileError
from splitdeconv.targets.onnxruntime import OnnxRuntime


def break_runtime(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """ONNX Runtime refuses the model file ``name``, for the rest of a test."""
    sound = OnnxRuntime.compile

    def broken(self: OnnxRuntime, model: bytes | Path, *, whole: bool = False) -> object:
        if isinstance(model, Path) and model.name == name:
            raise CompileError("no kernel")
        return sound(self, model, whole=whole)

    monkeypatch.setattr(OnnxRuntime, "compile", broken)
