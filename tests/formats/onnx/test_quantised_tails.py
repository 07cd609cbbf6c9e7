"""Quantised ONNX deconvs with crops behind them, and dense ones that are depthwise: against the definition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from splitdeconv.deconv import reference
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.onnx.quantised_layer import qdq_model
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.bench import bench_model
from splitdeconv.pipeline.request import BenchRequest
from splitdeconv.targets import target
from tests.examples import crossed, examples
from tests.formats.onnx.test_quantised import LAYER, TYPES, only_site, run_all, typed
from tests.onnx_quantised import random_input, random_weights
from tests.strategies import deconvs

Crop = tuple[tuple[int, int], ...]
Tail = Callable[[Any, Crop, Deconv], None]


def add_constant(proto: Any, name: str, values: Array) -> str:
    proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def slice_node(proto: Any, source: str, result: str, crop: Crop, deconv: Deconv) -> onnx.NodeProto:
    """Ends as sizes, so that the output's sizes must be known."""
    sizes = [size or 0 for size in deconv.out_sizes]
    lists = {
        "starts": [begin for begin, _ in crop],
        "ends": [size - end for size, (_, end) in zip(sizes, crop, strict=True)],
        "axes": [2 + number for number in range(len(crop))],
    }
    names = [add_constant(proto, f"{result}_{name}", np.asarray(found, np.int64)) for name, found in lists.items()]
    return helper.make_node("Slice", [source, *names], [result])


def before_the_quantiser(proto: Any, crop: Crop, deconv: Deconv) -> None:
    """ConvTranspose, Slice, QuantizeLinear."""
    (last,) = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    place = list(proto.graph.node).index(last)
    proto.graph.node.insert(place, slice_node(proto, last.input[0], "cropped", crop, deconv))
    last.input[0] = "cropped"


def of_stored_values(proto: Any, crop: Crop, deconv: Deconv) -> None:
    """QuantizeLinear, Slice of 8-bit values."""
    proto.graph.node[-1].output[0] = "stored"
    proto.graph.node.append(slice_node(proto, "stored", "y", crop, deconv))


def between_quantisers(proto: Any, crop: Crop, deconv: Deconv) -> None:
    """QuantizeLinear, DequantizeLinear, Slice, QuantizeLinear, as ONNX Runtime's quantiser writes it."""
    proto.graph.node[-1].output[0] = "stored"
    proto.graph.node.extend(
        [
            helper.make_node("DequantizeLinear", ["stored", "y_scale", "y_zero"], ["again"]),
            slice_node(proto, "again", "cropped", crop, deconv),
            helper.make_node("QuantizeLinear", ["cropped", "y_scale", "y_zero"], ["y"]),
        ]
    )


def negative_pads(proto: Any, crop: Crop, deconv: Deconv) -> None:
    """QuantizeLinear, DequantizeLinear, Pad with negative pads, QuantizeLinear."""
    pads = np.array([0, 0, *(-begin for begin, _ in crop), 0, 0, *(-end for _, end in crop)], np.int64)
    proto.graph.node[-1].output[0] = "stored"
    proto.graph.node.extend(
        [
            helper.make_node("DequantizeLinear", ["stored", "y_scale", "y_zero"], ["again"]),
            helper.make_node("Pad", ["again", add_constant(proto, "pads", pads)], ["cropped"]),
            helper.make_node("QuantizeLinear", ["cropped", "y_scale", "y_zero"], ["y"]),
        ]
    )


def on_both_sides(proto: Any, crop: Crop, deconv: Deconv) -> None:
    """The begins before the QuantizeLinear, the ends behind it."""
    first = tuple((begin, 0) for begin, _ in crop)
    before_the_quantiser(proto, first, deconv)
    left = deconv.cropped(*zip(*first, strict=True))
    of_stored_values(proto, tuple((0, end) for _, end in crop), left)


TAILS: list[Tail] = [before_the_quantiser, of_stored_values, between_quantisers, negative_pads, on_both_sides]


def cropped_model(deconv: Deconv, weights: Weights, crop: Crop, tail: Tail, **options: Any) -> Any:
    proto = qdq_model(deconv, weights, **options)
    tail(proto, crop, deconv)
    for size, (begin, end), axis in zip(deconv.out_sizes, crop, range(2, 9), strict=False):
        proto.graph.output[0].type.tensor_type.shape.dim[axis].dim_value = (size or 0) - begin - end
    onnx.checker.check_model(proto, full_check=True)
    return proto


