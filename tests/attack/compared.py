"""Commands on sound models, whose results must have the outputs of the original."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from tests.attack import stretched
from tests.attack.harness import Outcome, Worker, case_folder, run
from tests.attack.originals import RuntimeDiedError, outputs, outputs_as_defined

HYBRID = 4e-2  # of the largest value: kernels of int8 weights round inputs to 8 bits, each in its own way
NOISE = {
    "float16": 2e-2,
    "float32": 1e-3,
    "float64": 1e-3,
}  # of the largest value; far above any rounding, far below a fault


def on_sound_model(worker: Worker, model: onnx.ModelProto, command: list[str]) -> Outcome:
    """One command on a model, whose outputs its result ``o.onnx``, if there is one, must have.

    What brings ONNX Runtime down must not bring down the command.
    """
    content = model.SerializeToString()
    files = {"m.onnx": content}
    try:
        before = outputs(content)
    except RuntimeDiedError:
        with case_folder(files) as folder:
            return run(worker, command, files, folder, sound=False)
    if before is None:
        return Outcome("not a case")
    with case_folder(files) as folder:
        outcome = run(worker, command, files, folder, sound=True)
        out = folder / "o.onnx"
        if outcome.name != "ok" or not out.exists():
            return outcome
        onnx.checker.check_model(str(out))
        result = out.read_bytes()
    try:
        after = outputs(result)
    except RuntimeDiedError:
        return Outcome("wrong", f"{' '.join(command)}: ONNX Runtime dies of the result")
    if after is None and "openvino" in command:  # what that is to run may have operators that this has no kernels for
        after = outputs_as_defined(result)
    if after is None:
        return Outcome("wrong", f"{' '.join(command)}: the result does not run")
    same = all(map(equal, before, after)) or all(map(equal, before, outputs_as_defined(result) or after))
    return outcome if same else Outcome("wrong", f"{' '.join(command)}: outputs differ")


def on_sound_tflite(worker: Worker, content: bytes, command: list[str]) -> Outcome:
    """One command on a TFLite model, whose outputs its result ``o.tflite``, if there is one, must have."""
    before = stretched.tflite_outputs(content)
    if before is None:
        return Outcome("not a case")
    files = {"m.tflite": content}
    with case_folder(files) as folder:
        outcome = run(worker, command, files, folder, sound=True)
        if outcome.name != "ok" or not (folder / "o.tflite").exists():
            return outcome
        after = stretched.tflite_outputs((folder / "o.tflite").read_bytes())
    if after is None:
        return Outcome("wrong", f"{' '.join(command)}: the result does not run")
    same = all(equal(*each, noise=HYBRID) for each in stretched.pairs(before, after))
    return outcome if same else Outcome("wrong", f"{' '.join(command)}: outputs differ")


def of_result(content: bytes, of: Callable[[bytes], list[Any] | None]) -> list[Any] | None:
    """What ``of`` makes of a result; None where the runtime dies of it."""
    try:
        return of(content)
    except RuntimeDiedError:
        return None


def equal(before: Any, after: Any, noise: float = 0.0) -> bool:
    """Whether two outputs are equal but for rounding; of whole numbers, but for one step."""
    if before.shape != after.shape or before.dtype != after.dtype:
        return False
    old, new = before.astype(np.float64), after.astype(np.float64)
    if before.dtype.kind != "f":
        return bool(np.all(np.abs(old - new) <= 1))  # where a sum falls between two steps it may go either way
    finite = np.isfinite(old)
    largest = float(np.max(np.abs(old), initial=0.0, where=finite)) or 1.0
    error = float(np.max(np.abs(old - new), initial=0.0, where=finite))
    return bool(np.array_equal(finite, np.isfinite(new))) and error <= max(noise, NOISE[before.dtype.name]) * largest
