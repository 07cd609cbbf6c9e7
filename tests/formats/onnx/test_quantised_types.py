"""Which scales, zero-points and types of quantised ONNX deconvs are read, and why others are skipped."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from onnx import TensorProto, helper

from splitdeconv.deconv.spec import Quant
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.onnx.quantised_layer import qdq_model
from tests.formats.onnx.test_quantised import LAYER, only_site, with_initializer
from tests.onnx_quantised import random_weights


def skip_reason(proto: Any) -> str:
    (skipped,) = OnnxModel(ir.from_proto(proto), None).find().skipped
    return skipped.reason


def with_input_type(dtype: type, opset: int = 21) -> Any:
    proto = qdq_model(LAYER, random_weights(LAYER, 1))
    proto.opset_import[0].version = opset
    proto = with_initializer(proto, "x_zero", np.array(5, dtype))
    proto.graph.input[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return proto


def test_sixteen_bit_activations_have_the_float_form_alone() -> None:
    _, site = only_site(with_input_type(np.int16))
    assert site.deconv.quant == Quant("int16", "int8", True, ("float",))
    assert "computed in float, as the original is" in site.notes[0]


def test_activations_of_other_types_are_skipped_with_the_reason() -> None:
    reason = "its input is quantised as int32, wanted uint8, int8, uint16, int16"
    assert skip_reason(with_input_type(np.int32)) == reason


def with_axis(axis: int, size: int, zero: Array) -> Any:
    proto = qdq_model(LAYER, random_weights(LAYER, 1))
    for name, array in (("w_scale", np.ones(size, np.float32)), ("w_zero", zero)):
        proto = with_initializer(proto, name, array)
    proto.graph.node[1].attribute[0].i = axis
    return proto


def test_weights_quantised_along_other_axes_are_skipped() -> None:
    reason = skip_reason(with_axis(2, 4, np.zeros(4, np.int8)))
    assert "along axis 2 with [4] scales; wanted one for each output channel" in reason
    assert "zero-point for each input channel" in skip_reason(with_axis(0, 6, np.arange(6, dtype=np.int8)))


def test_weights_quantised_in_blocks_are_skipped() -> None:
    proto = with_axis(1, 4, np.zeros(4, np.int8))
    proto.opset_import[0].version = 21
    for name, dtype in (("w_scale", np.float32), ("w_zero", np.int8)):
        proto = with_initializer(proto, name, np.ones((6, 2, 4, 3), dtype))
    proto.graph.node[1].attribute.append(helper.make_attribute("block_size", 2))
    assert skip_reason(proto) == "a scale for each block of its weights, wanted one for each channel or tensor"


def test_scales_that_are_inputs_are_skipped() -> None:
    proto = qdq_model(LAYER, random_weights(LAYER, 1))
    proto.graph.input.append(helper.make_tensor_value_info("s", TensorProto.FLOAT, []))
    proto.graph.node[0].input[1] = "s"
    assert skip_reason(proto) == "the scale or zero-point of its input is computed at run time"
