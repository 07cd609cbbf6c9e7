"""Weights of interpolations: those of PyTorch and of ONNX's evaluator in float64, and their sum."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from splitdeconv.deconv.interpolating import interpolate, weights_of
from splitdeconv.deconv.interpolation import COORDINATES, Interpolation

LINEAR, CUBIC = Interpolation("linear", scales=(2.0, 1.5)), Interpolation("cubic", scales=(2.0, 3.0))
ALL = [
    *(Interpolation("linear", where, scales=(2.0, 1.5)) for where in COORDINATES),
    *(Interpolation("cubic", where, sizes=(11, 7), coefficient=-0.5, excludes=True) for where in COORDINATES),
    *(Interpolation("cubic", where, scales=(2.5, 3.0)) for where in COORDINATES),
]


def test_linear_weights_as_worked_out_by_hand() -> None:
    found = weights_of(Interpolation("linear", scales=(2.0,)), 0, 2)
    np.testing.assert_array_equal(found, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    found = weights_of(Interpolation("area", sizes=(4,)), 0, 3)
    np.testing.assert_array_equal(found, [[1, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 1]])


@pytest.mark.parametrize("how", ALL, ids=str)
def test_weights_are_those_of_onnx_and_sum_to_1(how: Interpolation) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 6))
    attributes = {"mode": how.kind, "coordinate_transformation_mode": how.coordinates}
    if how.kind == "cubic":
        attributes |= {"cubic_coeff_a": how.coefficient, "exclude_outside": int(how.excludes)}
    scales, sizes = np.array([1, 1, *how.scales], np.float32), np.array([1, 2, *how.sizes])
    given = {"x": x, **({"scales": scales} if how.scales else {"sizes": sizes})}
    names = ["x", "", *(["scales"] if how.scales else ["", "sizes"])]
    kinds = {"x": onnx.TensorProto.DOUBLE, "scales": onnx.TensorProto.FLOAT, "sizes": onnx.TensorProto.INT64}
    inputs = [helper.make_tensor_value_info(name, kinds[name], None) for name in given]
    output = helper.make_tensor_value_info("y", onnx.TensorProto.DOUBLE, None)
    graph = helper.make_graph([helper.make_node("Resize", names, ["y"], **attributes)], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    (wanted,) = ReferenceEvaluator(model).run(None, given)
    near = 1e-5  # ONNX's evaluator computes places in float32
    np.testing.assert_allclose(interpolate(x, how), wanted, rtol=0, atol=near)
    for number, size in enumerate(x.shape[2:]):
        np.testing.assert_allclose(weights_of(how, number, size).sum(axis=1), 1, rtol=0, atol=1e-14)


def test_sizes_and_what_enlarges() -> None:
    assert LINEAR.out_sizes((5, 5)) == (10, 7)
    assert LINEAR.out_sizes((None, 5)) == (None, 7)
    assert LINEAR.enlarges((None, None))
    assert not Interpolation("linear", scales=(2.0, 0.5)).enlarges((4, 4))
    fixed = Interpolation("linear", sizes=(8, 8))
    assert fixed.enlarges((8, 4))
    assert not fixed.enlarges((8, 8))
    assert not fixed.enlarges((None, 4))
