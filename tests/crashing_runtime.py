"""An ONNX Runtime whose process dies on some models: what it does with one stands in the name of the model's graph."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import onnx

from splitdeconv.targets.onnxruntime import OnnxRuntime
from splitdeconv.targets.remote import runtime_in
from splitdeconv.workers.engine import Feeds, Loaded, serve_engine
from splitdeconv.workers.onnxruntime import OnnxRuntimeEngine

DIES_WHEN_COMPILED, DIES_WHEN_RUN, DIES_WHEN_TIMED = "dies when compiled", "dies when run", "dies when timed"
STOPS_WHEN_TIMED = "stops when timed"


class CrashingRuntime(OnnxRuntime):
    """``onnxruntime`` in a process that can be brought down."""

    def __init__(self, option: str = "", *, threads: int = 0) -> None:
        super().__init__(option, threads=threads)
        self._runtime = runtime_in(__name__)
        self.name = "crashing"


def that(does: str, model: bytes) -> bytes:
    """The model, which does something else than to run."""
    proto = onnx.load_from_string(model)
    proto.graph.name = does
    return proto.SerializeToString()  # type: ignore[no-any-return]


class CrashingEngine(OnnxRuntimeEngine):
    def compile(self, model: bytes | str, options: Mapping[str, Any]) -> Loaded:  # type: ignore[override]
        content = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model)
        if content.graph.name == DIES_WHEN_COMPILED:
            die()
        return Crashing(super().compile(model, options), content.graph.name)


class Crashing:
    def __init__(self, session: Loaded, does: str) -> None:
        self._session = session
        self._does = does

    def run(self, inputs: Feeds) -> Iterable[tuple[str, object]]:
        if self._does == DIES_WHEN_RUN:
            die()
        return self._session.run(inputs)

    def prepare(self, inputs: Feeds) -> Callable[[], object]:
        prepared = self._session.prepare(inputs)
        return {DIES_WHEN_TIMED: die, STOPS_WHEN_TIMED: stop}.get(self._does, prepared)


def die() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def stop() -> None:
    raise RuntimeError("no more of this")


def main() -> None:
    """The child."""
    serve_engine(CrashingEngine())
