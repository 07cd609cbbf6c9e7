"""ONNX Runtime and OpenVINO: what they say of themselves, run, refuse and time."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitdeconv import targets
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.times import FEWEST_ROUNDS, timed
from splitdeconv.targets import CompileError, Target, processor, target
from splitdeconv.targets.target import KEEP_ALL, one_line

onnx = pytest.importorskip("onnx")
INSTALLED = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
AGES = 1e6  # seconds: what ends a race is its rounds, on the slowest machine too
DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 8), Axis(3, 2, 1, 1, 1, 1, 6)), 4, 4)
NATIVE = Candidate("native")
SPLIT = Candidate("split", "union", "depth_to_space")


@pytest.fixture(params=INSTALLED)
def runtime(request: pytest.FixtureRequest) -> Target:
    return target(request.param)


def conv_model(kernel: Array, shape: tuple[int | str, ...], times: int = 1) -> bytes:
    """``times`` convolutions of 'x' one after the other, to 'y'."""
    helper, element = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(kernel.dtype)
    pads = [(size - 1) // 2 for size in kernel.shape[2:]] * 2
    values = ["x", *(f"v{n}" for n in range(times - 1)), "y"]
    nodes = [helper.make_node("Conv", [values[n], "w"], [values[n + 1]], pads=pads) for n in range(times)]
    graph = helper.make_graph(
        nodes,
        "convs",
        [helper.make_tensor_value_info("x", element, shape)],
        [helper.make_tensor_value_info("y", element, shape)],
        [onnx.numpy_helper.from_array(kernel, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()  # type: ignore[no-any-return]


def identity(channels: int, size: int = 1) -> Array:
    kernel = np.zeros((channels, channels, size, size), np.float32)
    kernel[np.arange(channels), np.arange(channels), size // 2, size // 2] = 1
    return kernel


def test_a_model_runs_from_bytes_and_from_a_path(runtime: Target, tmp_path: Path) -> None:
    model = conv_model(3 * identity(4), (1, 4, 5, 6))
    path = tmp_path / "model with spaces.onnx"
    path.write_bytes(model)
    x = np.arange(120, dtype=np.float32).reshape(1, 4, 5, 6)
    for source in (model, path):
        outputs = runtime.compile(Compilable(source)).run({"x": x})
        assert list(outputs) == ["y"]
        np.testing.assert_array_equal(outputs["y"], 3 * x)


def test_every_output_has_its_name(runtime: Target) -> None:
    """Also those that an optimiser makes one: 'y', 'z' and 'v' hold the same."""
    helper = onnx.helper
    nodes = [helper.make_node("Relu", ["x"], ["v"])]
    nodes += [helper.make_node("Identity", ["v"], [name]) for name in ("y", "a/b:0")]
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2]) for name in ("x", "y", "a/b:0", "v")]
    graph = helper.make_graph(nodes, "outputs", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    outputs = runtime.compile(Compilable(model.SerializeToString())).run({"x": np.array([-1, 1], np.float32)})
    assert {name: values.tolist() for name, values in outputs.items()} == {name: [0, 1] for name in ("y", "a/b:0", "v")}


def test_warnings_of_the_runtime_are_not_shown(runtime: Target, capfd: pytest.CaptureFixture[str]) -> None:
    model = onnx.ModelProto.FromString(conv_model(identity(4), (1, 4, 5, 6)))
    model.graph.initializer.append(onnx.numpy_helper.from_array(identity(2), "unused"))
    runtime.compile(Compilable(model.SerializeToString())).run({"x": np.zeros((1, 4, 5, 6), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_outputs_outlive_the_next_run(runtime: Target) -> None:
    compiled = runtime.compile(Compilable(conv_model(identity(4), (1, 4, 5, 6))))
    first = compiled.run({"x": np.full((1, 4, 5, 6), 1, np.float32)})["y"]
    compiled.run({"x": np.full((1, 4, 5, 6), 2, np.float32)})
    assert (first == 1).all()


def test_float32_stays_float32(runtime: Target) -> None:
    """Sums that bfloat16, float16 and TF32 would all round."""
    x = np.full((1, 8, 4, 4), 2049, np.float32)
    kernel = np.ones((8, 8, 1, 1), np.float32)
    np.testing.assert_array_equal(runtime.compile(Compilable(conv_model(kernel, x.shape))).run({"x": x})["y"], 8 * x)


def test_open_sizes_run_at_any(runtime: Target) -> None:
    compiled = runtime.compile(Compilable(conv_model(identity(2), ("n", 2, "h", "w"))))
    for shape in ((1, 2, 3, 4), (2, 2, 5, 1)):
        x = np.random.default_rng(0).random(shape, np.float32)
        np.testing.assert_array_equal(compiled.run({"x": x})["y"], x)
        assert timed(runtime.measure({NATIVE: compiled}, {"x": x}, 0.01))[NATIVE].rounds


UNKNOWN_OPERATOR = conv_model(identity(4), (1, 4, 5, 5)).replace(b"Conv", b"Vonc")


@pytest.mark.parametrize("model", [b"", b"no model", UNKNOWN_OPERATOR])
def test_what_does_not_compile_is_one_silent_line(
    runtime: Target, model: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CompileError) as caught:
        runtime.compile(Compilable(model))
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert len(message) <= 300
    assert capfd.readouterr() == ("", "")


def test_outputs_have_the_models_names_in_order_whatever_the_runtime_calls_them(runtime: Target) -> None:
    """OpenVINO names an output after any of the values that it makes one."""
    helper = onnx.helper
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    nodes += [helper.make_node("Identity", ["b"], ["y"]), helper.make_node("Cast", ["a"], ["c"], to=1)]
    nodes += [helper.make_node("Softmax", ["a"], ["s"]), helper.make_node("Identity", ["s"], ["z"])]
    ports = {name: helper.make_tensor_value_info(name, 1, [1, 2, 3, 3]) for name in "xzcyab"}
    outputs = [ports[name] for name in "zcya"]
    weights = [onnx.numpy_helper.from_array(identity(2), "w")]
    graph = helper.make_graph(nodes, "identities", [ports["x"]], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    found = runtime.compile(Compilable(model.SerializeToString())).run({"x": -np.ones((1, 2, 3, 3), np.float32)})
    assert list(found) == ["z", "c", "y", "a"]
    np.testing.assert_allclose([found[name].mean() for name in found], [1 / 3, -1, 0, -1], rtol=1e-6)


def test_what_does_not_run_is_one_silent_line(runtime: Target, capfd: pytest.CaptureFixture[str]) -> None:
    compiled = runtime.compile(Compilable(conv_model(identity(4), (1, 4, "h", "w"))))
    with pytest.raises(CompileError) as caught:
        compiled.run({"x": np.zeros((1, 3, 5, 5), np.float32)})
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_is_a_reason(runtime: Target, tmp_path: Path) -> None:
    with pytest.raises(CompileError):
        runtime.compile(Compilable(tmp_path / "nothing.onnx"))


def test_the_environment_says_what_a_time_depends_on(runtime: Target) -> None:
    environment = runtime.environment()
    assert environment.target == runtime.name
    assert all(environment.versions.values())
    assert environment.processor == processor.name()
    assert int(environment.options["processors"]) >= 1
    assert environment == target(runtime.name).environment()
    assert target(runtime.name, threads=1).environment() != environment


def test_times_have_quartiles_and_say_that_they_are_measured(runtime: Target) -> None:
    x = np.ones((1, 4, 8, 8), np.float32)
    few, many = Candidate("native"), Candidate("zero_insert")
    model, longer = conv_model(identity(4), x.shape), conv_model(identity(4), x.shape, times=3)
    compiled = {few: runtime.compile(Compilable(model)), many: runtime.compile(Compilable(longer))}
    seen: list[float] = []
    found = timed(runtime.measure(compiled, {"x": x}, AGES, progress=seen.append, drop=KEEP_ALL))
    assert list(found) == [few, many]
    for time in found.values():
        assert 0 < time.low_ms <= time.median_ms <= time.high_ms
        assert time.rounds >= FEWEST_ROUNDS
        assert time.kind == runtime.kind == "measured"
    assert seen[-1] == 1.0


def test_a_timed_model_computes_the_same(runtime: Target) -> None:
    x = np.random.default_rng(0).random((1, 4, 5, 6), np.float32)[:, ::-1]  # not contiguous
    compiled = runtime.compile(Compilable(conv_model(identity(4), x.shape)))
    runtime.measure({NATIVE: compiled}, {"x": x}, 0.01)
    np.testing.assert_array_equal(compiled.run({"x": x})["y"], x)


def test_an_input_without_axes_stays_one(runtime: Target) -> None:
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    ports = [helper.make_tensor_value_info(name, number, shape) for name, shape in (("x", [2]), ("t", []), ("y", [2]))]
    graph = helper.make_graph([helper.make_node("Mul", ["x", "t"], ["y"])], "scaled", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    compiled = runtime.compile(Compilable(model.SerializeToString()))
    feeds = {"x": np.ones(2, np.float32), "t": np.asarray(3, np.float32)}
    assert compiled.run(feeds)["y"].tolist() == [3, 3]
    assert timed(runtime.measure({NATIVE: compiled}, feeds, 0.01))[NATIVE].rounds >= FEWEST_ROUNDS


def test_a_model_that_states_wrong_output_sizes_is_timed(runtime: Target) -> None:
    model = onnx.load_from_string(conv_model(identity(4), (1, 4, "h", "w")))
    stated = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 4, 9, 9))
    model.graph.output[0].CopyFrom(stated)
    compiled = {NATIVE: runtime.compile(Compilable(model.SerializeToString()))}
    times = runtime.measure(compiled, {"x": np.ones((1, 4, 5, 6), np.float32)}, 0.1)
    assert timed(times)[NATIVE].rounds >= FEWEST_ROUNDS


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_float32_is_run_at_every_rank(runtime: Target, rank: int) -> None:
    deconv = Deconv((Axis(4, 2, in_size=4),) * rank, 4, 4)
    for candidate in (
        NATIVE,
        Candidate("split", "union", "transpose"),
        Candidate("zero_insert"),
        Candidate("split_rows"),
    ):
        assert runtime.refuse(lower(deconv, "NCHW", candidate)) is None


def test_float64_is_refused_with_the_reason(runtime: Target) -> None:
    deconv = Deconv(DECONV.axes, 4, 4, dtype="float64")
    for candidate in (NATIVE, SPLIT):
        assert "float64" in (runtime.refuse(lower(deconv, "NCHW", candidate)) or "")


def test_a_type_that_onnx_does_not_have_is_refused(runtime: Target) -> None:
    deconv = Deconv(DECONV.axes, 4, 4, dtype="complex256")
    assert "ONNX has no type complex256" in (runtime.refuse(lower(deconv, "NCHW", NATIVE)) or "")


def test_operators_are_probed_once(runtime: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.refuse(lower(DECONV, "NCHW", SPLIT)) is None
    monkeypatch.setattr(runtime, "compile", None)
    assert runtime.refuse(lower(DECONV, "NCHW", SPLIT)) is None


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="onnxruntime is not installed")
def test_onnx_runtimes_deconv_that_reads_outside_its_buffer_is_refused() -> None:
    deconv = Deconv((Axis(3, 2, 3, output_pad=2, in_size=4),), 4, 4)
    runtime = target("onnxruntime")
    assert "outside its buffer" in (runtime.refuse(lower(deconv, "NCHW", NATIVE)) or "")
    assert runtime.refuse(lower(deconv, "NCHW", Candidate("split", "union", "transpose"))) is None


@pytest.fixture
def openvino(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """OpenVINO on a processor that has bfloat16 and no float16; the options with which it was told to compile."""
    pytest.importorskip("openvino")
    runtime = target("openvino")._runtime  # type: ignore[attr-defined]
    monkeypatch.setattr(runtime, "described", {**runtime.described, "capabilities": {"CPU": ["FP32", "BF16"]}})
    told: list[dict[str, Any]] = []
    ask = runtime.ask

    def recording(do: str, **what: Any) -> dict[str, Any]:
        told.append(what["options"]["config"])
        return ask(do, **what)  # type: ignore[no-any-return]

    monkeypatch.setattr(runtime, "ask", recording)
    return told


def test_openvino_computes_in_float32_unless_asked_otherwise(openvino: list[dict[str, Any]]) -> None:
    for options, precision, hint in (({}, "float32", "f32"), ({"precision": "bfloat16"}, "bfloat16", "bf16")):
        runtime = target("openvino", threads=1, **options)  # type: ignore[arg-type]
        runtime.compile(Compilable(conv_model(identity(4), (1, 4, 5, 6))))
        assert runtime.environment().options["precision"] == precision
        assert openvino[-1]["INFERENCE_PRECISION_HINT"] == hint
        assert openvino[-1]["INFERENCE_NUM_THREADS"] == 1


def test_openvino_takes_no_precision_that_the_device_would_silently_replace(openvino: list[dict[str, Any]]) -> None:
    message = "OpenVINO's CPU does not compute in float16 on this machine, only in float32, bfloat16"
    with pytest.raises(UsageError, match=message):
        target("openvino", precision="float16")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("onnxruntime:cuda", {}, "no provider 'cuda', which another package of ONNX Runtime brings; it has .*cpu"),
        ("onnxruntime:abacus", {}, "no provider 'abacus'; it has .*cpu"),
        ("onnxruntime", {"precision": "float16"}, "knows no --precision float16; it computes in the model's own"),
        ("onnxruntime", {"threads": -1}, "--threads -1: wanted 1 to 1024"),
        ("openvino:ABACUS", {}, "OpenVINO sees no device 'ABACUS'; it sees .*CPU"),
        ("openvino", {"precision": "float8"}, "knows no --precision float8; there are float32, float16, bfloat16"),
        ("tensorrt", {}, "no target is called 'tensorrt'; there are "),
    ],
)
def test_an_option_that_a_target_does_not_know(text: str, options: dict[str, object], message: str) -> None:
    name = text.partition(":")[0]
    if name in targets.TARGETS and name not in INSTALLED:
        pytest.skip(f"{name} is not installed")
    if text == "onnxruntime:cuda" and "CUDAExecutionProvider" in onnxruntime_providers():
        pytest.skip("this package has the provider")
    with pytest.raises(UsageError, match=message):
        target(text, **options)  # type: ignore[arg-type]


def onnxruntime_providers() -> list[str]:
    return pytest.importorskip("onnxruntime").get_available_providers()  # type: ignore[no-any-return]


def test_names_are_taken_in_any_case(runtime: Target) -> None:
    assert target(f"{runtime.name}:cpu").name == target(f"{runtime.name}:CPU").name == runtime.name


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(targets.TARGETS, "openvino", "package_that_is_not_there:Target")
    with pytest.raises(MissingExtraError, match=r"target 'openvino' needs package_that_is_not_there: .*\[openvino\]"):
        target("openvino")


def test_a_long_message_becomes_one_line() -> None:
    assert one_line(RuntimeError("first\n   second\tthird")) == "first second third"
    assert one_line(RuntimeError()) == "RuntimeError"
    assert one_line(RuntimeError("x" * 999)) == "x" * 299 + "…"


def test_the_processor_has_a_name() -> None:
    assert processor.name()
    assert set(processor.description()) <= {"processors", "instructions", "memory_gib"}
