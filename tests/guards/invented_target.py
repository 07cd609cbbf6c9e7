"""A target whose times are invented, and the clock that they are taken on. Results come from ONNX Runtime.

This is the one module of the guards that knows how a target is written: where that changes, it is adapted here. A time
is a function of what the model computes (operators, attributes, types, shapes, whole-number constants), not of names or
trained weights, so that a model that is only written with other names takes as long as before. The clock stands still
but while something is timed, so that budgets come out the same on each machine.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import onnx

from splitdeconv import targets
from splitdeconv.deconv.network import Compilable
from splitdeconv.results.record import Environment
from splitdeconv.results.times import NO_SECONDS, Measurement, Untimed, summary
from splitdeconv.targets import CompileError

NAME = "invented"
ROUNDS, FEWEST_ROUNDS, DROPPED_ROUNDS = 10, 5, 3
STEPS = 32  # of a sixteenth of a millisecond, from 1 ms on: equal times occur
JITTER, LOAD = 0.03, 0.1  # shares by which one form, and all forms of a round together, are slower
COMPILE_SECONDS = 0.02  # of ``invented:slow``; no time otherwise

Array = npt.NDArray[Any]

_clock = {"seconds": 0.0}
_log: list[str] = []


@contextmanager
def registered() -> Iterator[list[str]]:
    """``--target invented`` is known and time stands still; gives the list of what is timed meanwhile."""
    _clock["seconds"] = 1000.0
    _log.clear()
    clocks: dict[str, Any] = {
        "perf_counter": lambda: _clock["seconds"],
        "monotonic": lambda: _clock["seconds"],
        "perf_counter_ns": lambda: int(_clock["seconds"] * 1e9),
    }
    line = {NAME: f"{__name__}:Invented"}
    with mock.patch.dict(targets.TARGETS, line), mock.patch.multiple(time, **clocks):
        yield _log


class Invented(targets.Target):
    """``invented``, or with an option: ``estimated``, ``slow`` (compiling takes time), ``no:Operator`` (which it does
    not take), ``wrong:Operator`` (whose results are wrong).
    """

    formats = ("onnx",)

    def __init__(self, option: str = "", *, threads: int = 0) -> None:
        self.name = f"{NAME}:{option}" if option else NAME
        self.kind: Literal["measured", "estimated"] = "estimated" if option == "estimated" else "measured"
        self._option = option
        self._threads = threads
        self._runtime = targets.target("onnxruntime", threads=1)

    def environment(self) -> Environment:
        return Environment(self.name, {NAME: "1"}, "invented", self._threads)

    def compile(self, model: Compilable, *, whole: bool = False) -> InventedModel:
        _clock["seconds"] += COMPILE_SECONDS if self._option == "slow" else 0.0
        content = onnx.load_from_string(model.content) if isinstance(model.content, bytes) else onnx.load(model.content)
        what, _, operator = self._option.partition(":")
        concerned = any(node.op_type == operator for node in content.graph.node)
        if what == "no" and concerned:
            raise CompileError(f"has no {operator}")
        return InventedModel(self._runtime.compile(model), structure(content), wrong=what == "wrong" and concerned)

    def measure(
        self, candidates: Mapping[Any, InventedModel], _: object, seconds: float, *, drop: float = 2.0, **__: object
    ) -> dict[Any, Measurement | Untimed]:
        """As measuring targets do it: the first always, the others while ``seconds`` last; the slow are given up.

        Without a limit to give up at (``drop``), all are timed, in the fewest rounds where seconds are short.
        """
        found: dict[Any, Measurement] = {}
        left = seconds
        for key, model in candidates.items():
            if self.kind == "estimated":
                found[key] = Measurement(model.milliseconds, model.milliseconds, model.milliseconds, 1, "estimated")
                continue
            short = left < ROUNDS * model.milliseconds / 1e3
            if found and short and not math.isinf(drop):
                continue
            fastest = min((time.median_ms for time in found.values()), default=model.milliseconds)
            dropped = model.milliseconds > drop * fastest
            found[key] = model.time(DROPPED_ROUNDS if dropped else FEWEST_ROUNDS if short else ROUNDS)
            spent = sum(found[key].rounds_ms) / 1e3
            left -= spent
            _clock["seconds"] += spent
        _log.append(f"timed {len(found)} of {', '.join(map(str, candidates))} in {seconds:.6f} s")
        return dict.fromkeys(candidates, NO_SECONDS) | found


class InventedModel:
    """A model as ONNX Runtime runs it, and its invented time."""

    def __init__(self, runs: Any, digest: str, *, wrong: bool) -> None:
        self._runs = runs
        self._digest = digest
        self._wrong = wrong
        self.milliseconds = 1 + int(STEPS * _share(digest)) / 16

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = self._runs.run(inputs)
        return {name: np.flip(array) for name, array in found.items()} if self._wrong else found

    def time(self, rounds: int) -> Measurement:
        loads = [1 + LOAD * _share(str(number)) for number in range(rounds)]
        jitters = [1 + JITTER * (_share(self._digest, number) - 0.5) for number in range(rounds)]
        return summary([1e6 * self.milliseconds * load * own for load, own in zip(loads, jitters, strict=True)])


def _share(*parts: object) -> float:
    """A number from 0 to 1 that looks random."""
    return int(_digest(*parts)[:8], 16) / 2**32


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def structure(model: onnx.ModelProto) -> str:
    """A digest of what the outputs are computed from, whatever the names and the order of independent nodes."""
    bodies = {(each.domain, each.name): each.SerializeToString() for each in model.functions}
    return _digest(_outputs(model.graph, {}, bodies))


def _outputs(graph: onnx.GraphProto, outer: Mapping[str, str], bodies: Mapping[tuple[str, str], bytes]) -> list[str]:
    known = {**outer, "": ""}
    for number, each in enumerate(graph.input):
        sizes = [size.dim_value or size.dim_param for size in each.type.tensor_type.shape.dim]
        known[each.name] = _digest("input", number, each.type.tensor_type.elem_type, sizes)
    known |= {each.name: _constant(each) for each in graph.initializer}
    for node in graph.node:
        attributes = [_attribute(each, known, bodies) for each in sorted(node.attribute, key=lambda each: each.name)]
        inputs = [known[name] for name in node.input]
        whole = _digest(node.op_type, attributes, inputs, bodies.get((node.domain, node.op_type)))
        known |= {name: _digest(whole, number) for number, name in enumerate(node.output)}
    return [known[each.name] for each in graph.output]


def _attribute(found: onnx.AttributeProto, known: Mapping[str, str], bodies: Mapping[tuple[str, str], bytes]) -> str:
    if found.HasField("g"):
        return _digest(found.name, _outputs(found.g, known, bodies))
    return _digest(found.name, _constant(found.t) if found.HasField("t") else found.SerializeToString())


def _constant(found: onnx.TensorProto) -> str:
    """Sizes, axes and pads count with their values, all else with its type and shape."""
    values = onnx.numpy_helper.to_array(found).tolist() if found.data_type == onnx.TensorProto.INT64 else None
    return _digest("constant", found.data_type, list(found.dims), values)
