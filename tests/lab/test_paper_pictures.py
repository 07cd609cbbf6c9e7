"""SSIM: exactly 1 for SD on a model evaluated in float64, and visibly below for the inexact conversions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import InputError
from splitdeconv.lab.paper import pictures
from splitdeconv.lab.paper.schemes import SCHEMES, on_grid, split_deconv, summable
from tests.onnx_models import tensor

EXACT, SD, SHI, CHANG = SCHEMES


def silent(_stage: str, _share: float) -> None:
    """No progress."""


def generator(path: Path, kernel: int = 4) -> Path:
    """A latent vector of 8 numbers to a picture of 24×24, by two deconvs of stride 2."""
    rng = np.random.default_rng(0)
    pads = [1, 1, kernel - 3, kernel - 3]
    deconv = {"strides": [2, 2], "pads": pads}
    nodes = [
        helper.make_node("Gemm", ["z", "w0"], ["h0"]),
        helper.make_node("Reshape", ["h0", "shape"], ["h1"]),
        helper.make_node("ConvTranspose", ["h1", "w1", "b1"], ["h2"], **deconv),
        helper.make_node("Relu", ["h2"], ["h3"]),
        helper.make_node("ConvTranspose", ["h3", "w2"], ["h4"], **deconv),
        helper.make_node("Tanh", ["h4"], ["image"]),
    ]
    weights = {
        "w0": rng.standard_normal((8, 4 * 36)).astype(np.float32),
        "w1": 0.3 * rng.standard_normal((4, 5, kernel, kernel)).astype(np.float32),
        "b1": rng.standard_normal(5).astype(np.float32),
        "w2": 0.3 * rng.standard_normal((5, 3, kernel, kernel)).astype(np.float32),
        "shape": np.array([1, 4, 6, 6]),
    }
    graph = helper.make_graph(
        nodes,
        "generator",
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 24, 24])],
        [tensor(name, array) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("kernel", [3, 4, 5])
def test_split_deconvolution_gives_every_bit_and_the_others_do_not(kernel: int, tmp_path: Path) -> None:
    model = generator(tmp_path / "generator.onnx", kernel)
    found = pictures.compare_model(model, pictures.feeds_of(model), silent)
    for each in found.compared[SD]:
        assert not isinstance(each, str)
        assert (each.whole, each.overlap, each.largest, each.offset) == (1.0, 1.0, 0.0, (0, 0))
    np.testing.assert_array_equal(found.pictures[SD], found.pictures[EXACT])
    for scheme in (SHI, CHANG):
        assert all(not isinstance(each, str) and each.whole < 0.99 for each in found.compared[scheme]), scheme
    assert not isinstance(found.compared[SHI], str)
    assert found.compared[SHI][0].size < (24, 24)
    assert {picture.shape for picture in found.pictures.values()} == {(48, 48, 3)}
    assert pictures.LOST in found.pictures[SHI]


def test_rounded_values_sum_to_the_same_bits_in_any_order() -> None:
    rng = np.random.default_rng(1)
    spec = Deconv((Axis(5, 2, 1, 1, 2, 0, 7), Axis(3, 2, 1, 0, 1, 0, 6)), 40, 3, has_bias=True)
    x, weights = rng.standard_normal((1, 40, 7, 6)), Weights(rng.standard_normal((40, 3, 5, 3)), rng.standard_normal(3))
    exact, split = (summable(each)(x, weights, spec) for each in (reference.deconv, split_deconv))
    np.testing.assert_array_equal(split, exact)
    assert not np.array_equal(reference.deconv(x, weights, spec), split_deconv(x, weights, spec))  # rounding shows


def test_the_grid_has_no_more_bits_than_were_asked_for() -> None:
    values = np.array([1.0, -0.75, 0.3, 0.0])
    found = on_grid(values, 3)
    np.testing.assert_array_equal(found * 8, np.rint(found * 8))
    np.testing.assert_array_equal(on_grid(np.zeros(2), 3), np.zeros(2))


def test_a_smaller_picture_is_placed_where_it_fits() -> None:
    exact = np.random.default_rng(2).random((20, 22, 3))
    found = pictures.compare("cut", exact, exact[3:18, 5:20], (0.0, 1.0))
    assert found.offset == (3, 5)
    assert found.overlap == 1.0
    assert found.whole < 0.95  # black where the border was


def test_ssim_falls_with_the_noise() -> None:
    rng = np.random.default_rng(3)
    picture = rng.random((16, 16, 3))
    levels = [
        pictures.ssim(picture, picture + size * rng.standard_normal(picture.shape), 1.0) for size in (0, 0.1, 0.5)
    ]
    assert levels[0] == 1.0
    assert levels[0] > levels[1] > levels[2]


def test_a_photograph_for_models_that_take_pictures_and_a_refusal_of_others(tmp_path: Path) -> None:
    picture = pictures.photograph(24, 32)
    assert picture.shape == (1, 3, 24, 32)
    assert picture.min() >= 0
    assert 200 < picture.max() <= 255
    model = onnx.load(generator(tmp_path / "generator.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 8
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 8
    onnx.save(model, tmp_path / "sound.onnx")
    with pytest.raises(InputError, match=r"wanted one, a latent vector \[1, N\] or a picture"):
        pictures.feeds_of(tmp_path / "sound.onnx")


@pytest.mark.long
def test_the_styled_photograph_is_exactly_the_same_by_split_deconvolution(shared: Path) -> None:
    """The paper's own network with trained weights."""
    model = shared / "models" / "fst_rain_princess_256.onnx"
    found = pictures.compare_model(model, pictures.feeds_of(model), silent)
    by_scheme: dict[str, Array | float] = {name: each[0].whole for name, each in found.compared.items()}  # type: ignore[union-attr]
    assert by_scheme[SD] == 1.0
    assert by_scheme[SHI] < 0.99
    assert by_scheme[CHANG] < 0.5
