"""Quantised deconvs whose scales are float16: what they are by definition, and that every form keeps the bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.deconv.weights import Weights
from splitdeconv.formats.onnx.quantised_layer import qdq_model
from splitdeconv.proof.draw import drawn_input, drawn_weights
from splitdeconv.proof.sites import prove_site
from splitdeconv.targets import target
from tests.examples import examples
from tests.formats.onnx.test_quantised import LAYER, only_site, quantised, run_all, typed
from tests.formats.onnx.test_quantised_types import skip_reason
from tests.onnx_models import programs
from tests.onnx_quantised import random_input, random_weights

RUNTIME_ROUNDS = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 30),
    reason="before version 1.30 ONNX Runtime cuts off what QuantizeLinear has to round in float16",
)
NAMES = ("x_scale", "w_scale", "y_scale", "b_scale", "b_real")


def halved(weights: Weights) -> Weights:
    """The same with scales and a float bias of float16."""
    quant = weights.quant
    assert quant is not None
    half = {name: np.asarray(getattr(quant, name)).astype(np.float16) for name in ("x_scale", "w_scale", "y_scale")}
    bias = None if weights.bias is None else (weights.bias / 1000).astype(np.float16)
    return Weights(weights.kernel, bias, replace(quant, **half))


def half_model(deconv: Deconv, weights: Weights, only: tuple[str, ...] = NAMES, **options: Any) -> onnx.ModelProto:
    proto: onnx.ModelProto = qdq_model(deconv, weights, **options)
    proto.opset_import[0].version, proto.ir_version = 21, 10
    for each in proto.graph.initializer:
        if each.data_type == TensorProto.FLOAT and each.name in only:
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each).astype(np.float16), each.name))
    return proto


@RUNTIME_ROUNDS
@given(quantised(), st.integers(0, 99))
@examples(3, 100)
def test_every_form_is_bit_equal_to_the_definition(drawn: tuple[Deconv, Weights], seed: int) -> None:
    deconv, weights = replace(drawn[0], batch=1), drawn[1]
    weights = drawn_weights(deconv, halved(weights), seed)
    x = drawn_input(deconv, weights, seed)
    wanted = reference.quantised_deconv(x, weights, deconv)
    for name, y in run_all(half_model(deconv, weights), x).items():
        np.testing.assert_array_equal(y, wanted, name)


def test_real_numbers_sum_and_quotient_are_each_rounded_to_float16() -> None:
    """One product, by hand: of 0.1 each of the numbers is another one in float16."""
    deconv = Deconv((Axis(1, in_size=8),), 1, 1, 1, 1, quant=Quant("uint8", "int8", False))
    weights = halved(random_weights(deconv, 0))
    assert weights.quant is not None
    tenth = np.float16(0.1)
    weights = replace(weights, quant=replace(weights.quant, x_scale=tenth, w_scale=tenth, y_scale=tenth, y_zero=3))
    x = np.arange(200, 208, dtype=np.uint8).reshape(1, 1, 8)
    real = (x - np.float16(weights.quant.x_zero)) * tenth
    kernel = (weights.kernel.reshape(()) - weights.quant.w_zero).astype(np.float16) * tenth
    wanted = np.clip(np.rint((real * kernel) / tenth) + 3, 0, 255).astype(np.uint8)
    assert real.dtype == kernel.dtype == np.float16
    np.testing.assert_array_equal(reference.quantised_deconv(x, weights, deconv), wanted)


@RUNTIME_ROUNDS
def test_the_operators_stay_and_so_does_the_type() -> None:
    model, site = only_site(half_model(LAYER, halved(random_weights(LAYER, 1))))
    assert site.deconv.quant == Quant("uint8", "int8", True, ("qdq",))
    assert "computed in float16 between DequantizeLinear and QuantizeLinear" in site.notes[0]
    split = next(program for each, program in programs(model, site) if each.lowering == "split")
    found = model.splice({site.id: split}).to_object()
    assert not [each for each in found.graph.initializer if each.data_type == TensorProto.FLOAT]
    assert prove_site(model, site, split, target("onnxruntime", threads=1)).exact


def test_what_stands_between_is_taken_along() -> None:
    found = run_all(half_model(LAYER, halved(random_weights(LAYER, 3)), epilogue=("Tanh",)), random_input(LAYER, 4))
    native = found.pop("native").astype(int)
    for name, y in found.items():
        assert np.abs(y.astype(int) - native).max() <= 1, f"{name}: a tie may fall to either side"


def test_what_float16_cannot_carry_is_skipped_with_the_reason() -> None:
    weights = halved(random_weights(LAYER, 1))
    assert weights.quant is not None
    by_input = replace(weights.quant, w_scale=np.ones(6, np.float16), w_zero=np.zeros(6, np.int32), w_axis=0)
    reason = "its weights have a scale for each input channel in float16, wanted one for each output channel"
    assert skip_reason(half_model(LAYER, replace(weights, quant=by_input))) == reason
    wide = typed("uint8", "int8")
    proto = half_model(wide, halved(random_weights(wide, 1)))
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT16
    zero = next(each for each in proto.graph.initializer if each.name == "x_zero")
    zero.CopyFrom(numpy_helper.from_array(np.array(5, np.uint16), "x_zero"))
    assert skip_reason(proto) == "its scales are float16, which does not hold numbers of 16 bits"


def test_scales_of_two_types_are_skipped_with_the_reason() -> None:
    proto = half_model(LAYER, random_weights(LAYER, 1), only=("x_scale", "w_scale"))
    assert skip_reason(proto) == "its scales are float16 and float32, wanted one type for all"
