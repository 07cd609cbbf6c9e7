"""Narrow networks as PyTorch's exporters wrote them (tests/fixtures/make_networks.py): all that may be is rewritten."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from splitdeconv.deconv.ops import NativeDeconv, Repeat
from splitdeconv.lowerings.candidate import NATIVE
from tests.onnx_models import count, load, programs, run, written

STORED = Path(__file__).parents[2] / "fixtures" / "stretched"
FOUND = {
    "segmentation": ["8→8 3×3 after ×2 @2×2", "8→6 3×3 after ×2 @4×4", "6→4 3×3 after ×2 @8×8"],
    "neck": ["8→4 1×1 after ×2 @4×4"] * 2 + ["4→2 1×1 after ×2 @8×8"] * 2,
    "stylegan2": [
        "6→6 3×3/2 @4×4 run-time kernel",
        "6→6 3×3/2 @8×8 run-time kernel",
        "1→1 4×4 after zeros ×2 @8×8",
    ],
}
BESIDE = {"segmentation": [6, 4, 0], "neck": [8, 8, 4, 4], "stylegan2": [None, None, 0]}


@pytest.mark.parametrize("exporter", ["older", "newer"])
@pytest.mark.parametrize("name", FOUND)
def test_every_upsampling_and_zero_insertion_is_found_and_rewritten(name: str, exporter: str) -> None:
    proto = onnx.load(STORED / f"{name}_{exporter}.onnx")
    model = load(proto)
    found = model.find()
    assert [site.deconv.describe() for site in found.sites] == FOUND[name]
    assert [site.deconv.written_out and site.deconv.written_out.beside for site in found.sites] == BESIDE[name]
    assert found.skipped == ()
    chosen = {}
    for number, site in enumerate(found.sites):
        offered = [program for candidate, program in programs(model, site) if candidate != NATIVE]
        chosen[site.id] = offered[number % len(offered)]
    rewritten = written(model.splice(chosen), check=False)
    composite = sum(isinstance(step.op, NativeDeconv) for program in chosen.values() for step in program.steps)
    assert count(rewritten, "ConvTranspose") == composite
    own = sum(isinstance(step.op, Repeat) for program in chosen.values() for step in program.steps)
    assert sum(node.op_type in ("Resize", "Upsample") for node in rewritten.graph.node) == own
    rng, feeds = np.random.default_rng(0), {}
    for entry in proto.graph.input:
        feeds[entry.name] = rng.standard_normal([d.dim_value for d in entry.type.tensor_type.shape.dim], np.float32)
    wanted, got = run(proto, feeds), run(rewritten, feeds)
    for output, values in wanted.items():
        np.testing.assert_allclose(got[output], values, 1e-4, 1e-4, err_msg=output)