@pytest.mark.parametrize(("tail", "types"), crossed(TAILS, TYPES))
def test_crops_become_part_of_the_pads(tail: Tail, types: tuple[str, str]) -> None:
    activation, weight = types
    deconv, crop = typed(activation, weight), ((1, 2), (0, 3))
    weights = random_weights(deconv, 5, w_zero=weight == "uint8")
    proto = cropped_model(deconv, weights, crop, tail, epilogue=("Relu",) if tail is not on_both_sides else ())
    _, site = only_site(proto)
    assert site.deconv.crop == crop
    assert "becomes part of its pads" in " ".join(site.notes)
    x = random_input(deconv, 6)
    found = run_all(proto, x)
    native = found.pop("native")
    assert "native:simplified" in found
    assert native.shape[2:] == site.deconv.out_sizes
    if not site.epilogue:
        np.testing.assert_array_equal(native, reference.quantised_deconv(x, weights, site.deconv))
    for name, y in found.items():
        np.testing.assert_array_equal(y, native, name)


@pytest.mark.parametrize(("tail", "activation", "form"), crossed(TAILS, ["uint8", "int8"], ["qdq", "qlinear", "float"]))
def test_a_cropped_site_is_replaced_with_all_that_is_behind_it(tail: Tail, activation: str, form: str) -> None:
    deconv = typed(activation, "int8")
    weights = random_weights(deconv, 8)
    model, site = only_site(cropped_model(deconv, weights, ((1, 0), (2, 1)), tail))
    chosen = Candidate("split_phases", "", "rows", form)
    rewritten = model.splice({site.id: lower(site.deconv, "NCHW", chosen)})
    assert all(node.op_type != "ConvTranspose" for node in rewritten.ir.graph)
    names = {value.name for node in rewritten.ir.graph for value in (*node.inputs, *node.outputs) if value is not None}
    assert not names & {"stored", "again", "cropped", "pads", "cropped_starts", "y_starts"}
    x = random_input(deconv, 9)
    (y,) = (
        target("onnxruntime", threads=1)
        .compile(Compilable(ir.to_proto(rewritten.ir).SerializeToString()))
        .run({"x": x})
        .values()
    )
    np.testing.assert_array_equal(y, reference.quantised_deconv(x, weights, site.deconv))
    assert y.dtype == activation


@st.composite
def cropped_layers(draw: st.DrawFn) -> tuple[Deconv, Weights, Crop, Tail]:
    """A quantised deconv of any geometry, and a crop that leaves something of it."""
    activation, weight = draw(st.sampled_from(TYPES))
    deconv = replace(draw(deconvs(negative_pads=False)), quant=Quant(activation, weight, draw(st.booleans())))
    crop = []
    for size in deconv.out_sizes:
        begin = draw(st.integers(0, min(3, (size or 1) - 1)))
        crop.append((begin, draw(st.integers(0, min(3, (size or 1) - 1 - begin)))))
    weights = random_weights(deconv, draw(st.integers(0, 2**32)), w_zero=draw(st.booleans()))
    return deconv, weights, tuple(crop), draw(st.sampled_from(TAILS))


@given(cropped_layers())
@examples(6, 250)
def test_any_crop_of_any_layer_is_bit_equal_to_the_definition(drawn: tuple[Deconv, Weights, Crop, Tail]) -> None:
    deconv, weights, crop, tail = drawn
    proto = cropped_model(deconv, weights, crop, tail)
    _, site = only_site(proto)
    assert site.deconv.out_sizes == deconv.cropped(*zip(*crop, strict=True)).out_sizes
    x = random_input(deconv, 7)
    wanted = reference.quantised_deconv(x, weights, site.deconv)
    for name, y in run_all(proto, x).items():
        np.testing.assert_array_equal(y, wanted, name)


def with_another_scale(proto: Any) -> None:
    """The quantiser behind the crop rounds anew."""
    between_quantisers(proto, ((1, 2), (0, 3)), LAYER)
    proto.graph.node[-1].input[1] = add_constant(proto, "other", np.float32(0.75))


def with_a_second_reader(proto: Any) -> None:
    """The whole map is an output too."""
    of_stored_values(proto, ((1, 2), (0, 3)), LAYER)
    whole = helper.make_tensor_value_info("stored", proto.graph.output[0].type.tensor_type.elem_type, None)
    proto.graph.output.append(whole)


def with_real_numbers_behind(proto: Any) -> None:
    """The crop's real numbers are the output."""
    between_quantisers(proto, ((1, 2), (0, 3)), LAYER)
    proto.graph.node.pop()
    proto.graph.node[-1].output[0] = "y"
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


