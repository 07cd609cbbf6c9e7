"""Random deconvs as ONNX models of every opset, type and stated size: bit-equal to the definition when rewritten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given
from hypothesis import strategies as st

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array, Weights
from tests.examples import examples
from tests.onnx_models import (
    RUNTIME_OPSETS,
    RUNTIME_TYPES,
    Dims,
    conversions,
    deconv_attributes,
    evaluate,
    load,
    run,
    single,
    sites,
)
from tests.strategies import deconvs, integer_tensors

OPSETS = (1, 7, 9, 10, 11, 13, 17, 22, onnx.defs.onnx_opset_version())
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}
DEFAULTS = {"strides": 1, "dilations": 1, "pads": 0, "output_padding": 0}


def wanted(x: Array, weights: Weights, deconv: Deconv) -> Array:
    return reference.deconv(x.astype(np.float64), Weights(weights.kernel.astype(np.float64), bias_of(weights)), deconv)


def bias_of(weights: Weights) -> Array | None:
    return None if weights.bias is None else weights.bias.astype(np.float64)


def compute(model: onnx.ModelProto, x: Array, opset: int, dtype: str) -> Array:
    """The output by ONNX Runtime where it runs such models, else by the evaluator in float64."""
    runs = opset in RUNTIME_OPSETS and dtype in RUNTIME_TYPES
    (y,) = (run if runs else evaluate)(model, {"x": x}).values()
    return y


def types_of(opset: int) -> list[str]:
    """Types of ConvTranspose, which got bfloat16 in version 22."""
    return [name for name in DTYPES if name != "bfloat16" or opset >= 22]


@st.composite
def stated_dims(draw: st.DrawFn, deconv: Deconv) -> Dims:
    """The input's sizes, any of them but the channels left open."""
    sizes: list[Any] = [deconv.batch, deconv.in_channels, *deconv.in_sizes]
    for axis in (0, *range(2, len(sizes))):
        sizes[axis] = draw(st.sampled_from([sizes[axis], sizes[axis], f"size_{axis}", None]))
    return sizes


@st.composite
def stated_attributes(draw: st.DrawFn, deconv: Deconv) -> dict[str, Any]:
    """All attributes, or without those that have their defaults."""
    stated = deconv_attributes(deconv)
    if draw(st.booleans()):
        return stated
    if draw(st.booleans()):
        del stated["kernel_shape"]
    if deconv.groups == 1:
        del stated["group"]
    return {name: values for name, values in stated.items() if name not in DEFAULTS or {*values} != {DEFAULTS[name]}}


def assert_bit_equal(data: st.DataObject, deconv: Deconv, seed: int) -> None:
    opset = data.draw(st.sampled_from(OPSETS))
    dtype = data.draw(st.sampled_from(types_of(opset)))
    attributes = data.draw(stated_attributes(deconv))
    in_dims = data.draw(stated_dims(deconv))
    x, weights = (integer_tensors if dtype in ("float32", "float64") else small_tensors)(deconv, seed, DTYPES[dtype])
    empty_bias = data.draw(st.booleans())
    model = single(deconv, weights, attributes=attributes, in_dims=in_dims, empty_bias=empty_bias, opset=opset)
    expected = wanted(x, weights, deconv)
    for candidate, converted in conversions(model):
        if candidate.lowering != "native":
            found = compute(converted, x, opset, dtype)
            np.testing.assert_array_equal(found, expected, f"{candidate} opset {opset} {dtype}")


def small_tensors(deconv: Deconv, seed: int, dtype: Any) -> tuple[Array, Weights]:
    """-1, 0 and 1, whose sums are exact in 8 bits of mantissa up to 256 products."""
    x, weights = integer_tensors(deconv, seed)
    bias = None if weights.bias is None else np.sign(weights.bias).astype(dtype)
    return np.sign(x).astype(dtype), Weights(np.sign(weights.kernel).astype(dtype), bias)


@given(st.data(), deconvs(negative_pads=False), st.integers(0, 2**32))
@examples(12, 2_000, *HealthCheck)
def test_a_random_model_is_bit_equal_to_the_definition(data: st.DataObject, deconv: Deconv, seed: int) -> None:
    assert_bit_equal(data, deconv, seed)


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_opset_and_type(opset: int, dtype: str) -> None:
    if dtype not in types_of(opset):
        pytest.skip("ConvTranspose has no bfloat16 before version 22")
    axes = (Axis(4, 2, 1, 1, 0, 1, 3), Axis(3, 3, 1, 0, 1, 2, 4))
    deconv = Deconv(axes, 2, 3, 1, 2, has_bias=True)
    x, weights = small_tensors(deconv, 0, DTYPES[dtype])
    lowerings = set()
    for candidate, converted in conversions(single(deconv, weights, opset=opset)):
        if candidate.lowering != "native":
            np.testing.assert_array_equal(compute(converted, x, opset, dtype), wanted(x, weights, deconv))
            assert {each.version for each in converted.opset_import} == {opset}
        lowerings.add(candidate.lowering)
    assert lowerings >= {"native", "zero_insert", "split", "split_phases"}


