"""Whole quantised models: fused kernels that saturate, and sums that fall between two steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

pytest.importorskip("onnxruntime")

import splitdeconv
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.spec import Quant
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.onnx.quantised_layer import qdq_model
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof.whole import Given, compare, compare_models
from splitdeconv.results.verdict import OutputCheck
from splitdeconv.targets.onnxruntime import OnnxRuntime
from splitdeconv.targets.target import Compiled
from tests.formats.onnx.test_quantised import LAYER
from tests.onnx_quantised import random_weights


@dataclass(frozen=True)
class Off:
    """A compiled model of which some outputs are some steps off."""

    compiled: Compiled
    outputs: int
    steps: int

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        ((name, y),) = self.compiled.run(inputs).items()
        moved = y.astype(np.int64)
        middle = np.argsort(np.abs(moved.ravel() - 128))[: self.outputs]
        moved.ravel()[middle] += self.steps
        return {name: np.clip(moved, 0, 255).astype(y.dtype)}


class Fused(OnnxRuntime):
    """Its kernels of convolutions between quantisers are off, those of a deconv are not."""

    outputs, steps, plain_too = 0, 0, False

    def compile(self, model: Compilable, *, whole: bool = False) -> Compiled:  # type: ignore[override]
        return self._off(super().compile(model, whole=whole), model)

    def compile_plain(self, model: Compilable) -> Compiled:  # type: ignore[override]
        compiled = super().compile_plain(model)
        return self._off(compiled, model) if self.plain_too else compiled

    def _off(self, compiled: Compiled, model: Compilable) -> Compiled:
        rewritten = all(node.op_type != "ConvTranspose" for node in onnx.load_from_string(model.read()).graph.node)
        return Off(compiled, self.outputs, self.steps) if rewritten else compiled


def check(outputs: int, steps: int, *, as_defined: bool, plain_too: bool = False) -> OutputCheck:
    model = OnnxModel(ir.from_proto(qdq_model(LAYER, random_weights(LAYER, 1, real_scales=True))), None)
    (site,) = model.find().sites
    rewritten = model.splice({site.id: lower(site.deconv, "NCHW", Candidate("split_rows", quant="qdq"))})
    runner = Fused(threads=1)
    runner.outputs, runner.steps, runner.plain_too = outputs, steps, plain_too
    pair = [Compilable(each.to_object().SerializeToString(), each.operations) for each in (model, rewritten)]
    (found,), _ = compare(model, *pair, Given({}), runner, quantised=True, as_defined=as_defined)
    return found


def test_what_fused_kernels_saturate_is_no_difference_of_the_models_where_the_user_named_no_target() -> None:
    assert check(100, 100, as_defined=True).passed
    assert not check(100, 100, as_defined=False).passed
    assert not check(100, 100, as_defined=True, plain_too=True).passed


def test_a_sum_that_falls_between_two_steps_may_be_rounded_either_way() -> None:
    found = check(1, 1, as_defined=True, plain_too=True)
    assert found.after > 0
    assert found.passed


def test_equal_stored_outputs_have_no_noise() -> None:
    assert check(0, 0, as_defined=True).before == 0


def test_inputs_that_are_read_by_a_dequantizer_take_every_value() -> None:
    model = OnnxModel(ir.from_proto(qdq_model(LAYER, random_weights(LAYER, 1))), None)
    drawn = Given({}).feeds(model, 0)
    assert isinstance(drawn, dict)
    assert drawn["x"].max() > 200


def test_a_float_bias_of_opset_10_is_compared_as_onnx_defines_it() -> None:
    """ONNX Runtime's optimiser makes it int32 with a Round, which that opset does not have."""
    deconv = replace(LAYER, has_bias=False, quant=Quant("uint8", "int8", False))
    proto = qdq_model(deconv, random_weights(deconv, 1))
    proto.opset_import[0].version = 10
    (node,) = (node for node in proto.graph.node if node.op_type == "ConvTranspose")
    node.input.append("real_bias")
    proto.graph.initializer.append(numpy_helper.from_array(np.full(4, 0.3, np.float32), "real_bias"))
    assert splitdeconv.convert(proto, target="generic").verdict.outputs[0].passed


@dataclass(frozen=True)
class Same:
    """A compiled model whose output is the same whatever its inputs are."""

    y: Array

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {"y": self.y}


@pytest.mark.parametrize(("steps", "passed"), [(0, True), (1, True), (2, False)])
def test_a_sum_between_two_steps_may_be_rounded_either_way_though_no_moved_input_meets_it(
    steps: int, passed: bool
) -> None:
    model = OnnxModel(ir.from_proto(qdq_model(LAYER, random_weights(LAYER, 1, real_scales=True))), None)
    y = np.array([0, 5734, 0, 1640], np.uint16)
    feeds = Given({}).feeds(model, 0)
    assert not isinstance(feeds, str)
    ((found,), _) = compare_models(model, Same(y), Same(y + np.uint16(steps)), feeds, quantised=True)
    assert found.passed == passed
