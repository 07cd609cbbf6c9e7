"""ONNX Runtime in its own process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnxruntime

from splitdeconv.errors import CompileError
from splitdeconv.workers.engine import Feeds, serve_engine

CPU = "CPUExecutionProvider"
_FATAL = 4


class OnnxRuntimeEngine:
    """Options: ``provider``, ``device`` (where it keeps tensors), ``threads``, ``plain`` (nothing is rewritten)."""

    def describe(self) -> Mapping[str, Any]:
        return {
            "version": onnxruntime.__version__,
            "providers": onnxruntime.get_available_providers(),
            "known": onnxruntime.get_all_providers(),
        }

    def compile(self, model: bytes | str, options: Mapping[str, Any]) -> Session:
        provider = options["provider"]
        providers = [provider] if provider == CPU else [provider, CPU]
        session = onnxruntime.InferenceSession(model, _session(options), providers=providers, enable_fallback=0)
        if provider not in session.get_providers():
            raise CompileError(f"{provider} does not start on this machine")
        return Session(session, options["device"])


def _session(options: Mapping[str, Any]) -> onnxruntime.SessionOptions:
    made = onnxruntime.SessionOptions()
    made.log_severity_level = _FATAL
    made.intra_op_num_threads = options["threads"]
    made.inter_op_num_threads = 1
    # Threads of one session that spin after its run would slow the next session's: see docs/decisions/measuring.md
    made.add_session_config_entry("session.force_spinning_stop", "1")
    if options["plain"]:
        made.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return made


class Session:
    """A session, and the device on which it keeps tensors."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str) -> None:
        self._session = session
        self._device = device
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Feeds) -> Iterable[tuple[str, object]]:
        return zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True)

    def prepare(self, inputs: Feeds) -> Callable[[], object]:
        """A call that runs once on ``inputs``, which lie on the provider's device already."""
        binding = self._session.io_binding()
        for name, values in inputs.items():
            placed = onnxruntime.OrtValue.ortvalue_from_numpy(np.asarray(values, order="C"), self._device, 0)
            binding.bind_ortvalue_input(name, placed)
        run = partial(self._session.run_with_iobinding, binding)
        run = run if self._device == "cpu" else partial(_run_to_the_end, run, binding)
        anew = partial(self._bind_outputs, binding)
        anew()
        run()
        return partial(_run_anew, anew, run) if self._contradicts(binding) else run

    def _bind_outputs(self, binding: Any) -> None:
        """Let the provider allocate the outputs at the next run."""
        for name in self._outputs:
            binding.bind_output(name, self._device)

    def _contradicts(self, binding: Any) -> bool:
        """Whether the outputs of the last run have other sizes than the model states, which ends a second run."""
        stated = (output.shape for output in self._session.get_outputs())
        found = (value.shape() if value.is_tensor() else () for value in binding.get_outputs())
        return any(
            isinstance(size, int) and size != real
            for sizes, shape in zip(stated, found, strict=True)
            for size, real in zip(sizes, shape, strict=False)
        )


def _run_anew(bind_outputs: Callable[[], None], run: Callable[[], object]) -> None:
    """A run that does not compare its outputs with those of the run before."""
    bind_outputs()
    run()


def _run_to_the_end(run: Callable[[], object], binding: Any) -> None:
    """Devices work on after the call; wait for them."""
    run()
    binding.synchronize_outputs()


def main() -> None:
    """Serve until standard input ends."""
    serve_engine(OnnxRuntimeEngine())