def pads_of(auto_pad: str, axis: Axis, out_size: int) -> tuple[int, int]:
    """The specification's formula: all pads together, and the odd one to the end for SAME_UPPER, else to the begin."""
    assert axis.in_size is not None
    total = axis.stride * (axis.in_size - 1) + axis.output_pad + axis.extent - out_size
    half = total // 2
    return (half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half)


@given(
    deconvs(negative_pads=False),
    st.sampled_from(["SAME_UPPER", "SAME_LOWER"]),
    st.sampled_from([1, 11, 22]),
    st.booleans(),
)
@examples(8, 150)
def test_auto_pad_same_gives_the_input_size_times_the_stride(
    deconv: Deconv, auto_pad: str, opset: int, is_open: bool
) -> None:
    plain = replace(deconv, axes=tuple(replace(axis, pad_begin=0, pad_end=0, output_pad=0) for axis in deconv.axes))
    outs = [(axis.in_size or 0) * axis.stride for axis in plain.axes]
    pads = [pads_of(auto_pad, axis, out) for axis, out in zip(plain.axes, outs, strict=True)]
    assume(all(min(pair) >= 0 for pair in pads))
    assume(opset > 1 or not is_open)  # at opset 1 some deconvs with open sizes have no other form
    check_pads(plain, pads, {"auto_pad": auto_pad}, opset, is_open)


@given(deconvs(negative_pads=False), st.sampled_from([1, 11, 22]), st.booleans())
@examples(6, 100)
def test_auto_pad_valid_is_without_pads(deconv: Deconv, opset: int, is_open: bool) -> None:
    assume(opset > 1 or not is_open)  # at opset 1 some deconvs with open sizes have no other form
    check_pads(deconv, [(0, 0)] * len(deconv.axes), {"auto_pad": "VALID"}, opset, is_open)


@given(
    st.data(),
    deconvs(negative_pads=False),
    st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    st.sampled_from([11, 22]),
)
@examples(8, 150)
def test_output_shape_makes_the_pads(data: st.DataObject, deconv: Deconv, auto_pad: str, opset: int) -> None:
    plain = [replace(axis, pad_begin=0, pad_end=0) for axis in deconv.axes]
    outs = [data.draw(st.integers(1, axis.out_size or 1)) for axis in plain]
    pads = [pads_of(auto_pad, axis, out) for axis, out in zip(plain, outs, strict=True)]
    check_pads(deconv, pads, {"auto_pad": auto_pad, "output_shape": outs}, opset, is_open=False)


def check_pads(deconv: Deconv, pads: list[tuple[int, int]], stated: dict[str, Any], opset: int, is_open: bool) -> None:
    """The default split of a model with ``stated`` attributes equals the definition with ``pads``."""
    axes = tuple(
        replace(axis, pad_begin=begin, pad_end=end) for axis, (begin, end) in zip(deconv.axes, pads, strict=True)
    )
    padded = replace(deconv, axes=axes)
    attributes = {name: value for name, value in deconv_attributes(padded).items() if name != "pads"} | stated
    x, weights = integer_tensors(deconv, 3, "float32")
    sizes: Dims = ("N", deconv.in_channels, *(None for _ in axes)) if is_open else None
    model = single(deconv, weights, attributes=attributes, opset=opset, in_dims=sizes)
    expected = wanted(x, weights, padded)
    for candidate, converted in conversions(model):
        if candidate.lowering == "split":
            np.testing.assert_array_equal(compute(converted, x, opset, "float32"), expected, str(candidate))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
def test_auto_pad_same_with_a_kernel_below_the_stride_does_as_the_runtime(auto_pad: str) -> None:
    deconv = Deconv((Axis(1, 3, in_size=4), Axis(2, 3, in_size=5)), 2, 2)
    x, weights = integer_tensors(deconv, 3, "float32")
    attributes = {"auto_pad": auto_pad, "strides": [3, 3]}
    model = single(deconv, weights, attributes=attributes)
    for candidate, converted in conversions(model):
        np.testing.assert_array_equal(run(converted, {"x": x})["y"], run(model, {"x": x})["y"], str(candidate))


def test_output_shape_over_an_open_size_is_skipped_with_the_reason() -> None:
    deconv = Deconv((Axis(4, 2, in_size=4),), 2, 2)
    _, weights = integer_tensors(deconv, 3, "float32")
    model = single(deconv, weights, attributes={"output_shape": [9], "strides": [2]}, in_dims=(1, 2, "length"))
    (skipped,) = load(model).find().skipped
    assert skipped.reason == "output_shape is fixed while the input size is open, and so are the pads"
    assert not sites(load(model))
