"""Outputs that are no arrays of numbers, or prove nothing; inputs that are whole numbers, or infinite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnxruntime")

import splitdeconv
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import CompileError, UsageError, VerificationError
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.pipeline.convert import Conversion
from splitdeconv.proof.inputs import with_open_sizes
from splitdeconv.proof.whole import Given, compare
from splitdeconv.results.verdict import OutputCheck
from splitdeconv.targets.onnxruntime import OnnxRuntime
from tests.onnx_models import build, load

FLOATS = helper.make_tensor_type_proto(TensorProto.FLOAT, None)


def model(
    nodes: Sequence[onnx.NodeProto],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    whole: int = TensorProto.INT64,
    constants: Sequence[onnx.TensorProto] = (),
    domain: str = "",
) -> onnx.ModelProto:
    """A deconv from 'x' to 'z', and nodes behind it, which may read the whole numbers 't'."""
    weights = numpy_helper.from_array(np.ones((2, 2, 3, 3), np.float32), "w")
    deconv = helper.make_node("ConvTranspose", ["x", "w"], ["z"], name="site", strides=[2, 2])
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])]
    if any("t" in node.input for node in nodes):
        inputs.append(helper.make_tensor_value_info("t", whole, [3]))
    graph = helper.make_graph([deconv, *nodes], "model", inputs, outputs, [weights, *constants])
    imports = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def array(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def converted(proto: onnx.ModelProto, **options: object) -> Conversion:
    return splitdeconv.convert(proto, target="generic", lowering="split", **options)  # type: ignore[arg-type]


def test_the_arrays_in_a_sequence_are_compared() -> None:
    nodes = [helper.make_node("Relu", ["z"], ["r"]), helper.make_node("SequenceConstruct", ["z", "r"], ["y"])]
    result = converted(model(nodes, [helper.make_value_info("y", helper.make_sequence_type_proto(FLOATS))]))
    assert [each.name for each in result.verdict.outputs] == ["y[0]", "y[1]"]
    assert result.verdict.passed


def test_the_array_in_an_optional_is_compared() -> None:
    nodes = [helper.make_node("Optional", ["z"], ["y"])]
    result = converted(model(nodes, [helper.make_value_info("y", helper.make_optional_type_proto(FLOATS))]))
    assert len(result.verdict.outputs) == 1
    assert result.verdict.passed


def test_text_is_not_compared_and_that_is_said() -> None:
    nodes = [helper.make_node("Constant", [], ["y"], value_strings=[b"a", b"b"])]
    outputs = [array("z"), helper.make_tensor_value_info("y", TensorProto.STRING, [2])]
    verdict = converted(model(nodes, outputs)).verdict
    assert [each.name for each in verdict.outputs] == ["z"]
    assert "output 'y' is text, which is not compared" in verdict.notes


def test_an_output_that_is_nan_everywhere_proves_nothing() -> None:
    nodes = [
        helper.make_node("Abs", ["z"], ["a"]),
        helper.make_node("Sub", ["c", "a"], ["s"]),
        helper.make_node("Log", ["s"], ["y"]),
    ]
    constants = [numpy_helper.from_array(np.float32(-1), "c")]
    verdict = converted(model(nodes, [array("y"), array("z")], constants=constants)).verdict
    assert [each.name for each in verdict.outputs] == ["z"]
    assert any(note.startswith("output 'y' is NaN everywhere") for note in verdict.notes)


def test_an_infinite_input_is_named_where_outputs_differ() -> None:
    x = np.ones((1, 2, 4, 4), np.float32)
    x[0, 0, 1, 1] = np.inf
    with pytest.raises(VerificationError, match="output 'z' differs, as it may: --input x holds infinite"):
        splitdeconv.convert(model([], [array("z")]), target="generic", lowering="split", inputs={"x": x})


def gather_model(whole: int = TensorProto.INT64) -> onnx.ModelProto:
    """Adds rows of a table of three rows, of which the numbers are an input."""
    nodes = [
        helper.make_node("Gather", ["table", "t"], ["g"]),
        helper.make_node("ReduceSum", ["g"], ["s"], keepdims=0),
        helper.make_node("Add", ["z", "s"], ["y"]),
    ]
    table = numpy_helper.from_array(np.arange(12, dtype=np.float32).reshape(4, 3), "table")
    return model(nodes, [array("y")], whole=whole, constants=[table])


@pytest.mark.parametrize("whole", [TensorProto.INT64, TensorProto.INT32])
def test_models_with_whole_inputs_are_compared(whole: int) -> None:
    verdict = converted(gather_model(whole)).verdict
    assert [each.name for each in verdict.outputs] == ["y"]
    assert verdict.notes == ()


def test_models_with_whole_inputs_are_timed() -> None:
    result = splitdeconv.convert(gather_model(), target="onnxruntime", cache=False, budget=0.5)
    assert len(result.plan.choices[0].options) > 1
    assert not any("not timed" in note for note in result.record.notes)


def test_what_no_runtime_here_runs_is_proved_in_float64() -> None:
    """ONNX Runtime has no float64 ConvTranspose; the reference evaluator computes everything."""
    proto = model([helper.make_node("Relu", ["z"], ["y"])], [array("y")])
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    kernel: Array = np.ones((2, 2, 3, 3))
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "w"))
    verdict = converted(proto).verdict
    assert [each.name for each in verdict.outputs] == ["y"]
    assert any("both models were compared in float64" in note for note in verdict.notes)


@pytest.mark.parametrize("behind", [(), ("Resize",)], ids=["alone", "slow"])
def test_bfloat16_is_compared_to_the_roundings_of_float64(behind: tuple[str, ...]) -> None:
    """ONNX Runtime runs neither; a bound in roundings of bfloat16 would let a wrong tap pass."""
    nodes = [helper.make_node("SequenceConstruct", ["z", "y"], ["s"])]
    nodes[:0] = [helper.make_node("Resize" if behind else "Relu", ["z", "", "scales"] if behind else ["z"], ["y"])]
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.BFLOAT16, None)
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    proto = model(nodes, [sequence], constants=[scales] if behind else [])
    for value in proto.graph.input:
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    kernel = np.ones((2, 2, 3, 3), helper.tensor_dtype_to_np_dtype(TensorProto.BFLOAT16))
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "w"))
    verdict = converted(proto).verdict
    assert [each.name for each in verdict.outputs] == ["s[0]", "s[1]"]
    assert max(each.bound for each in verdict.outputs) < 1e-12
    assert any("both models were compared in float64" in note for note in verdict.notes)


def test_what_can_be_proved_nowhere_is_an_error_that_says_so() -> None:
    nodes = [helper.make_node("Mystery", ["z"], ["y"], domain="of.somebody")]
    with pytest.raises(UsageError, match=r"onnxruntime does not run the original .*; --target .*--no-verify"):
        converted(model(nodes, [array("y")], domain="of.somebody"))
    assert converted(model(nodes, [array("y")], domain="of.somebody"), verify=False).plan.choices


def test_a_site_of_unknown_sizes_is_not_timed_and_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inference does not follow a Range, which torch's exporter writes for indexing; here no run tells them either."""
    monkeypatch.setattr("splitdeconv.pipeline.convert.find_sized", lambda model, shapes, *_: model.find(shapes))
    ints = {"three": 3, "zero": 0, "one": 1}
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "three"], ["size"]),
        helper.make_node("Range", ["zero", "size", "one"], ["places"]),
        helper.make_node("Gather", ["x", "places"], ["a"], axis=3),
        helper.make_node("ConvTranspose", ["a", "w"], ["y"], name="site", strides=[2, 2]),
    ]
    known = {name: np.array(value) for name, value in ints.items()} | {"w": np.ones((2, 2, 4, 4), np.float32)}
    proto = build(nodes, {"x": (1, 2, 5, 5)}, {"y": [None] * 4}, known)
    (choice,) = splitdeconv.convert(proto, target="onnxruntime", cache=False, budget=1.0).plan.choices
    assert choice.chosen == NATIVE
    assert choice.reason == (
        "nothing else applies: the sizes of its input are not known before the model runs, so nothing can be timed"
    )
    forced = splitdeconv.convert(proto, target="onnxruntime", lowering="split", cache=False, budget=1.0)
    assert forced.plan.choices[0].chosen.lowering == "split"


