"""The kinds of attack; a case follows from its kind and number alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from random import Random

import onnx

from tests import tflite_models
from tests.attack import asked, computed, interpolated, stretched, tflite_asked, torch_asked, torch_programs
from tests.attack.asked import BUDGET, SHORT, TARGETS
from tests.attack.compared import on_sound_model, on_sound_tflite
from tests.attack.harness import Outcome, Worker, case_folder, run
from tests.attack.interrupted import full_disk, interrupted
from tests.attack.mutate import damaged
from tests.attack.onnx_models import float_model, quantised_model
from tests.attack.originals import RuntimeDiedError

Case = Callable[[Worker, Random], Outcome]


def commands(worker: Worker, rng: Random) -> Outcome:
    """Any command with any target on a random model of floats."""
    model = float_model(rng)
    command = _command(rng)
    if command[0] == "bench" and (sizes := _sizes(model)):  # which times every form to the end, whatever its sizes
        command += ["--input-shape", sizes]
    return on_sound_model(worker, model, command)


def _sizes(model: onnx.ModelProto) -> str:
    """Small sizes where the input has open ones."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = "x".join(str(dim.dim_value or 2 + axis) for axis, dim in enumerate(dims))
    return f"x={shape}" if any(dim.dim_param for dim in dims) else ""


def quantised(worker: Worker, rng: Random) -> Outcome:
    """A conversion of a quantised model: all types and opsets."""
    model = quantised_model(rng)
    command = ["convert", "m.onnx", "o.onnx", "--target", rng.choice(TARGETS), *SHORT]
    return on_sound_model(worker, model, command)


def stretched_maps(worker: Worker, rng: Random) -> Outcome:
    """Any command with any target on a convolution behind an upsampling or inserted zeros."""
    model = stretched.onnx_model(rng)
    return on_sound_model(worker, model, _command(rng))


def tflite(worker: Worker, rng: Random) -> Outcome:
    """Any command on a TFLite model of any type."""
    content = stretched.tflite_model(rng)
    convert = ["convert", "m.tflite", "o.tflite", "--target", rng.choice(("generic", "litert")), *SHORT]
    command = rng.choice((["inspect", "m.tflite"], convert, convert, [*convert, "--json", "r.json"]))
    return on_sound_tflite(worker, content, command)


def computed_weights(worker: Worker, rng: Random) -> Outcome:
    """Any command with any target on a deconv whose weights are computed when the model runs."""
    model = computed.model(rng)
    fold = ["--fold"] if rng.random() < 0.2 else []
    command = _command(rng)
    return on_sound_model(worker, model, [*command, *(fold if command[0] == "convert" else [])])


def interpolated_maps(worker: Worker, rng: Random) -> Outcome:
    """Any command with any target on a convolution behind a bilinear or cubic interpolation."""
    if rng.random() < 0.4:
        convert = ["convert", "m.tflite", "o.tflite", "--target", rng.choice(("generic", "litert")), *SHORT]
        form = rng.choice(([], ["--lowering", "convolve_first"]))
        return on_sound_tflite(worker, interpolated.tflite_model(rng), [*convert, *form])
    model = interpolated.onnx_model(rng)
    convert = ["convert", "m.onnx", "o.onnx", "--target", rng.choice(TARGETS), *SHORT]
    command = rng.choice((_command(rng), convert, [*convert, "--lowering", "convolve_first"]))
    return on_sound_model(worker, model, command)


def _command(rng: Random) -> list[str]:
    target = rng.choice(TARGETS)
    convert = ["convert", "m.onnx", "o.onnx", "--target", target, *SHORT]
    forms = ("split", "split_phases", "split_rows", "split_row_groups", "zero_insert", "col2im", "separable", "native")
    return rng.choice(
        (
            ["inspect", "m.onnx"],
            ["inspect", "m.onnx", "--json", "r.json"],
            ["simulate", "m.onnx"],
            ["bench", "m.onnx", *BUDGET, "--target", rng.choice(("onnxruntime", "openvino"))],
            convert,
            convert,
            [*convert, "--json", "r.json", "--save-plan", "p.json"],
            [*convert, "--lowering", rng.choice(forms)],
            [*convert, "--threads", "1"],
        )
    )


def mutated_onnx(worker: Worker, rng: Random) -> Outcome:
    """A damaged ONNX file."""
    model = (quantised_model if rng.random() < 0.3 else float_model)(rng)
    return _damaged(worker, rng, model.SerializeToString(), "onnx")


