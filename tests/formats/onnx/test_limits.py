"""Work that grows with a model is bounded before it is done."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from splitdeconv.formats.onnx import constants, model, shapes
from splitdeconv.formats.onnx.constants import constant
from splitdeconv.formats.onnx.writer import Constants
from tests.onnx_models import OPSET, build, load


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


def test_a_model_is_inferred_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inferred: list[object] = []
    infer = model.infer
    monkeypatch.setattr(model, "infer", lambda *args: (inferred.append(args), infer(*args))[1])
    opened = load(chain(3))
    for _ in range(2):
        opened.find()
    assert len(inferred) == 1


def test_a_stride_of_a_million_is_refused_at_once() -> None:
    nodes = [helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="site", strides=[10**6])]
    found = load(build(nodes, {"x": (1, 1, 4)}, {"y": None}, {"w": np.ones((1, 1, 3), np.float32)})).find()
    assert [each.reason for each in found.skipped] == [
        "stride is 1000000, wanted at most 16384: there is a phase for each"
    ]


def test_too_little_memory_is_not_called_a_fault_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(model, "infer", fail)
    with pytest.raises(MemoryError):
        load(chain(3)).find()


def sliced_in_a_function(pads: list[int], opset: int = OPSET) -> onnx.ModelProto:
    """A deconv, a call of a function that cuts a pixel off its last axis, and a deconv behind."""
    at = {"starts": 1, "ends": 2**31, "axes": 3}
    body = [helper.make_node("Constant", [], [name], value_ints=[value]) for name, value in at.items()]
    body.append(helper.make_node("Slice", ["a", *at], ["b"]))
    cut = helper.make_function("own", "Cut", ["a"], ["b"], body, [helper.make_opsetid("", opset)])
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w"], ["a"], name="first", strides=[2, 2], pads=pads),
        helper.make_node("Cut", ["a"], ["b"], domain="own"),
        helper.make_node("ConvTranspose", ["b", "w"], ["y"], name="second", strides=[2, 2]),
    ]
    proto = build(nodes, {"x": (1, 2, 5, 5)}, {"y": None}, {"w": np.ones((2, 2, 3, 3), np.float32)})
    proto.functions.append(cut)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    return proto


def test_sizes_are_followed_through_functions() -> None:
    _, second = load(sliced_in_a_function([0, 0, 0, 0])).find().sites
    assert second.deconv.in_sizes == (11, 10)


@pytest.mark.parametrize(
    "opset", [OPSET, OPSET - 1]
)  # as the model, and another, of which functions are not written out
def test_a_slice_of_a_negative_size_in_a_function_does_not_end_the_process(opset: int) -> None:
    """ONNX's inference aborts there; so the size behind it is unknown."""
    found = load(sliced_in_a_function([0, 90, 0, 0], opset)).find()
    assert [site.deconv.in_sizes for site in found.sites] == [(None, None)]
    assert [each.site for each in found.skipped] == ["first"]


def test_functions_that_call_each_other_many_times_are_not_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = sliced_in_a_function([0, 0, 0, 0])
    for n in range(40):
        last = f"Twice{n - 1}" if n else "Cut"
        twice = [helper.make_node(last, [a], [b], domain="own") for a, b in (("a", "b"), ("b", "c"))]
        imports = [helper.make_opsetid("own", 1), helper.make_opsetid("", OPSET)]
        proto.functions.append(helper.make_function("own", f"Twice{n}", ["a"], ["c"], twice, imports))
    proto.graph.node[1].op_type = "Twice39"
    monkeypatch.setattr(shapes.onnx.inliner, "inline_local_functions", lambda *_: pytest.fail("written out"))
    _, second = load(proto).find().sites
    assert second.deconv.in_sizes == (None, None)
