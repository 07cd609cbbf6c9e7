"""Upsamplings and inserted zeros as exporters wrote them in TFLite (tests/fixtures/make_stretched_tflite.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.targets.litert import LiteRtModel, interpreter
from tests.formats.tflite.stretched_checks import forms
from tests.tflite_models import loaded

STORED = Path(__file__).parents[2] / "fixtures" / "stretched"
EVERY = sorted(path.stem for path in STORED.glob("*.tflite"))
LEFT = {
    "stays_bilinear": "its upsampling is bilinear",
    "stays_stride": "has stride 2",
    "stays_sums": "the sums of its weights over the copies of a pixel do not fit",
}
ZEROS = ("pad", "into_zeros", "upfirdn2d")


def content_of(name: str) -> bytes:
    return (STORED / f"{name}.tflite").read_bytes()


def test_every_exporter_is_there() -> None:
    assert {name.partition("_")[0] for name in EVERY} == {"keras3", "keras2", "torch", "jax"}


@pytest.mark.parametrize("name", EVERY)
def test_all_that_may_be_rewritten_is_found_and_nothing_else(name: str) -> None:
    _, _, way = name.partition("_")
    found = loaded(content_of(name)).find()
    if way in LEFT:
        assert not found.sites
        # JAX writes its bilinear resizing as products of matrices: no upsampling is there to be left
        assert name == "jax_stays_bilinear" or LEFT[way] in found.skipped[0].reason
        return
    (site,) = found.sites
    assert site.deconv.written_out is not None
    assert site.deconv.written_out.stretch == ("zeros" if way in ZEROS else "repeat")
    assert not found.skipped


@pytest.mark.parametrize("name", [each for each in EVERY if "stays" not in each])
def test_rewritten_they_compute_the_same(name: str) -> None:
    """Trained values are real here: sums of weights are rounded, stored integers are equal."""
    model, rng = loaded(content_of(name)), np.random.default_rng(0)
    (site,) = model.find().sites
    feeds = {}
    for entry in model.inputs():
        x = rng.standard_normal([size or 1 for size in entry.shape]) * 2
        feeds[entry.name] = np.rint(x * 20).astype("int8") if entry.dtype == "int8" else x.astype(entry.dtype)
    wanted = run(content_of(name), feeds)
    rewritten = [program for candidate, program in forms(model, site) if candidate != NATIVE]
    assert rewritten
    for program in rewritten[::7]:
        found = run(model.splice({site.id: program}).to_object(), feeds)
        tolerance = 0 if wanted.dtype == np.int8 else 1e-5
        np.testing.assert_allclose(found, wanted, 0, tolerance, err_msg=program.name)


def run(content: bytes, feeds: dict[str, np.ndarray]) -> np.ndarray:
    (found,) = LiteRtModel(interpreter(content, "xnnpack", 1)).run(feeds).values()
    return found
