"""LiteRT (formerly TensorFlow Lite) on the CPU: XNNPACK, its built-in kernels, or the reference kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.ops import DepthToSpace, Program, Relayout
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.results.record import Environment
from splitdeconv.targets import operators, processor
from splitdeconv.targets.child import Child
from splitdeconv.targets.target import CompileError, Measuring, one_line

KERNELS = {
    "xnnpack": OpResolverType.BUILTIN,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


class LiteRt(Measuring):
    """``litert``, ``litert:xnnpack``, ``litert:builtin`` or ``litert:reference``.

    Models are first tried in a child process, so that one that brings the interpreter down is a refusal.
    """

    formats = ("tflite",)

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
        options |= processor.description()
        return Environment(self.name, versions, processor.name(), self.threads, options)

    def refuse(self, program: Program) -> str | None:
        quant, kinds = program.deconv.quant, operators.kinds(program)
        if program.inserts_zeros and max(program.deconv.strides) > 1:
            return "zero insertion multiplies by the inserted zeros, which LiteRT does not skip"
        if Relayout in kinds:
            return "LiteRT's maps have one layout only"
        if quant is not None and DepthToSpace in kinds and not self._moves(quant.activation):
            return f"LiteRT's {self.kernels} DEPTH_TO_SPACE does not take {quant.activation}"
        return None

    def _moves(self, activation: str) -> bool:
        return self.kernels != "reference" or activation == "uint8"

    def compile(self, model: Compilable, *, whole: bool = False) -> LiteRtModel:
        content = model.read()
        self._child.ask(content)
        try:
            made = interpreter(content, self.kernels, self.threads)
            return LiteRtModel(made, partial(interpreter, content, self.kernels, self.threads))
        except ValueError as error:  # names that are no text
            raise CompileError(one_line(error)) from None


class LiteRtModel:
    """A model in the interpreter.

    Args:
        interpreter: with its tensors allocated.
        restart: makes another one of the same model. Each run then starts from the model's initial state; without it
            variables keep their values from run to run.
    """

    def __init__(self, interpreter: Any, restart: Callable[[], Any] | None = None) -> None:
        self._restart = restart
        self._take(interpreter)

    def _take(self, interpreter: Any) -> None:
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
    def read_by_delegates(self) -> frozenset[int]:
        """Tensors of the main graph that XNNPACK takes in from outside, the constants of its operators included."""
        operators = self._interpreter._get_ops_details()
        return frozenset(int(x) for each in operators if each["op_name"] == "DELEGATE" for x in each["inputs"])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            if self._restart is not None and self._has_state():
                self._take(self._restart())
            self.set(inputs)
            self.invoke()
        except (ValueError, RuntimeError) as error:
            raise CompileError(one_line(error)) from None
        return {detail["name"]: self._interpreter.get_tensor(detail["index"]) for detail in self._outputs}

    def _has_state(self) -> bool:
        """Whether the model has resource variables; tensors that operators change are set back here."""
        self._interpreter.reset_all_variables()
        return any(detail["op_name"] == "VAR_HANDLE" for detail in self._interpreter._get_ops_details())

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that runs once on ``inputs``, which lie in the interpreter already."""
        self.set(inputs)
        return self.invoke

    def set(self, inputs: Mapping[str, Array]) -> None:
        """Copy arrays into the inputs, resizing those whose sizes are open.

        Raises:
            CompileError: no such input, or an array that does not fit it.
        """
        resized = False
        for name, array in inputs.items():
            if name not in self._inputs:
                raise CompileError(f"the model has no input '{name}'; it has {', '.join(self._inputs)}")
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
                raise CompileError(f"input '{name}': {one_line(error)}") from None

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
        raise CompileError(one_line(error)) from None
    return made
