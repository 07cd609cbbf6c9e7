"""What ONNX Runtime makes of a model, in a process of its own: some sound models bring it down."""

from __future__ import annotations

import itertools
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

EVALUATED = 21  # the opset whose operators the evaluator has; those of converted models compute the same since opset 11
TRIES = 2  # of a process that dies: a machine that is short of memory kills some too


class RuntimeDiedError(Exception):
    """A model brings ONNX Runtime down, each time that it is run."""


def outputs(content: bytes, size: int = 0) -> list[Any] | None:
    """The outputs on fixed inputs, or None where it does not run the model.

    Args:
        content: of its file.
        size: of all axes that the model leaves open; 0 gives each another one.

    Raises:
        RuntimeDiedError: it dies of it.
    """
    return _in_process(_outputs, content, size)


def outputs_in_chunks(content: bytes, frames: int) -> list[Any] | None:
    """The outputs of a model that works in chunks, over chunks of uneven sizes, as the documentation says to run it.

    Raises:
        RuntimeDiedError: ONNX Runtime dies of it.
    """
    return _in_process(_outputs_in_chunks, content, frames)


def outputs_as_defined(content: bytes) -> list[Any] | None:
    """As :func:`outputs` by ONNX's own evaluator: ONNX Runtime's integer kernels saturate on some processors."""
    try:
        model = onnx.ModelProto.FromString(content)
        for each in model.opset_import:
            each.version = max(each.version, EVALUATED) if not each.domain else each.version
        evaluator = ReferenceEvaluator(model)
        (x,) = evaluator.input_types
        shape = [dim.dim_value for dim in x.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(x.tensor_type.elem_type)
        found: list[Any] = evaluator.run(None, {evaluator.input_names[0]: _values(shape, dtype.name)})
    except Exception:  # it lacks operators
        return None
    return found


def _in_process(work: Callable[[bytes, int], list[Any] | None], content: bytes, size: int) -> list[Any] | None:
    for _ in range(TRIES):
        try:
            return _process().submit(work, content, size).result()
        except BrokenExecutor:
            _process.cache_clear()
    raise RuntimeDiedError


@cache
def _process() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def _session(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _drawn(x: Any, size: int, seed: int = 0) -> Any:
    shape = [each if isinstance(each, int) else size or 2 + axis for axis, each in enumerate(x.shape)]
    return _values(shape, _dtype(x.type), seed)


def _values(shape: list[int], dtype: str, seed: int = 0) -> Any:
    drawn = np.random.default_rng(seed).standard_normal(shape) * (1 if "float" in dtype else 40)
    return drawn.astype(dtype)


def _outputs(content: bytes, size: int) -> list[Any] | None:
    try:
        session = _session(content)
        fed = {x.name: _drawn(x, size, seed) for seed, x in enumerate(session.get_inputs())}
        outputs: list[Any] = session.run(None, fed)
    except Exception:  # whatever it says: the model is not one that it runs
        return None
    return outputs


def _outputs_in_chunks(content: bytes, frames: int) -> list[Any] | None:
    try:
        session = _session(content)
        how = json.loads(session.get_modelmeta().custom_metadata_map["splitdeconv.streaming"])
        ((name, axis),) = how["inputs"].items()
        inputs = {each.name: each for each in session.get_inputs()}
        x, multiple, late = _drawn(inputs[name], frames), how["multiple"], how["latency"]
        states = {each: np.zeros(inputs[each].shape, _dtype(inputs[each].type)) for each in how["states"]}
        bounds = [min(frames, multiple * at) for at in (0, 1, 4, 5, 9)]
        bounds += [frames, frames + late] if late else [frames]
        whole = np.concatenate([x, np.ones_like(x.take(range(late), axis, mode="wrap"))], axis)
        parts: dict[str, list[Any]] = {each: [] for each in how["outputs"]}
        for begin, end in itertools.pairwise(dict.fromkeys(bounds)):
            fed = {name: whole.take(range(begin, end), axis), how["beyond"]: np.array(max(0, end - frames)), **states}
            found = dict(zip([each.name for each in session.get_outputs()], session.run(None, fed), strict=True))
            states = {each: found[after] for each, after in how["states"].items()}
            for each, made in parts.items():
                made.append(found[each])
        return [_kept(how["outputs"][each], made, frames) for each, made in parts.items()]
    except Exception:  # as above
        return None


def _dtype(kind: str) -> str:
    return {"float": "float32", "double": "float64"}.get(found := kind[7:-1], found)


def _kept(output: dict[str, Any], parts: list[Any], frames: int) -> Any:
    length = int(Fraction(str(output["rate"])) * frames) + output["extra"]
    return np.concatenate(parts, output["axis"]).take(range(output["skip"], output["skip"] + length), output["axis"])
