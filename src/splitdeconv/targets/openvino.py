"""OpenVINO on one of its devices."""

from __future__ import annotations

from typing import Any

from splitdeconv import plugins
from splitdeconv.deconv.program import Program
from splitdeconv.errors import UsageError
from splitdeconv.results.record import Environment
from splitdeconv.targets import onnx_probe, processor
from splitdeconv.targets.remote import Remote, Runtime, runtime_in

plugins.require("openvino")

_HINTS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_CAPABILITIES = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16"}


class OpenVino(Remote):
    """A device of OpenVINO: ``openvino`` (CPU), ``openvino:GPU`` and so on.

    Left alone, OpenVINO computes float32 models in bfloat16 where the processor has it. Here they stay float32 unless
    ``precision`` says otherwise.
    """

    formats = ("onnx",)
    reshape_is_free = True  # inside of a model, where it shares its input's memory
    precisions = tuple(_HINTS)

    def __init__(self, option: str = "", *, threads: int = 0, precision: str = "float32") -> None:
        super().__init__(runtime_in("splitdeconv.workers.openvino"))
        self._device = _device(self._runtime, option) if option else "CPU"
        self._threads = threads
        self._precision = _precision(self._runtime, self._device, precision)
        self._probes = onnx_probe.Probes()
        self.name = "openvino" if self._device == "CPU" else f"openvino:{self._device}"

    def environment(self) -> Environment:
        described = self._runtime.described
        return Environment(
            target=self.name,
            versions={"openvino": described["version"]},
            processor=processor.name(),
            threads=self._threads,
            options={
                "device": self._device,
                "device_name": str(described["devices"][self._device]),
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

    def _options(self, *, plain: bool = False) -> dict[str, Any]:
        config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
        }
        if self._threads and self._device == "CPU":
            config["INFERENCE_NUM_THREADS"] = self._threads
        return {"device": self._device, "config": config}


def _device(runtime: Runtime, option: str) -> str:
    """The device that ``option`` names, without regard to case.

    Raises:
        UsageError: OpenVINO sees no such device.
    """
    seen: dict[str, str] = runtime.described["devices"]
    for device in seen:
        if option.lower() == device.lower():
            return device
    raise UsageError(f"OpenVINO sees no device '{option}'; it sees {', '.join(seen)}")


def _precision(runtime: Runtime, device: str, precision: str) -> str:
    """``precision``, if the device computes in it; OpenVINO itself would silently take another.

    Raises:
        UsageError: it does not.
    """
    if precision == "float32":
        return precision
    able = runtime.described["capabilities"][device]
    if _CAPABILITIES[precision] not in able:
        names = ", ".join(name for name, capability in _CAPABILITIES.items() if capability in able)
        raise UsageError(f"OpenVINO's {device} does not compute in {precision} on this machine, only in {names}")
    return precision