def mutated_tflite(worker: Worker, rng: Random) -> Outcome:
    """A damaged TFLite file."""
    return _damaged(worker, rng, rng.choice(_tflite_sources()), "tflite")


@cache
def _tflite_sources() -> tuple[bytes, ...]:
    kinds = ("float32", "float16", "int8_per_channel", "int16")
    return tuple(tflite_models.build(tflite_models.Case(kind=kind)) for kind in kinds)


def _damaged(worker: Worker, rng: Random, content: bytes, suffix: str) -> Outcome:
    name = f"m.{suffix}"
    files = {name: damaged(content, rng)}
    command = rng.choice((["inspect", name], ["convert", name, f"o.{suffix}", "--target", "generic"]))
    with case_folder(files) as folder:
        return run(worker, command, files, folder, sound=False)


HOSTILE: tuple[bytes, ...] = (
    b"",
    b"\0" * 100_000,
    b"[" * 200_000,
    b'{"a":' * 50_000,
    b"a = " + b"[" * 100_000,
    b"PK\x03\x04" + bytes(range(256)),
    b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000,
    b"\x08\x08\x3a" + b"\xff" * 9 + b"\x01",
    b"\x18\x00\x00\x00TFL3" + b"\xff" * 1000,
    b"\xff\xfe" + "→".encode("utf-16-le") * 1000,
    b"1" * 100_000,
)


def hostile(worker: Worker, rng: Random) -> Outcome:
    """Content that is no model, under every name and as every argument."""
    name = "f" + rng.choice((".onnx", ".tflite", ".json", ".toml", ".npy", ".npz", ".pt", ".pt2", ""))
    content = (
        damaged(rng.choice(HOSTILE)[: rng.choice((1000, 10**6))], rng) if rng.random() < 0.5 else rng.choice(HOSTILE)
    )
    files = {name: content, "m.onnx": float_model(Random(1)).SerializeToString()}
    command = rng.choice(
        (
            ["inspect", name],
            ["convert", name, "o.onnx", "--target", "generic"],
            ["convert", "m.onnx", "o.onnx", "--target", "generic", "--plan", name],
            ["convert", "m.onnx", "o.onnx", "--target", "generic", "--input", f"x={name}"],
            ["convert", "m.onnx", "o.onnx", "--target", "generic", "--input", name],
            ["bench", "--layers", name],
            ["simulate", name],
            ["simulate", "dcgan", "--arch", name],
            ["simulate", "dcgan", "--energy", name],
            ["report", name, "r.html"],
        )
    )
    with case_folder(files) as folder:
        return run(worker, command, files, folder, sound=False)


KINDS: dict[str, tuple[Case, int]] = {
    "commands": (commands, 4_000),
    "quantised": (quantised, 10_000),
    "mutated-onnx": (mutated_onnx, 10_000),
    "mutated-tflite": (mutated_tflite, 10_000),
    "stretched": (stretched_maps, 2_000),
    "tflite": (tflite, 2_000),
    "folded": (asked.folded, 1_000),
    "turned": (asked.turned, 500),
    "asked-tflite": (tflite_asked.asked, 1_000),
    "computed": (computed_weights, 1_000),
    "interpolated": (interpolated_maps, 1_000),
    "streamed": (asked.streamed, 1_000),
    "restored": (asked.restored, 1_000),
    "open-tflite": (asked.open_tflite, 500),
    "hostile": (hostile, 2_000),
    "full-disk": (full_disk, 100),
    "interrupted": (interrupted, 300),
}
if find_spec("torch"):
    KINDS |= {
        "exported": (torch_programs.exported, 500),
        "asked-pt2": (torch_asked.asked, 500),
        "mutated-pt2": (torch_programs.mutated, 2_000),
    }


def attack(kind: str, number: int, worker: Worker) -> Outcome:
    """One case."""
    case, _ = KINDS[kind]
    try:
        return case(worker, random.Random(f"{kind} {number}"))
    except RuntimeDiedError:  # of the original: one of the result is a fault
        return Outcome("not a case")


def save_case(kind: str, number: int, folder: Path) -> None:
    """Write the model of a case of ``commands`` or ``quantised``, to look at it."""
    model = {"commands": float_model, "quantised": quantised_model}[kind](random.Random(f"{kind} {number}"))
    onnx.save(model, folder / f"{kind}-{number}.onnx")