class OnNoZeros:
    """A target, and a model on it that does not run on zeros."""

    gives_outputs = True

    def compile(self, *_: object, **__: object) -> OnNoZeros:
        return self

    def run(self, feeds: dict[str, Array]) -> dict[str, Array]:
        if not feeds["t"].any():
            raise CompileError("division by zero")
        return feeds


def test_whole_inputs_are_small_values_for_times_too_where_zeros_do_not_run() -> None:
    loaded = load(gather_model())
    drawn = Given({}).feeds(loaded, 1)
    feeds = Given({}).feeds_that_run(loaded, loaded.compilable(Path("unused")), OnNoZeros())  # type: ignore[arg-type]
    assert isinstance(feeds, dict)
    assert isinstance(drawn, dict)
    np.testing.assert_array_equal(feeds["t"], drawn["t"])


class Larger(OnnxRuntime):
    """Gives outputs of models that have a deconv one line more than there is."""

    def __init__(self, of: str) -> None:
        super().__init__()
        self.name, self.of = "larger", of

    def compile(self, model: Compilable, *, whole: bool = False) -> Any:
        sound = super().compile(model, whole=whole)
        nodes = onnx.ModelProto.FromString(model.read()).graph.node
        return Enlarged(sound) if any(node.op_type == self.of for node in nodes) else sound


@dataclass
class Enlarged:
    sound: Any

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {name: np.concatenate([y, y[..., -1:]], -1) for name, y in self.sound.run(inputs).items()}


def compared(of: str) -> tuple[tuple[OutputCheck, ...], tuple[str, ...]]:
    proto = model([helper.make_node("Relu", ["z"], ["y"])], [array("y")])
    original, rewritten = load(proto), load(converted(proto).model)
    pair = [Compilable(each.to_object().SerializeToString()) for each in (original, rewritten)]
    return compare(original, *pair, Given({}), Larger(of), quantised=False)


def test_a_runtime_that_gives_the_original_other_sizes_is_not_the_judge() -> None:
    """As OpenVINO does of SAME_UPPER where sizes are open."""
    outputs, (note,) = compared("ConvTranspose")
    assert [each.passed for each in outputs] == [True]
    assert note == (
        "larger computes wrong sizes of the original (output 'y' has shape [1, 2, 9, 9], and [1, 2, 9, 10] in "
        "the original): both are compared on onnxruntime"
    )


def test_a_form_of_other_sizes_is_not_equal_and_they_are_said() -> None:
    with pytest.raises(VerificationError, match=r"'y' has shape \[1, 2, 9, 10\], and \[1, 2, 9, 9\] in the original"):
        compared("Conv")


@pytest.mark.parametrize(("trial", "wanted"), [(0, (1, 3, 64, 64)), (1, (2, 3, 32, 32))])
def test_open_sizes_are_such_that_maps_are_not_too_large(trial: int, wanted: tuple[int, ...]) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[16, 16])
    proto = build([node], {"x": ["N", 3, "H", "W"]}, {"y": [None] * 4}, {"w": np.ones((3, 8, 16, 16), np.float32)})
    assert with_open_sizes(load(proto), {}, trial) == {"x": wanted}
