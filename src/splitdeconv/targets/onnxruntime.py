"""ONNX Runtime: its CPU provider, or another provider of the installed package."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from splitdeconv.deconv.ops import NativeDeconv, Program
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.results.record import Environment
from splitdeconv.targets import onnx_probe, operators, processor
from splitdeconv.targets.target import CompileError, Measuring, one_line

_SUFFIX = "ExecutionProvider"
_CPU = "CPU" + _SUFFIX
_DEVICES = {"cuda": "cuda", "tensorrt": "cuda", "nvtensorrtrtx": "cuda"}  # where a provider keeps tensors; else cpu
_FATAL = 4


class OnnxRuntime(Measuring):
    """A provider of ONNX Runtime: ``onnxruntime`` (CPU), ``onnxruntime:cuda`` and so on."""

    formats = ("onnx",)
    reshape_is_free = True  # inside of a model, where it shares its input's memory

    def __init__(self, option: str = "", *, threads: int = 0) -> None:
        self._provider = _provider(option or "cpu")
        self._threads = threads
        self._probes = onnx_probe.Probes()
        short = self._provider.removesuffix(_SUFFIX).lower()
        self._device = _DEVICES.get(short, "cpu")
        self.name = "onnxruntime" if short == "cpu" else f"onnxruntime:{short}"

    def environment(self) -> Environment:
        return Environment(
            target=self.name,
            versions={"onnxruntime": onnxruntime.__version__},
            processor=processor.name(),
            threads=self._threads,
            options={"provider": self._provider, **processor.description()},
        )

    def refuse(self, program: Program) -> str | None:
        beyond = any(axis.output_pad >= axis.stride for axis in program.deconv.axes)
        if beyond and NativeDeconv in operators.kinds(program):
            return "ONNX Runtime's deconv reads outside its buffer when output_padding reaches the stride"
        return self._probes.refuse(program, self.compile)

    def compile(self, model: bytes | Path, *, whole: bool = False) -> OnnxRuntimeModel:
        return self._compile(model, self._options())

    def compile_plain(self, model: bytes | Path) -> OnnxRuntimeModel:
        options = self._options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return self._compile(model, options)

    def _compile(self, model: bytes | Path, options: onnxruntime.SessionOptions) -> OnnxRuntimeModel:
        source = model if isinstance(model, bytes) else os.fspath(model)
        providers = [self._provider] if self._provider == _CPU else [self._provider, _CPU]
        try:
            session = onnxruntime.InferenceSession(source, options, providers=providers, enable_fallback=0)
        except Exception as error:  # the runtime's errors share no base class
            raise CompileError(one_line(error)) from error
        if self._provider not in session.get_providers():
            raise CompileError(f"{self._provider} does not start on this machine")
        return OnnxRuntimeModel(session, self._device)

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads of one session that spin after its run would slow the next session's: see docs/decisions/measuring.md
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options


class OnnxRuntimeModel:
    """A session, and the device on which it keeps tensors."""

    def __init__(self, session: onnxruntime.InferenceSession, device: str) -> None:
        self._session = session
        self._device = device
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            found = self._session.run(self._outputs, dict(inputs))
        except Exception as error:  # the runtime's errors share no base class
            raise CompileError(one_line(error)) from error
        return dict(zip(self._outputs, found, strict=True))

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that runs once on ``inputs``, which lie on the provider's device already.

        Raises:
            CompileError: as :meth:`run`.
        """
        binding = self._session.io_binding()
        for name, values in inputs.items():
            placed = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(values), self._device, 0)
            binding.bind_ortvalue_input(name, placed)
        run = partial(self._session.run_with_iobinding, binding)
        run = run if self._device == "cpu" else partial(_run_to_the_end, run, binding)
        anew = partial(self._bind_outputs, binding)
        anew()
        try:
            run()
        except Exception as error:  # the runtime's errors share no base class
            raise CompileError(one_line(error)) from error
        return partial(_run_anew, anew, run) if self._contradicts(binding) else run

    def _bind_outputs(self, binding: Any) -> None:
        """Let the provider allocate the outputs at the next run."""
        for name in self._outputs:
            binding.bind_output(name, self._device)

    def _contradicts(self, binding: Any) -> bool:
        """Whether the outputs of the last run have other sizes than the model states, which ends a second run."""
        stated = (output.shape for output in self._session.get_outputs())
        found = (value.shape() for value in binding.get_outputs())
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


def _provider(option: str) -> str:
    """The installed provider that ``option`` names, without regard to case.

    Raises:
        UsageError: it is not in the installed package.
    """
    installed = onnxruntime.get_available_providers()
    for provider in installed:
        if option.lower() in (provider.lower(), provider.removesuffix(_SUFFIX).lower()):
            return str(provider)
    names = ", ".join(sorted(provider.removesuffix(_SUFFIX).lower() for provider in installed))
    known = {provider.removesuffix(_SUFFIX).lower() for provider in onnxruntime.get_all_providers()}
    other = ", which another package of ONNX Runtime brings" if option.lower() in known else ""
    raise UsageError(f"the installed onnxruntime has no provider '{option}'{other}; it has {names}")
