"""An ONNX Runtime that does not take one model, for tests of what is then said and left unwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitdeconv.deconv.network import Compilable
from splitdeconv.targets import CompileError
from splitdeconv.targets.onnxruntime import OnnxRuntime


def break_runtime(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """ONNX Runtime refuses the model file ``name``, for the rest of a test."""
    sound = OnnxRuntime.compile

    def broken(self: OnnxRuntime, model: Compilable, *, whole: bool = False) -> object:
        if isinstance(model.content, Path) and model.content.name == name:
            raise CompileError("no kernel")
        return sound(self, model, whole=whole)

    monkeypatch.setattr(OnnxRuntime, "compile", broken)