@pytest.mark.parametrize("change", [with_another_scale, with_a_second_reader, with_real_numbers_behind])
def test_what_is_no_crop_alone_stays_behind_the_site(change: Callable[[Any], None]) -> None:
    proto = qdq_model(LAYER, random_weights(LAYER, 5))
    change(proto)
    del proto.graph.output[0].type.tensor_type.shape.dim[2:]
    _, site = only_site(proto)
    assert site.deconv.crop == ()
    assert site.deconv.quant is not None


def zeros_between_channels(dense: Deconv, seed: int, by_input: bool = False) -> Weights:
    """Weights of a dense layer that hold the zero-point everywhere but on the diagonal."""
    weights = random_weights(dense, seed, w_zero=True)
    quant = weights.quant
    assert quant is not None
    if by_input:
        scale = (2.0 ** np.random.default_rng(seed).integers(-8, -5, dense.in_channels)).astype(np.float32)
        zero = np.full(dense.in_channels, quant.w_zero.max(), np.int32)
        quant = replace(quant, w_scale=scale, w_zero=zero, w_axis=0)
    quant = replace(quant, y_scale=np.float32(2.0**-6))  # so that small sums use the whole range
    zero = int(np.max(quant.w_zero))
    kernel = np.where(np.eye(dense.in_channels, dtype=bool)[:, :, None, None], weights.kernel, zero)
    bias = None if weights.bias is None or by_input else weights.bias
    return Weights(kernel.astype(weights.kernel.dtype), bias, quant)


DENSE = Deconv((Axis(4, 2, 1, 1, 1, 0, 6), Axis(5, 3, 1, 1, 0, 0, 5)), 5, 5, has_bias=True)


@pytest.mark.parametrize(("types", "scales"), crossed(TYPES, ["per tensor", "per output channel", "per input channel"]))
def test_zeros_between_channels_make_every_form_depthwise(types: tuple[str, str], scales: str) -> None:
    activation, weight = types
    dense = typed(activation, weight, scales == "per output channel", replace(DENSE, has_bias=scales[4:] != "input"))
    weights = zeros_between_channels(dense, 3, by_input=scales == "per input channel")
    dense = replace(dense, has_bias=weights.bias is not None)
    proto = qdq_model(dense, weights)
    _, site = only_site(proto)
    assert site.deconv.diagonal
    assert site.deconv.groups == 5
    assert site.deconv.quant is not None
    assert "qdq" in site.deconv.quant.forms
    x = random_input(dense, 4)
    wanted = reference.quantised_deconv(x, weights, dense)
    assert len(np.unique(wanted)) > 20
    found = run_all(proto, x)
    assert {"native", "native:simplified"} < set(found)
    for name, y in found.items():
        np.testing.assert_array_equal(y, wanted, name)


@pytest.mark.parametrize("multiplier", [1, 2])
def test_scales_of_input_channels_are_integers_where_each_has_outputs_of_its_own(multiplier: int) -> None:
    deconv = replace(LAYER, groups=6, out_channels=6 * multiplier, has_bias=False)
    weights = random_weights(deconv, 3)
    assert weights.quant is not None
    scale = (2.0 ** np.random.default_rng(1).integers(-8, -5, 6)).astype(np.float32)
    quant = replace(weights.quant, w_scale=scale, w_zero=np.zeros(6, np.int32), w_axis=0)
    weights = Weights(weights.kernel, None, quant)
    proto = qdq_model(deconv, weights)
    _, site = only_site(proto)
    assert site.deconv.quant is not None
    assert "qlinear" in site.deconv.quant.forms
    x = random_input(deconv, 4)
    wanted = reference.quantised_deconv(x, weights, deconv)
    for name, y in run_all(proto, x).items():
        np.testing.assert_array_equal(y, wanted, name)


@pytest.mark.parametrize("tail", [(), ("Relu",), ("LeakyRelu",), ("Sigmoid",)])
def test_a_benchmark_times_the_layer_with_any_operator_behind_it(tail: tuple[str, ...]) -> None:
    """Also where that takes the deconv out of what is quantised in one step."""
    proto = qdq_model(LAYER, random_weights(LAYER, 0), epilogue=tail)
    found = bench_model(proto, BenchRequest("onnxruntime", budget=0.2, forms=1))
    (layer,) = found.layers
    assert layer.time(NATIVE) is not None
    assert len(layer.options) > 1
