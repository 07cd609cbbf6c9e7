"""ONNX Runtime: its CPU provider, or another provider of the installed package."""

from __future__ import annotations

from typing import Any

from splitdeconv import plugins
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.ops import NativeDeconv
from splitdeconv.deconv.program import Program
from splitdeconv.errors import UsageError
from splitdeconv.results.record import Environment
from splitdeconv.targets import onnx_probe, processor
from splitdeconv.targets.remote import Remote, RemoteModel, Runtime, runtime_in
from splitdeconv.targets.target import kinds

plugins.require("onnxruntime")

_SUFFIX = "ExecutionProvider"
_DEVICES = {"cuda": "cuda", "tensorrt": "cuda", "nvtensorrtrtx": "cuda"}  # where a provider keeps tensors; else cpu


class OnnxRuntime(Remote):
    """A provider of ONNX Runtime: ``onnxruntime`` (CPU), ``onnxruntime:cuda`` and so on."""

    formats = ("onnx",)
    reshape_is_free = True  # inside of a model, where it shares its input's memory

    def __init__(self, option: str = "", *, threads: int = 0) -> None:
        super().__init__(runtime_in("splitdeconv.workers.onnxruntime"))
        self._provider = _provider(self._runtime, option) if option else "CPU" + _SUFFIX
        self._threads = threads
        self._probes = onnx_probe.Probes()
        short = self._provider.removesuffix(_SUFFIX).lower()
        self._device = _DEVICES.get(short, "cpu")
        self.name = "onnxruntime" if short == "cpu" else f"onnxruntime:{short}"

    def environment(self) -> Environment:
        return Environment(
            target=self.name,
            versions={"onnxruntime": self._runtime.described["version"]},
            processor=processor.name(),
            threads=self._threads,
            options={"provider": self._provider, **processor.description()},
        )

    def refuse(self, program: Program) -> str | None:
        beyond = any(axis.output_pad >= axis.stride for axis in program.deconv.axes)
        if beyond and NativeDeconv in kinds(program):
            return "ONNX Runtime's deconv reads outside its buffer when output_padding reaches the stride"
        return self._probes.refuse(program, self.compile)

    def compile_plain(self, model: Compilable) -> RemoteModel:
        return RemoteModel(self._runtime, model.content, self._options(plain=True))

    def _options(self, *, plain: bool = False) -> dict[str, Any]:
        return {"provider": self._provider, "device": self._device, "threads": self._threads, "plain": plain}


def _provider(runtime: Runtime, option: str) -> str:
    """The installed provider that ``option`` names, without regard to case.

    Raises:
        UsageError: it is not in the installed package.
    """
    installed: list[str] = runtime.described["providers"]
    for provider in installed:
        if option.lower() in (provider.lower(), provider.removesuffix(_SUFFIX).lower()):
            return provider
    names = ", ".join(sorted(provider.removesuffix(_SUFFIX).lower() for provider in installed))
    known = {provider.removesuffix(_SUFFIX).lower() for provider in runtime.described["known"]}
    other = ", which another package of ONNX Runtime brings" if option.lower() in known else ""
    raise UsageError(f"the installed onnxruntime has no provider '{option}'{other}; it has {names}")
