"""What the tests of stretched maps ask of a TFLite model."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Site
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.targets.litert import LiteRt, LiteRtModel, interpreter
from tests.formats.tflite import stretched_models as models
from tests.formats.tflite.stretched_models import CHANNELS, SIZES
from tests.tflite_models import loaded

STRETCHING = {"RESIZE_NEAREST_NEIGHBOR", "TILE", "BROADCAST_TO", "GATHER_ND", "STABLEHLO_PAD", "DILATE", "PACK"}
SHAPE = (1, *SIZES, CHANNELS)


@cache
def litert(kernels: str) -> LiteRt:
    return LiteRt(kernels)


def the_site(content: bytes) -> tuple[TfliteModel, Site]:
    model = loaded(content)
    (site,) = model.find().sites
    return model, site


def forms(model: TfliteModel, site: Site) -> Iterator[tuple[Candidate, Program]]:
    for candidate in candidates(site.deconv, "NHWC")[0]:
        program = lower(site.deconv, "NHWC", candidate)
        if model.refuse(site, program) is None:
            yield candidate, program


def run(content: bytes, x: Array, kernels: str = "xnnpack") -> list[Array]:
    return list(LiteRtModel(interpreter(content, kernels, 1)).run({"x": x}).values())


def whole_numbers(shape: Sequence[int], dtype: str = "float32") -> Array:
    return models.whole_numbers(shape).astype(dtype)


def operators(content: bytes) -> list[str]:
    graph = Graph(loaded(content).root, 0)
    return [graph.name(number) for number in range(len(graph.operators))]


def assert_rewritten(
    content: bytes, shape: Sequence[int] = SHAPE, dtype: str = "float32", least: int = 1, most: int = 100
) -> None:
    """Every candidate, or ``most`` of them, gives the same bits on whole numbers."""
    model = loaded(content)
    x = whole_numbers(shape, dtype)
    wanted = run(content, x)
    rewritten = 0
    for site in model.find().sites:
        offered = list(forms(model, site))
        for candidate, program in random.Random(content).sample(offered, min(most, len(offered))):
            converted = model.splice({site.id: program}).to_object()
            for found, right in zip(run(converted, x), wanted, strict=True):
                np.testing.assert_array_equal(found, right, str(candidate))
            rewritten += 1
    assert rewritten > least
