"""Sizes that cannot be inferred come from one run of the model, where something may run it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import splitdeconv
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.pipeline.bench import bench_model
from splitdeconv.pipeline.inspect import inspect
from splitdeconv.pipeline.request import BenchRequest
from splitdeconv.pipeline.sizes import find_sized
from splitdeconv.targets.target import CompileError
from tests.onnx_models import build, load, single
from tests.strategies import integer_tensors

pytest.importorskip("onnxruntime")


def indexed() -> onnx.ModelProto:
    """A deconv behind an indexing by Range, which inference does not follow."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "last"], ["width"]),
        helper.make_node("Range", ["zero", "width", "one"], ["indices"]),
        helper.make_node("Gather", ["x", "indices"], ["a"], axis=3),
        helper.make_node("ConvTranspose", ["a", "w"], ["y"], name="up", strides=[2, 2]),
    ]
    known = {"last": np.array(3), "zero": np.array(0), "one": np.array(1), "w": np.ones((2, 2, 3, 3), np.float32)}
    return build(nodes, {"x": (1, 2, 5, 7)}, {"y": None}, known)


def test_sizes_of_inner_maps_come_from_a_run() -> None:
    (plain,) = load(indexed()).find().sites
    assert plain.deconv.in_sizes == (5, None)
    found = inspect(indexed(), {}, ())
    assert [site.deconv.in_sizes for site in found.findings.sites] == [(5, 7)]
    assert found.findings.other_macs == 0


class Refusing:
    """A target that runs nothing."""

    def compile(self, *_: object, **__: object) -> None:
        raise CompileError("no")


@pytest.mark.parametrize("runner", [None, Refusing()])
def test_without_a_run_they_stay_unknown(runner: object) -> None:
    found = find_sized(load(indexed()), {}, {}, runner)  # type: ignore[arg-type]
    assert [site.deconv.in_sizes for site in found.sites] == [(5, None)]


def test_bench_does_not_time_a_site_of_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitdeconv.pipeline.bench.find_sized", lambda model, shapes, *_: model.find(shapes))
    found = bench_model(indexed(), BenchRequest(target="onnxruntime", budget=0.2))
    assert found.layers == ()
    assert any("'up' is not timed" in note for note in found.notes)


@pytest.mark.parametrize("target", ["generic", "onnxruntime"])
def test_a_site_that_the_given_sizes_rule_out_keeps_its_open_ones(target: str) -> None:
    deconv = Deconv((Axis(4, 2, pad_begin=3, pad_end=3, in_size=8),), 2, 2)
    _, weights = integer_tensors(deconv, 3, "float32")
    model = single(deconv, weights, in_dims=(1, 2, "n"))
    assert "output size is -2" in str(inspect(model, {"x": (1, 2, 1)}, ()))
    (choice,) = splitdeconv.convert(model, target=target, in_shapes={"x": (1, 2, 1)}).record.plan.choices
    assert choice.deconv.in_sizes == (None,)
