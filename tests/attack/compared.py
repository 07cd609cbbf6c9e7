"""Commands on sound models, whose results must have the outputs of the original."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from tests.attack import stretched
from tests.attack.harness import Outcome, Worker, case_folder, run
from tests.attack.originals import outputs, outputs_as_defined

HYBRID = 4e-2  # of the largest value: kernels of int8 weights round inputs to 8 bits, each in its own way
NOISE = {
    "float16": 2e-2,
    "float32": 1e-3,
    "float64": 1e-3,
}  # of the largest value; far above any rounding, far below a fault


def on_sound_model(worker: Worker, model: onnx.ModelProto, command: list[str], before: list[Any]) -> Outcome:
    """One command on a model with the outputs ``before``, which its result ``o.onnx``, if there is one, must have."""
    files = {"m.onnx": model.SerializeToString()}
    with case_folder(files) as folder:
        outcome = run(worker, command, files, folder, sound=True)
        out = folder / "o.onnx"
        if outcome.name != "ok" or not out.exists():
            return outcome
        onnx.checker.check_model(str(out))
        result = out.read_bytes()
    # What another runtime is to run may have operators that ONNX Runtime has no kernels for.
    after = outputs(result) or outputs_as_defined(result)
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
