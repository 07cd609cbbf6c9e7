"""What a quantised deconv may give."""

from __future__ import annotations

import numpy as np
import pytest

from splitdeconv.deconv.definition import define
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Quantisation, Weights


@pytest.mark.parametrize(("kind", "highest"), [("int16", [3, 4]), ("uint16", [3, 4]), ("uint8", [2, 4])])
def test_exact_ties_of_16_bits_may_be_rounded_to_either_side(kind: str, highest: list[int]) -> None:
    """Sums of 5 and 8 halves: OpenVINO's float32 arithmetic of 65,536 steps meets no tie exactly."""
    one, zero = np.asarray(1, np.float32), np.zeros((), np.int32)
    quant = Quantisation(kind, one, 0, one / 2, zero, kind, one, 0)
    spec = Deconv((Axis(1, in_size=2),), 1, 1)
    found = define(np.array([[[5, 8]]], kind), Weights(np.ones((1, 1, 1), np.int8), None, quant), spec)
    assert found.lowest.ravel().tolist() == [2, 4]
    assert found.highest.ravel().tolist() == highest
