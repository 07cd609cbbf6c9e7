"""What the tests of stretched maps ask of an ONNX model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Site
from tests.formats.onnx import stretched_models as models
from tests.formats.onnx.stretched_models import CHANNELS, SIZES, numbers
from tests.onnx_models import conversions, load, programs, run, sites

PAD = numbers(0, 0, 1, 1, 0, 0, 1, 1)
STRETCHING = ("Resize", "Upsample", "Tile", "Expand", "GatherND", "ScatterND")


def integers(*shape: int) -> Array:
    return np.random.default_rng(0).integers(-4, 5, shape).astype(np.float32)


def the_site(model: onnx.ModelProto) -> Site:
    (site,) = sites(load(model))
    return site


def assert_rewritten(model: onnx.ModelProto, shape: Sequence[int] = (1, CHANNELS, *SIZES), step: int = 1) -> None:
    """Every candidate, or each ``step``-th, gives the same bits on whole numbers, and the stretching is gone."""
    feeds = {"x": integers(*shape)}
    wanted = run(model, feeds)
    lowerings = set()
    for candidate, converted in conversions(model, step):
        found = run(converted, feeds)
        assert list(found) == list(wanted)
        for name, values in wanted.items():
            np.testing.assert_array_equal(found[name], values, str(candidate))
        if candidate.lowering != "native":
            lowerings.add(candidate.lowering)
            left = {each.op_type for each in converted.graph.node}
            assert not left & set(STRETCHING) or candidate.lowering == "convolve_first", left
    assert lowerings


def dense(*kernel: int, channels: int = CHANNELS, outs: int = 4) -> Array:
    return models.kernel_of((outs, channels, *kernel))


def emitted(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """The stand-alone models of the first site, by candidate."""
    loaded = load(model)
    site = sites(loaded)[0]
    return {
        str(candidate): onnx.load_from_string(loaded.emit(site, program).content)
        for candidate, program in programs(loaded, site)
    }
