"""Conversions that are asked for more than other forms: folded, turned, in chunks, of fixed sizes, and undone."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from tests.attack import stretched
from tests.attack.compared import HYBRID, equal, of_result, on_sound_model
from tests.attack.harness import Outcome, Worker, case_folder, run
from tests.attack.onnx_models import float_model, foldable_model, quantised_model, signal_model, sub_pixel_model
from tests.attack.originals import outputs, outputs_in_chunks

TARGETS = ("generic", "generic", "onnxruntime", "openvino")
BUDGET = ("--budget", "0.1")  # the least
SHORT = (*BUDGET, "--no-cache")
FRAMES = 60  # a multiple of the strides


def folded(worker: Worker, rng: Random) -> Outcome:
    """``--fold`` on a deconv between arithmetic with constants."""
    model = foldable_model(rng)
    convert = ["convert", "m.onnx", "o.onnx", "--fold", "--target", rng.choice(TARGETS), *SHORT]
    bench = ["bench", "m.onnx", "--fold", "--target", "onnxruntime", *BUDGET]
    return on_sound_model(worker, model, rng.choice((convert, convert, convert, bench)))


def turned(worker: Worker, rng: Random) -> Outcome:
    """``--to-deconv`` on a sub-pixel convolution."""
    model = sub_pixel_model(rng)
    fold = ["--fold"] if rng.random() < 0.2 else []
    target = rng.choice(("onnxruntime", "openvino"))
    command = ["convert", "m.onnx", "o.onnx", "--to-deconv", *fold, "--target", target, *SHORT]
    return on_sound_model(worker, model, command)


def streamed(worker: Worker, rng: Random) -> Outcome:
    """``--stream`` on a chain of convolutions and deconvs of a signal."""
    model = signal_model(rng)
    content = model.SerializeToString()
    before = outputs(content, FRAMES)
    if before is None:
        return Outcome("not a case")
    command = ["convert", "m.onnx", "o.onnx", "--stream", rng.choice(("2", "x=2")), *SHORT]
    command += ["--target", rng.choice(("generic", "generic", "onnxruntime"))]
    with case_folder({"m.onnx": content}) as folder:
        outcome = run(worker, command, {"m.onnx": content}, folder, sound=True)
        if outcome.name != "ok":
            return outcome
        after = of_result((folder / "o.onnx").read_bytes(), partial(outputs_in_chunks, frames=FRAMES))
    return _judged(outcome, before, after, command)


def restored(worker: Worker, rng: Random) -> Outcome:
    """A conversion and the way back."""
    if rng.random() < 0.3:
        suffix, content, noise, of = "tflite", stretched.tflite_model(rng), HYBRID, stretched.tflite_outputs
    else:
        model = rng.choice((float_model, float_model, quantised_model))(rng)
        suffix, content, noise, of = "onnx", model.SerializeToString(), 0.0, outputs
    before = of(content)
    if before is None:
        return Outcome("not a case")
    came, made, back = (f"{name}.{suffix}" for name in "mob")
    files = {came: content}
    with case_folder(files) as folder:
        outcome = run(worker, ["convert", came, made, "--target", "generic", "--no-verify"], files, folder, sound=True)
        if outcome.name != "ok":
            return outcome
        files[made] = (folder / made).read_bytes()
        command = ["restore", made, back]
        outcome = run(worker, command, files, folder, sound=True)
        if outcome.name != "ok":
            return outcome
        after = of_result((folder / back).read_bytes(), of)
    return _judged(outcome, before, after, command, noise)


def open_tflite(worker: Worker, rng: Random) -> Outcome:
    """A TFLite deconv of open sizes, which ``--input-shape`` fixes or which stay open."""
    content, sizes = stretched.open_tflite_model(rng)
    before = stretched.tflite_outputs(content, sizes)
    if before is None:
        return Outcome("not a case")
    fixed = ["--input-shape", ",".join(map(str, sizes))] if rng.random() < 0.6 else []
    command = ["convert", "m.tflite", "o.tflite", *fixed, "--target", rng.choice(("generic", "litert")), *SHORT]
    with case_folder({"m.tflite": content}) as folder:
        outcome = run(worker, command, {"m.tflite": content}, folder, sound=True)
        if outcome.name != "ok":
            return outcome
        after = stretched.tflite_outputs((folder / "o.tflite").read_bytes(), () if fixed else sizes)
    return _judged(outcome, before, after, command, HYBRID)


def _judged(
    outcome: Outcome, before: list[Any], after: list[Any] | None, command: list[str], noise: float = 0.0
) -> Outcome:
    if after is None:
        return Outcome("wrong", f"{' '.join(command)}: the result does not run")
    same = all(equal(*each, noise=noise) for each in stretched.pairs(before, after))
    return outcome if same else Outcome("wrong", f"{' '.join(command)}: outputs differ")
