"""``--fold`` and ``--to-deconv`` on random sound TFLite models."""

from __future__ import annotations

from random import Random

import numpy as np

from tests.attack.asked import SHORT
from tests.attack.compared import on_sound_tflite
from tests.attack.harness import Outcome, Worker
from tests.formats.tflite.test_fold import Link, chain
from tests.formats.tflite.test_sub_pixel import sub_pixel_model
from tests.tflite_models import Case

OPERATORS = ("ADD", "MUL", "SUB", "-SUB", "DIV", "ADD:1")
COMMAND = ("convert", "m.tflite", "o.tflite")


def asked(worker: Worker, rng: Random) -> Outcome:
    """One of both, or both."""
    turns = rng.random() < 0.5
    content = _sub_pixel(rng) if turns else _foldable(rng)
    options = ["--to-deconv", *(["--fold"] if rng.random() < 0.2 else [])] if turns else ["--fold"]
    target = "litert" if turns else rng.choice(("generic", "litert"))
    return on_sound_tflite(worker, content, [*COMMAND, *options, "--target", target, *SHORT])


def _foldable(rng: Random) -> bytes:
    case = Case(
        kind=rng.choice(("float32", "float32", "float16", "hybrid")),
        batch=rng.choice((1, 1, 2)),
        in_sizes=(rng.randrange(2, 7), rng.randrange(2, 7)),
        kernel=(rng.choice((1, 2, 3, 5)), rng.choice((1, 2, 4))),
        stride=(rng.choice((1, 2, 2, 3)), rng.choice((1, 2, 3))),
        in_channels=rng.choice((1, 3, 4)),
        out_channels=rng.choice((1, 2, 4)),
        same=rng.random() < 0.6,
        bias=rng.random() < 0.6,
        activation=rng.choice((0, 0, 0, 1, 3)),
    )
    front = [_link(rng, case.in_channels) for _ in range(rng.randrange(3))]
    behind = [_link(rng, case.out_channels) for _ in range(rng.randrange(1, 4))]
    if rng.random() < 0.2:
        behind.insert(0, ("CROP", None))
    return chain(front, behind, case, seed=rng.getrandbits(20)).to_object()


def _link(rng: Random, channels: int) -> Link:
    shape = rng.choice(((), (1,), (channels,), (1, 1, 1, channels)))
    values = np.random.default_rng(rng.getrandbits(20)).uniform(0.5, 1.5, shape)
    return rng.choice(OPERATORS), values.astype(np.float32)


def _sub_pixel(rng: Random) -> bytes:
    model, _, _ = sub_pixel_model(
        rng.choice(("DEPTH_TO_SPACE", "RESHAPE")),
        rng.choice(("alike", "of each phase")),
        kernel=(rng.choice((1, 2, 3)), rng.choice((1, 2, 3))),
        same=rng.random() < 0.7,
        dilations=(rng.choice((1, 1, 2)), rng.choice((1, 1, 2))),
        weights=rng.choice(("float32", "float32", "float32", "float16", "int8")),
        activation=rng.choice((0, 0, 1, 3)),
        open_batch=rng.random() < 0.2,
        outs=rng.choice((1, 2, 3)),
    )
    return model.to_object()
