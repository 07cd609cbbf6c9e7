"""OpenVINO on one of its devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from splitdeconv.deconv.ops import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.results.record import Environment
from splitdeconv.targets import onnx_probe, processor
from splitdeconv.targets.target import CompileError, Measuring, one_line

_HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_CAPABILITIES = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16"}


class OpenVino(Measuring):
    """A device of OpenVINO: ``openvino`` (CPU), ``openvino:GPU`` and so on.

    Left alone, OpenVINO computes float32 models in bfloat16 where the processor has it. Here they stay float32 unless
    ``precision`` says otherwise.
    """

    formats = ("onnx",)
    reshape_is_free = True  # inside of a model, where it shares its input's memory
    precisions = tuple(_HINTS)

    def __init__(self, option: str = "", *, threads: int = 0, precision: str = "float32") -> None:
        self._core = openvino.Core()
        self._device = _device(self._core, option or "CPU")
        self._threads = threads
        self._precision = _precision(self._core, self._device, precision)
        self._probes = onnx_probe.Probes()
        self.name = "openvino" if self._device == "CPU" else f"openvino:{self._device}"

    def environment(self) -> Environment:
        return Environment(
            target=self.name,
            versions={"openvino": openvino.__version__},
            processor=processor.name(),
            threads=self._threads,
            options={
                "device": self._device,
                "device_name": str(self._core.get_property(self._device, "FULL_DEVICE_NAME")),
                "precision": self._precision,
                **processor.description(),
            },
        )

    def refuse(self, program: Program) -> str | None:
        deconv = program.deconv
        if deconv.dtype == "float64":
            return "OpenVINO computes float64 in float32"
        if deconv.quant is not None and deconv.quant.per_channel and program.quant.startswith("qlinear"):
            return "OpenVINO lays the scales of a QLinearConv along the last axis: per channel it fails or is wrong"
        return self._probes.refuse(program, self.compile)

    def compile(self, model: bytes | Path, *, whole: bool = False) -> OpenVinoModel:
        try:
            read = self._core.read_model(model if isinstance(model, bytes) else os.fspath(model))
            return OpenVinoModel(self._core.compile_model(read, self._device, self._config()))
        except Exception as error:  # RuntimeError mostly, but its front-ends raise others too
            raise CompileError(one_line(error)) from error

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
        }
        if self._threads and self._device == "CPU":
            config["INFERENCE_NUM_THREADS"] = self._threads
        return config


class OpenVinoModel:
    """A compiled model with one request of its own.

    There is no second request, and input tensors live as long as the model: OpenVINO 2026.4 goes on reading the tensors
    of a request that is gone when another request of the same model, with open sizes, gets an input of another size.
    """

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        self._held: list[openvino.Tensor] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            contiguous = {name: np.ascontiguousarray(values) for name, values in inputs.items()}
            found = self._request.infer(contiguous, share_outputs=True)
        except Exception as error:  # RuntimeError mostly, TypeError for arrays of another type
            raise CompileError(one_line(error)) from error
        return {port.get_any_name(): np.array(found[port]) for port in self._compiled.outputs}

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that runs once on ``inputs``, which are handed over here."""
        for name, values in inputs.items():
            tensor = openvino.Tensor(np.ascontiguousarray(values))
            self._held.append(tensor)
            self._request.set_tensor(name, tensor)
        return partial(self._request.infer, share_outputs=True)


def _device(core: openvino.Core, option: str) -> str:
    """The device that ``option`` names, without regard to case.

    Raises:
        UsageError: OpenVINO sees no such device.
    """
    seen = core.available_devices
    for device in seen:
        if option.lower() == device.lower():
            return str(device)
    raise UsageError(f"OpenVINO sees no device '{option}'; it sees {', '.join(seen)}")


def _precision(core: openvino.Core, device: str, precision: str) -> str:
    """``precision``, if the device computes in it; OpenVINO itself would silently take another.

    Raises:
        UsageError: it does not.
    """
    able = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if precision != "float32" and _CAPABILITIES[precision] not in able:
        names = ", ".join(name for name, capability in _CAPABILITIES.items() if capability in able)
        raise UsageError(f"OpenVINO's {device} does not compute in {precision} on this machine, only in {names}")
    return precision
