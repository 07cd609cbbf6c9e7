"""Exported programs: commands on random sound ones, and damage to their files."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from random import Random
from typing import Any

import numpy as np

from tests.attack.harness import Outcome, Worker, case_folder, run
from tests.attack.mutate import damaged

FORMS = ("", "", "split", "split_phases", "split_rows", "zero_insert", "native")


def exported(worker: Worker, rng: Random) -> Outcome:
    """Any command on a random exported program."""
    program = _program(rng)
    if program is None:
        return Outcome("not a case")
    form = rng.choice(FORMS)
    target = rng.choice(("generic", "generic", "torch"))
    convert = ["convert", "m.pt2", "o.pt2", "--target", target, "--budget", "0.1", "--no-cache"]
    command = rng.choice((["inspect", "m.pt2"], convert, convert, [*convert, *(["--lowering", form] if form else [])]))
    return on_sound_program(worker, program, command)


def on_sound_program(worker: Worker, program: Any, command: list[str]) -> Outcome:
    """One command on an exported program, whose output its result ``o.pt2``, if there is one, must have."""
    content, before = _content(program), _output(program)
    files = {"m.pt2": content}
    with case_folder(files) as folder:
        outcome = run(worker, command, files, folder, sound=True)
        if outcome.name != "ok" or not (folder / "o.pt2").exists():
            return outcome
        after = _output(_loaded((folder / "o.pt2").read_bytes()))
    largest = float(np.max(np.abs(before), initial=0.0)) or 1.0
    if before.shape != after.shape or float(np.max(np.abs(before - after), initial=0.0)) > 1e-3 * largest:
        return Outcome("wrong", f"{' '.join(command)}: outputs differ")
    return outcome


def mutated(worker: Worker, rng: Random) -> Outcome:
    """A damaged file, or a sound archive with a damaged entry."""
    content = rng.choice(_sources())
    files = {"m.pt2": damaged(content, rng) if rng.random() < 0.3 else _with_damaged_entry(content, rng)}
    command = rng.choice((["inspect", "m.pt2"], ["convert", "m.pt2", "o.pt2", "--target", "generic"]))
    with case_folder(files) as folder:
        return run(worker, command, files, folder, sound=False)


def _with_damaged_entry(content: bytes, rng: Random) -> bytes:
    found = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(found, "w") as new:
        names = old.namelist()
        chosen = rng.choice([*names, *(name for name in names if name.endswith(".json"))])
        for name in names:
            new.writestr(name, damaged(old.read(name), rng) if name == chosen else old.read(name))
    return found.getvalue()


@cache
def _sources() -> tuple[bytes, ...]:
    programs = (_program(Random(seed)) for seed in range(12))
    return tuple(_content(program) for program in programs if program is not None)


def _program(rng: Random) -> Any:
    """A deconv, or a convolution behind an upsampling, between element-wise layers; None where the sizes do not fit."""
    import torch  # noqa: PLC0415  # an extra
    from torch import nn  # noqa: PLC0415

    torch.manual_seed(rng.getrandbits(32))
    rank, channels, outs = rng.choice((1, 2, 2, 3)), rng.choice((1, 2, 4)), rng.choice((1, 2, 4))
    kernel, stride = [tuple(rng.choice((1, 2, 3, 4, 5)) for _ in range(rank)) for _ in range(2)]
    layers: list[Any] = [nn.ReLU()] if rng.random() < 0.3 else []
    if rng.random() < 0.25:
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
        layers += [nn.Upsample(scale_factor=rng.choice((2, 3))), conv(channels, outs, kernel, padding="same")]
    else:
        deconv = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
        padding = tuple(rng.randrange(0, size) // 2 for size in kernel)
        beyond = tuple(rng.randrange(0, each) for each in stride)
        group = rng.choice((1, 1, 2)) if channels % 2 == 0 == outs % 2 else 1
        layers.append(deconv(channels, outs, kernel, stride, padding, beyond, group, bias=rng.random() < 0.5))
    for _ in range(rng.randrange(3)):
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1](outs)
        layers.append(rng.choice((nn.ReLU(), nn.Sigmoid(), nn.LeakyReLU(), norm)))
    x = torch.randn(rng.choice((1, 2)), channels, *(rng.randrange(1, 7) for _ in range(rank)))
    module = nn.Sequential(*layers).eval()
    try:
        module(x)
    except RuntimeError:
        return None
    return torch.export.export(module, (x,))


def _content(program: Any) -> bytes:
    import torch  # noqa: PLC0415

    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _loaded(content: bytes) -> Any:
    import torch  # noqa: PLC0415

    return torch.export.load(io.BytesIO(content))


def _output(program: Any) -> Any:
    import torch  # noqa: PLC0415

    examples, _ = program.example_inputs
    with torch.no_grad():
        return program.module()(*(torch.linspace(-2, 2, x.numel()).reshape(x.shape) for x in examples)).numpy()
