"""LiteRT (formerly TensorFlow Lite) on the CPU: XNNPACK, its built-in kernels, or the reference kernels."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.ops import DepthToSpace, Relayout
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.results.record import Environment
from splitdeconv.targets import processor
from splitdeconv.targets.child import Child
from splitdeconv.targets.target import CompileError, Measuring, kinds, one_line

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
        quant, used = program.deconv.quant, kinds(program)
        if program.inserts_zeros and max(program.deconv.strides) > 1:
            return "zero insertion multiplies by the inserted zeros, which LiteRT does not skip"
        if Relayout in used:
            return "LiteRT's maps have one layout only"
        if quant is not None and DepthToSpace in used and not self._moves(quant.activation):
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
        self._inputs = _by_name(interpreter.get_input_details())
        self._outputs = _by_name(interpreter.get_output_details())

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
        return {name: self._interpreter.get_tensor(detail["index"]) for name, detail in self._outputs.items()}

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


@contextmanager
def _without_news() -> Iterator[None]:
    """Nothing of what LiteRT tells on the standard error (``INFO: Created …``); errors and warnings come through."""
    sys.stderr.flush()
    kept = os.dup(2)
    with TemporaryFile() as told:
        os.dup2(told.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            told.seek(0)
            os.write(2, b"".join(line for line in told if not line.startswith(b"INFO:")))


def _by_name(details: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(distinct([detail["name"] for detail in details]), details, strict=True))


def distinct(names: Sequence[str]) -> list[str]:
    """The names in order; one that others have had gets a number: ``y``, ``y#2``."""
    found: list[str] = []
    for name in names:
        number, new = 1, name
        while new in found:
            number += 1
            new = f"{name}#{number}"
        found.append(new)
    return found


def interpreter(model: bytes, kernels: str, threads: int) -> Any:
    """An interpreter with its tensors allocated.

    Raises:
        CompileError: it does not take the model, in its own words.
    """
    try:
        with _without_news():
            made = Interpreter(model_content=model, num_threads=threads, experimental_op_resolver_type=KERNELS[kernels])
            made.allocate_tensors()
    except (ValueError, RuntimeError, TypeError) as error:
        raise CompileError(one_line(error)) from None
    return made
