"""LiteRT (formerly TensorFlow Lite) on the CPU: XNNPACK, or the reference kernels."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from splitdeconv.errors import UsageError
from splitdeconv.results import Candidate, Environment, Measurement
from splitdeconv.spec import Deconv
from splitdeconv.targets.base import Compiled, CompileError
from splitdeconv.targets.child import Child
from splitdeconv.weights import Array

KERNELS = {"xnnpack": OpResolverType.BUILTIN, "reference": OpResolverType.BUILTIN_REF}
WARM_UP_ROUNDS = 2
FEWEST_ROUNDS = 5


class LiteRt:
    """Implements :class:`~splitdeconv.targets.base.Target` for ``litert``, ``litert:xnnpack``, ``litert:reference``.

    Models are first tried in a child process, so that one that brings the interpreter down is a refusal.
    """

    formats = ("tflite",)
    kind: Literal["measured"] = "measured"

    def __init__(self, option: str = "", *, threads: int = 0) -> None:
        self.kernels = option or "xnnpack"
        if self.kernels not in KERNELS:
            raise UsageError(f"target 'litert' has no kernels '{option}'; there are {', '.join(KERNELS)}")
        self.name = f"litert:{self.kernels}"
        self.threads = threads or 1
        self._child = Child(["-m", "splitdeconv.targets.litert_trial", self.kernels, str(self.threads)])

    def environment(self) -> Environment:
        versions = {"ai-edge-litert": version("ai-edge-litert"), "numpy": np.__version__}
        options = {"kernels": self.kernels}
        return Environment(self.name, versions, platform.processor() or platform.machine(), self.threads, options)

    def refuse(self, deconv: Deconv, candidate: Candidate) -> str | None:
        if candidate.lowering == "zero_insert" and max(deconv.strides) > 1:
            return "zero insertion multiplies by the inserted zeros, which LiteRT does not skip"
        if candidate.after:
            return "LiteRT's maps have one layout only"
        quant = deconv.quant
        if quant is not None and candidate.form == "depth_to_space" and not self._moves(quant.activation):
            return f"LiteRT's {self.kernels} DEPTH_TO_SPACE does not take {quant.activation}"
        return None

    def _moves(self, activation: str) -> bool:
        return activation != "int16" and (self.kernels != "reference" or activation == "uint8")

    def compile(self, model: bytes) -> Compiled:
        self._child.ask(model)
        return LiteRtModel(interpreter(model, self.kernels, self.threads))

    def measure(
        self, candidates: Mapping[Candidate, Compiled], inputs: Mapping[str, Array], seconds: float
    ) -> dict[Candidate, Measurement]:
        models = {name: model for name, model in candidates.items() if isinstance(model, LiteRtModel)}
        for model in models.values():
            model.set(inputs)
            for _ in range(WARM_UP_ROUNDS):
                model.invoke()
        times: dict[Candidate, list[float]] = {name: [] for name in models}
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or min(map(len, times.values()), default=FEWEST_ROUNDS) < FEWEST_ROUNDS:
            for name, model in models.items():
                start = time.perf_counter()
                model.invoke()
                times[name].append((time.perf_counter() - start) * 1e3)
        return {name: _summary(found) for name, found in times.items()}


class LiteRtModel:
    """A model in the interpreter. Variables keep their values from run to run, as in the interpreter."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter
        self._inputs = {detail["name"]: detail for detail in interpreter.get_input_details()}
        self._outputs = interpreter.get_output_details()

    @property
    def inputs(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Shape and type of every input, open sizes as 1."""
        return {
            name: (tuple(int(size) for size in detail["shape"]), np.dtype(detail["dtype"]).name)
            for name, detail in self._inputs.items()
        }

    @property
    def delegated(self) -> bool:
        """Whether XNNPACK runs any part of the model."""
        return any(detail["op_name"] == "DELEGATE" for detail in self._interpreter._get_ops_details())

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.set(inputs)
        self.invoke()
        return {detail["name"]: self._interpreter.get_tensor(detail["index"]) for detail in self._outputs}

    def set(self, inputs: Mapping[str, Array]) -> None:
        """Copy arrays into the inputs, resizing those whose sizes are open.

        Raises:
            UsageError: no such input, or an array that does not fit it.
        """
        resized = False
        for name, array in inputs.items():
            if name not in self._inputs:
                raise UsageError(f"the model has no input '{name}'; it has {', '.join(self._inputs)}")
            detail = self._inputs[name]
            if tuple(array.shape) != tuple(detail["shape"]):
                self._interpreter.resize_tensor_input(detail["index"], array.shape, strict=True)
                resized = True
        if resized:
            self._interpreter.allocate_tensors()
        for name, array in inputs.items():
            try:
                self._interpreter.set_tensor(self._inputs[name]["index"], array)
            except ValueError as error:
                raise UsageError(f"input '{name}': {error}") from None

    def invoke(self) -> None:
        """Run once on the inputs that are set."""
        self._interpreter.invoke()


def interpreter(model: bytes, kernels: str, threads: int) -> Any:
    """An interpreter with its tensors allocated.

    Raises:
        CompileError: it does not take the model, in its own words.
    """
    try:
        made = Interpreter(model_content=model, num_threads=threads, experimental_op_resolver_type=KERNELS[kernels])
        made.allocate_tensors()
    except (ValueError, RuntimeError, TypeError) as error:
        raise CompileError(" ".join(str(error).split())) from None
    return made


def _summary(times: list[float]) -> Measurement:
    low, median, high = np.percentile(times, [25, 50, 75])
    return Measurement(float(median), float(low), float(high), len(times))
