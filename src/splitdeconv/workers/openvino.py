"""OpenVINO in its own process."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino

from splitdeconv.workers.arrays import dtype_of
from splitdeconv.workers.engine import Feeds, serve_engine
from splitdeconv.workers.onnx_names import output_names


class OpenVinoEngine:
    """Options: ``device``, and ``config``, its properties."""

    def __init__(self) -> None:
        self._core = openvino.Core()

    def describe(self) -> Mapping[str, Any]:
        devices = self._core.available_devices
        return {
            "version": openvino.__version__,
            "devices": {device: self._core.get_property(device, "FULL_DEVICE_NAME") for device in devices},
            "capabilities": {
                device: list(self._core.get_property(device, "OPTIMIZATION_CAPABILITIES")) for device in devices
            },
        }

    def compile(self, model: bytes | str, options: Mapping[str, Any]) -> Request:
        compiled = self._core.compile_model(self._core.read_model(model), options["device"], options["config"])
        return Request(compiled, _names(model))


def _names(model: bytes | str) -> tuple[str, ...]:
    if isinstance(model, bytes):
        return output_names(model)
    with Path(model).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return output_names(content)


class Request:
    """A compiled model with one request of its own.

    There is no second request, and input tensors live as long as the model: OpenVINO 2026.4 goes on reading the tensors
    of a request that is gone when another request of the same model, with open sizes, gets an input of another size.

    Args:
        compiled: the model.
        names: of its outputs, in order; OpenVINO calls an output by any of the values that it made one.
    """

    def __init__(self, compiled: openvino.CompiledModel, names: tuple[str, ...]) -> None:
        self._compiled = compiled
        self._names = names
        self._request = compiled.create_infer_request()
        self._held: list[openvino.Tensor] = []

    def run(self, inputs: Feeds) -> Iterable[tuple[str, object]]:
        found = self._request.infer({name: _tensor(values) for name, values in inputs.items()}, share_outputs=True)
        outputs = [_array(port, found[port]) for port in self._compiled.outputs]
        return zip(self._names, outputs, strict=True)

    def prepare(self, inputs: Feeds) -> Callable[[], object]:
        """A call that runs once on ``inputs``, which are handed over here."""
        for name, values in inputs.items():
            tensor = _tensor(values)
            self._held.append(tensor)
            self._request.set_tensor(name, tensor)
        return partial(self._request.infer, share_outputs=True)


def _tensor(values: npt.NDArray[Any]) -> openvino.Tensor:
    """OpenVINO does not know NumPy's bfloat16, and takes its bits."""
    values = np.asarray(values, order="C")
    if values.dtype.name != "bfloat16":
        return openvino.Tensor(values)
    return openvino.Tensor(values.view(np.uint16), openvino.Shape(values.shape), openvino.Type.bf16)


def _array(port: Any, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    is_bfloat16 = port.get_element_type() == openvino.Type.bf16  # given as the bits of another type
    return values.view(dtype_of("bfloat16")) if is_bfloat16 else values


def main() -> None:
    """Serve until standard input ends."""
    serve_engine(OpenVinoEngine())
