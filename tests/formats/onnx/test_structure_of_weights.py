"""Dense filters that are zero between channels, and filters that are products of vectors: found, rewritten, proved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

import splitdeconv
from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.structure import axis_matrix, dense_of, diagonal_of, vectors_of
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from tests.examples import examples
from tests.onnx_models import build, conversions, count, deconv_attributes, load, run, single, sites
from tests.strategies import integer_tensors, separable_deconvs


def bilinear(stride: int) -> Array:
    """The vector of FCN's upsampling filter of size 2s."""
    places = np.arange(2 * stride)
    return (1 - np.abs((places + 0.5) / stride - 1)).astype(np.float32)


def fcn(stride: int, channels: int, size: int, groups: int) -> tuple[Deconv, Weights]:
    """Bilinear upsampling as FCN has it, dense with a diagonal or depthwise."""
    axis = Axis(2 * stride, stride, 1, stride // 2, stride // 2, 0, size)
    kernel = np.broadcast_to(np.outer(bilinear(stride), bilinear(stride)), (channels, 1, 2 * stride, 2 * stride))
    weights = Weights(np.ascontiguousarray(kernel) if groups > 1 else dense_of(kernel))
    return Deconv((axis, axis), channels, channels, groups), weights


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("groups", [1, 3])
def test_bilinear_upsampling_is_found_and_every_form_is_exact(stride: int, groups: int) -> None:
    deconv, weights = fcn(stride, 3, 5, groups)
    x = np.random.default_rng(stride).integers(-8, 9, (1, 3, 5, 5)).astype(np.float32)
    wanted = reference.deconv(x.astype(np.float64), weights, deconv)
    model = single(deconv, weights, [helper.make_node("Relu", ["y"], ["z"])], output="z")
    (site,) = sites(load(model))
    assert (site.deconv.groups, site.deconv.separable, site.deconv.diagonal) == (3, True, groups == 1)
    names = set()
    for candidate, converted in conversions(model):
        names.add(str(candidate))
        np.testing.assert_array_equal(run(converted, {"x": x})["z"], np.maximum(wanted, 0), str(candidate))
        if candidate.lowering == "separable":
            assert [node.op_type for node in converted.graph.node] == ["MatMul", "MatMul", "Relu"]
    assert "separable" in names
    assert ("native:simplified" in names) == (groups == 1)


@examples(10, 400)
@given(separable_deconvs(negative_pads=False), st.booleans(), st.integers(0, 2**32))
def test_random_separable_filters(deconv: Deconv, dense: bool, seed: int) -> None:
    x, weights = integer_tensors(deconv, seed, "float32")
    wanted = reference.deconv(x.astype(np.float64), weights, deconv)
    dense = dense and deconv.groups > 1
    stated = replace(deconv, groups=1 if dense else deconv.groups)
    model = single(stated, replace(weights, kernel=dense_of(weights.kernel)) if dense else weights)
    (site,) = sites(load(model))
    assert site.deconv == replace(deconv, diagonal=dense)
    runs = all(axis.output_pad < axis.stride for axis in deconv.axes)  # ONNX Runtime's own reads beyond its buffer
    for candidate, converted in conversions(model):
        if candidate.lowering != "native" or runs:
            np.testing.assert_array_equal(run(converted, {"x": x})["y"], wanted, str(candidate))


def test_native_alone_has_the_dense_weights_of_the_model() -> None:
    deconv, weights = fcn(2, 3, 5, 1)
    model = single(deconv, weights)
    loaded = load(model)
    (site,) = sites(loaded)
    x = np.random.default_rng(0).standard_normal((1, 3, 5, 5), np.float32)
    for name, groups in (("native", 1), ("native:simplified", 3)):
        program = lower(site.deconv, "NCHW", Candidate(*name.split(":")))
        alone = onnx.load_model_from_string(loaded.emit(site, program).read())
        (node,) = alone.graph.node
        assert {each.name: each.i for each in node.attribute}["group"] == groups
        np.testing.assert_allclose(run(alone, {"x": x})["y"], run(model, {"x": x})["y"], rtol=0, atol=1e-6)


def test_the_proof_covers_both_and_the_record_says_what_was_found(tmp_path: Path) -> None:
    deconv, weights = fcn(8, 4, 16, 1)
    path = tmp_path / "fcn.onnx"
    onnx.save(single(deconv, weights), path)
    conversion = splitdeconv.convert(path, tmp_path / "out.onnx", target="generic", lowering="separable")
    assert conversion.verdict.passed
    assert [proof.exact for proof in conversion.verdict.proofs] == [True]
    assert any("zero between channels" in note for note in conversion.record.notes)
    assert count(onnx.load(tmp_path / "out.onnx"), "MatMul") == 2


def test_one_weight_between_channels_is_enough_to_be_dense() -> None:
    deconv, weights = fcn(2, 3, 5, 1)
    for place in [(0, 1, 0, 0), (2, 0, 3, 1), (1, 2, 3, 3)]:
        kernel = weights.kernel.copy()
        kernel[place] = np.float32(1e-30)
        assert diagonal_of(kernel) is None
        (site,) = sites(load(single(deconv, Weights(kernel))))
        assert (site.deconv.groups, site.deconv.diagonal, site.deconv.separable) == (1, False, False)


def test_what_is_not_exactly_a_product_is_not_separable() -> None:
    kernel = fcn(4, 3, 5, 3)[1].kernel
    assert vectors_of(kernel) is not None
    for place in [(0, 0, 0, 0), (2, 0, 7, 3), (1, 0, 4, 4)]:
        changed = kernel.copy()
        changed[place] = np.nextafter(changed[place], np.float32(1))
        assert vectors_of(changed) is None
    assert vectors_of(np.zeros((2, 1, 3, 3), np.float32)) is None
    assert vectors_of(np.full((2, 1, 3, 3), np.nan, np.float32)) is None
    # Size 5 and stride 3 has thirds, which float32 rounds: their products are not those of the rounded vectors.
    thirds = np.array([1, 2, 3, 2, 1], np.float32) / 3
    rounded = np.broadcast_to(np.outer(thirds, thirds).astype(np.float32), (2, 1, 5, 5))
    assert vectors_of(np.ascontiguousarray(rounded)) is None


def test_vectors_multiply_to_the_kernel_itself() -> None:
    rng = np.random.default_rng(0)
    for scale in (1.0, 2.0**-20, 2.0**30):
        one, other = (rng.integers(-9, 10, size).astype(np.float32) for size in (4, 3))
        one[0], other[1] = 3, -6
        kernel = np.broadcast_to(np.outer(one, other) * np.float32(scale), (2, 1, 4, 3))
        found = vectors_of(np.ascontiguousarray(kernel))
        assert found is not None
        np.testing.assert_array_equal(np.outer(*found), kernel[0, 0])


def test_open_sizes_have_no_matrices_but_lose_the_zeros_between_channels() -> None:
    deconv, weights = fcn(2, 3, 5, 1)
    model = single(deconv, weights, in_dims=(1, 3, None, None))
    x = np.random.default_rng(0).integers(-8, 9, (1, 3, 4, 7)).astype(np.float32)
    wanted = run(model, {"x": x})["y"]
    for candidate, converted in conversions(model):
        assert candidate.lowering != "separable"
        np.testing.assert_array_equal(run(converted, {"x": x})["y"], wanted, str(candidate))


def test_a_matrix_is_the_deconv_of_one_axis() -> None:
    axis = Axis(5, 3, 2, 2, -1, 1, 4)
    vector = np.arange(1.0, 6.0)
    x = np.random.default_rng(0).integers(-8, 9, (1, 1, 4)).astype(np.float64)
    wanted = reference.deconv(x, Weights(vector.reshape(1, 1, 5)), Deconv((axis,), 1, 1))
    np.testing.assert_array_equal(x @ axis_matrix(vector, axis), wanted)


def test_a_dense_filter_that_is_stored_as_integers() -> None:
    deconv, weights = fcn(2, 3, 5, 1)
    known = {"q": (weights.kernel * 16).astype(np.int8), "scale": np.float32(1 / 16), "zero": np.int8(0)}
    nodes = [
        helper.make_node("DequantizeLinear", list(known), ["w"]),
        helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="site", **deconv_attributes(deconv)),
    ]
    x = np.random.default_rng(0).integers(-8, 9, (1, 3, 5, 5)).astype(np.float32)
    model = build(
        nodes, {"x": x.shape}, {"y": [None] * 4}, {name: np.asarray(values) for name, values in known.items()}
    )
    (site,) = sites(load(model))
    assert (site.deconv.groups, site.deconv.diagonal, site.deconv.separable) == (3, True, True)
    wanted = reference.deconv(x.astype(np.float64), weights, deconv)
    for candidate, converted in conversions(model):
        np.testing.assert_array_equal(run(converted, {"x": x})["y"], wanted, str(candidate))
