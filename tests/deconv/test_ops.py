"""Programs of several inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from splitdeconv.deconv import reference
from splitdeconv.deconv.ops import Add, NativeDeconv
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.lowerings.lowering import Builder
from tests.strategies import integer_tensors

DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 8), Axis(4, 2, 1, 1, 1, 0, 8)), 4, 3)
SKIP = (1, 3, 16, 16)


def with_skip() -> Program:
    """A deconv, and a map from elsewhere in the model added to its output."""
    build = Builder(DECONV, "NCHW", inputs=[SKIP])
    (skip,) = build.inputs
    value = build.add(NativeDeconv(DECONV, "NCHW"), build.x)
    assert build.add(NativeDeconv(DECONV, "NCHW"), build.x) == value
    return build.program(build.add(Add(), value, skip))


def test_inputs_are_the_first_values() -> None:
    program = with_skip()
    assert program.in_shapes == ((1, 4, 8, 8), SKIP)
    assert program.shapes() == ((1, 4, 8, 8), SKIP, SKIP, SKIP)
    assert program.output == 3
    assert program.sums() == (3,)
    assert replace(program, steps=program.steps[:1]).sums() == (2,)
    assert program.moved() == 3 * 3 * 16 * 16


def test_other_sizes_are_given_for_all_inputs() -> None:
    assert with_skip().shapes((1, 4, 5, 8), (1, 3, 10, 16))[-1] == (1, 3, 10, 16)


def test_the_interpreter_takes_a_value_for_every_input() -> None:
    x, weights = integer_tensors(DECONV, seed=3)
    skip = np.random.default_rng(1).integers(-9, 9, SKIP)
    found = reference.run(with_skip(), x, weights, skip)
    np.testing.assert_array_equal(found, reference.deconv(x, weights, DECONV) + skip)
    with pytest.raises(AssertionError, match="every input has its value"):
        reference.run(with_skip(), x, weights)
