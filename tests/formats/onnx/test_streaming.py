"""Models in chunks equal the whole, by the definition in float64 on whole numbers, whatever the chunks are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from splitdeconv import UsageError, VerificationError, convert
from splitdeconv.formats.onnx import OnnxModel, float64, streaming
from splitdeconv.formats.onnx.graph import places
from splitdeconv.proof.streamed import InChunks
from tests.examples import examples
from tests.onnx_models import build

FRAMES = 24
RNG = np.random.default_rng(0)


def whole_numbers(*shape: int) -> Any:
    return RNG.integers(-2, 3, shape).astype(np.float32)


@dataclass
class Defined:
    """A model as the definition computes it."""

    model: OnnxModel

    def run(self, inputs: Any) -> dict[str, Any]:
        return float64.evaluate(self.model.ir, inputs)


def model_of(
    *nodes: onnx.NodeProto, shape: tuple[Any, ...] = (1, 3, "T"), axis: int = 2, **constants: Any
) -> OnnxModel:
    proto = build(nodes, {"x": shape}, {"y": [None] * len(shape)}, constants, opset=17)
    found = OnnxModel.from_object(proto)
    assert found is not None
    return found


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, ["" if each == "-" else each for each in inputs.split()], [output], **attributes)


def _unused(model: OnnxModel) -> set[str]:
    return {name for name, value in model.ir.graph.initializers.items() if not value.uses()}


def check(model: OnnxModel, axis: int = 2, shape: tuple[int, ...] = (1, 3, FRAMES)) -> Any:
    made, how = model.streamed({"x": axis})
    assert _unused(made) <= _unused(model)
    states = tuple(each for each in made.inputs() if each.name in how.states)
    x = RNG.integers(-3, 4, shape).astype(np.float64)
    wanted = Defined(model).run({"x": x})["y"]
    found = InChunks(Defined(made), how, states).run({"x": x})["y"]
    np.testing.assert_array_equal(found, wanted)
    return how


@examples(5, 50)
@given(st.data())
def test_deconvs_between_dilated_convolutions(data: st.DataObject) -> None:
    draw = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    kernel, stride, dilation = draw(1, 6), draw(1, 4), draw(1, 3)
    extent = (kernel - 1) * dilation + 1
    pads = [draw(0, extent - 1), draw(0, extent - 1)]
    up = {"strides": [stride], "dilations": [dilation], "pads": pads, "output_padding": [draw(0, stride - 1)]}
    span = draw(1, 4)
    model = model_of(
        node("ConvTranspose", "x up b", "h", **up),
        node("Clip", "h least most", "c"),
        node("Conv", "c dilated b", "d", dilations=[span], pads=[span, span]),
        node("Add", "c d", "r"),
        node("Conv", "r down b", "y", strides=[data.draw(st.sampled_from([1, stride]))], pads=[draw(0, 2), draw(0, 2)]),
        up=whole_numbers(3, 3, kernel),
        dilated=whole_numbers(3, 3, 3),
        down=whole_numbers(3, 3, 4),
        b=whole_numbers(3),
        least=np.array(-4, np.float32),
        most=np.array(4, np.float32),
    )
    check(model)


W, B = whole_numbers(3, 3, 3), whole_numbers(3)
TO_THE_END = {"zero": np.array([0]), "last": np.array([-2]), "two": np.array([2])}
CASES: dict[str, tuple[tuple[onnx.NodeProto, ...], dict[str, Any], tuple[int, int]]] = {
    "causal by a crop": (
        (node("Conv", "x w b", "h", pads=[2, 2]), node("Slice", "h zero last two", "c"), node("Conv", "c w b", "y")),
        TO_THE_END,
        (1, 0),
    ),
    "causal by a pad": (
        (node("Pad", "x pads", "p"), node("Conv", "p w b", "c"), node("Add", "c x", "y")),
        {"pads": np.array([0, 0, 2, 0, 0, 0])},
        (1, 0),
    ),
    "a pad that is not zero behind its function": (
        (node("Pad", "x pads", "p"), node("Cos", "p", "c"), node("Floor", "c", "y")),
        {"pads": np.array([0, 0, 2, 0, 0, 1])},
        (1, 3),
    ),
    "a kernel shorter than the stride": (
        (node("ConvTranspose", "x short b", "h", strides=[4]), node("Conv", "h w b", "y", pads=[1, 1])),
        {"short": whole_numbers(3, 3, 2)},
        (1, 1),
    ),
    "strides down and up": (
        (
            node("Conv", "x w b", "h", strides=[2], pads=[1, 1]),
            node("Conv", "h w b", "i", strides=[3], pads=[0, 1]),
            node("ConvTranspose", "i long b", "y", strides=[6]),
        ),
        {"long": whole_numbers(3, 3, 6)},
        (6, 0),
    ),
    "automatic pads": (
        (
            node("Conv", "x w b", "h", auto_pad="SAME_UPPER"),
            node("ConvTranspose", "h w b", "y", auto_pad="SAME_UPPER", strides=[2]),
        ),
        {},
        (1, 1),
    ),
    "nearest upsampling": (
        (
            node("Resize", "x - factors", "u", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
            node("Conv", "u w b", "y", pads=[1, 1]),
        ),
        {"factors": np.array([1, 1, 3], np.float32)},
        (1, 1),
    ),
    "channels concatenated, normalised and split": (
        (
            node("Conv", "x w b", "h", pads=[1, 1]),
            node("Concat", "h x", "c", axis=1),
            node("BatchNormalization", "c six six none ones", "n", epsilon=0.0),
            node("Slice", "n one three one", "y"),
        ),
        {
            "six": np.arange(6, dtype=np.float32),
            "none": np.zeros(6, np.float32),
            "ones": np.ones(6, np.float32),
            "one": np.array([1]),
            "three": np.array([4]),
        },
        (1, 1),
    ),
    "axes moved": (
        (
            node("Transpose", "x", "t", perm=[0, 2, 1]),
            node("MatMul", "t matrix", "m"),
            node("Transpose", "m", "s", perm=[0, 2, 1]),
            node("Unsqueeze", "s two", "u"),
            node("Reshape", "u sizes", "v"),
            node("MaxPool", "v", "y", kernel_shape=[3]),
        ),
        {"matrix": whole_numbers(3, 4), "two": np.array([2]), "sizes": np.array([0, 4, -1])},
        (1, 0),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operators(name: str) -> None:
    nodes, constants, (multiple, latency) = CASES[name]
    how = check(model_of(*nodes, w=W, b=B, **constants))
    assert (how.multiple, how.latency) == (multiple, latency)


@pytest.mark.parametrize("axis", [2, 3])
def test_either_axis_of_pictures(axis: int) -> None:
    shape = ["N", 2, 6, 5]
    shape[axis] = "T"
    up = node("ConvTranspose", "x up b", "h", strides=[2, 3], pads=[1, 0, 2, 1], output_padding=[1, 2])
    model = model_of(
        up,
        node("Conv", "h w b", "y", pads=[1, 1, 1, 1], dilations=[1, 1]),
        up=whole_numbers(2, 3, 4, 5),
        w=whole_numbers(3, 3, 3, 3),
        b=B,
        shape=tuple(shape),
    )
    check(model, axis, (2, 2, *(FRAMES if at == axis else size for at, size in ((2, 6), (3, 5)))))


REFUSED = {
    "places": (
        helper.make_node("MaxPool", ["x"], ["y", "places"], kernel_shape=[2]),
        "it tells places in the whole signal",
    ),
    "GlobalAveragePool": (
        node("GlobalAveragePool", "x", "y"),
        "GlobalAveragePool 'here' cannot be streamed: it averages the whole signal",
    ),
    "InstanceNormalization": (
        node("InstanceNormalization", "x b b", "y"),
        "its mean and variance are those of the whole signal",
    ),
    "ReduceMean": (node("ReduceMean", "x", "y", axes=[-1]), "it goes over the whole streamed axis"),
    "Softmax": (node("Softmax", "x", "y", axis=2), "it goes over the whole streamed axis"),
    "Pad": (node("Pad", "x pads", "y", mode="reflect"), "it puts something else than zeros at the ends of the signal"),
    "attention": (node("MatMul", "x x", "y"), "only its first input may be streamed"),
    "Shape": (node("Shape", "x", "y"), "the length of the whole signal is not known"),
    "fixed values": (node("Add", "x along", "y"), "'along' has 24 values along the streamed axis"),
    "CumSum": (node("CumSum", "x zero", "y"), "it adds up the whole signal"),
    "no rule": (node("NonZero", "x", "y"), "what it reads of the streamed axis is not known"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_the_whole_signal_is_refused_with_the_reason(name: str) -> None:
    refused, reason = REFUSED[name]
    refused.name = "here"
    constants = {
        "b": B,
        "pads": np.array([0, 0, 1, 0, 0, 1]),
        "along": np.zeros((1, 1, 24), np.float32),
        "zero": np.array(0),
    }
    with pytest.raises(UsageError) as caught:
        model_of(refused, **constants).streamed({"x": 2})
    assert reason in str(caught.value)


def vocoder(frames: int | str = "T") -> onnx.ModelProto:
    nodes = [
        node("ConvTranspose", "x up b", "h", strides=[4], pads=[2, 2], name="up"),
        node("Conv", "h w b", "y", pads=[3, 3], dilations=[3], name="conv"),
    ]
    return build(
        nodes, {"x": (1, 3, frames)}, {"y": (1, 3, None)}, {"up": whole_numbers(3, 3, 8), "w": W, "b": B}, opset=17
    )


def test_conversion_streams_proves_and_splits() -> None:
    found = convert(vocoder(), stream={"": 2}, lowering="split", target="generic")
    assert found.verdict.passed
    assert not [place for place in places(found.rewritten.ir) if place.node.op_type == "ConvTranspose"]  # type: ignore[attr-defined]
    how, proved = found.record.notes[:2]
    assert how == (
        "streamed over axis 2 of 'x' in chunks of any number of frames, latency 2 frames; "
        "'y': 4 samples a frame, the first 7 are to be left out"
    )
    assert proved.startswith("chunks of random sizes give what the whole model gives")


def test_fixed_sizes_are_opened() -> None:
    found = convert(vocoder(40), stream={"x": 2}, target="generic")
    assert found.record.converted
    assert found.verdict.passed


@pytest.mark.parametrize(
    ("stream", "reason"),
    [({"z": 2}, "--stream z: the model has no such input; it has x"), ({"": 3}, "input 'x' has axes 0 to 2")],
)
def test_unknown_axes(stream: dict[str, int], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        convert(vocoder(), stream=stream, target="generic")


def test_the_proof_sees_what_is_not_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming.Walk, "masked", lambda _, value: value)
    with pytest.raises(VerificationError, match="in chunks output 'y' differs"):
        convert(vocoder(), stream={"": 2}, target="generic")
