"""Work that grows with a model is bounded before it is done."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from splitdeconv.formats.onnx import constants
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.writer import Constants
from tests.onnx_models import build, load


def chain(length: int) -> onnx.ModelProto:
    """A deconv and ``length`` activations behind it."""
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["v0"], name="site", strides=[2, 2])]
    nodes += [helper.make_node("Relu", [f"v{n}"], [f"v{n + 1}"]) for n in range(length)]
    return build(nodes, {"x": (1, 2, 4, 4)}, {f"v{length}": None}, {"w": np.ones((2, 2, 3, 3), np.float32)})


def test_a_chain_of_moved_operators_has_an_end() -> None:
    (site,) = load(chain(200)).find().sites
    assert len(site.epilogue) == 64
    (site,) = load(chain(3)).find().sites
    assert len(site.epilogue) == 3


def test_models_of_many_operators_are_not_evaluated_in_float64() -> None:
    found = load(chain(10_000)).float64({"x": np.zeros((1, 2, 4, 4), np.float32)})
    assert found == "it has more than 10,000 operators"


def test_new_names_are_unique_and_found_in_one_step() -> None:
    class Counted(set[str]):
        asked = 0

        def __contains__(self, name: object) -> bool:
            Counted.asked += 1
            return super().__contains__(name)

    constants = Constants(None, 8, Counted(["a", "a_3"]))
    names = [constants.unique("a") for _ in range(1000)]
    assert names[:3] == ["a_2", "a_4", "a_5"]
    assert len(set(names)) == 1000
    assert Counted.asked < 5000


def test_a_constant_that_several_nodes_read_is_folded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 19 sums of a value with itself would double the work."""
    nodes = [helper.make_node("Add", [f"v{n}", f"v{n}"], [f"v{n + 1}"]) for n in range(19)]
    nodes.append(helper.make_node("Mul", ["x", "v19"], ["y"]))
    model = load(build(nodes, {"x": (1,)}, {"y": None}, {"v0": np.ones(1, np.float32)})).ir
    evaluated: list[object] = []
    evaluate = constants.evaluate_node
    monkeypatch.setattr(constants, "evaluate_node", lambda *args: (evaluated.append(args), evaluate(*args))[1])
    np.testing.assert_array_equal(constant(model.graph[19].inputs[1], 17), [2**19])
    assert len(evaluated) == 19


@pytest.mark.parametrize(("size", "folded"), [(2**10, True), (2**29, False)])
def test_constants_beyond_a_gib_are_not_folded(size: int, folded: bool) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["size"], ["c"]), helper.make_node("Mul", ["x", "c"], ["y"])]
    model = load(build(nodes, {"x": (1,)}, {"y": None}, {"size": np.array([size])})).ir
    found = constant(model.graph[1].inputs[1], 17)
    assert (found is not None) is folded
