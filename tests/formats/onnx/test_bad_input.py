"""What is not a sound ONNX model ends in one clear line, whatever it is; nothing else may come out."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from splitdeconv import formats
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.errors import InputError, SplitdeconvError
from splitdeconv.pipeline import convert as pipeline
from splitdeconv.pipeline.request import ConvertRequest
from tests.onnx_models import OPSET, build, load, single, sites
from tests.strategies import integer_tensors

DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 3), Axis(3, 3, 1, 0, 1, 1, 4)), 2, 2, has_bias=True)
X, WEIGHTS = integer_tensors(DECONV, 0, "float32")
PATIENCE = 60  # seconds for one damaged file, which takes milliseconds: what needs longer hangs


def convert(path: Path, out: Path | None = None) -> None:
    pipeline.convert(path, out, ConvertRequest("generic", verify=False))


# Files that are no models


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, world\n" * 20, "not a"),
        (b"\x00" * 64, "not a"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "not a"),
        pytest.param(
            b"PK\x03\x04" + bytes(range(200)),
            "not a",
            marks=pytest.mark.skipif(not find_spec("torch"), reason="an archive is a program of PyTorch"),
        ),
        (b"\x08\x08", "not an ONNX model"),  # an IR version and nothing else
        (os.urandom(0) + bytes(range(256)) * 4, "not a"),
    ],
)
def test_what_is_not_a_model(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        convert(path, tmp_path / "out.onnx")
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "wanted" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_a_directory_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a directory, wanted"):
        formats.load(tmp_path)
    with pytest.raises(InputError, match=r"cannot be read \(No such file or directory\), wanted"):
        formats.load(tmp_path / "none.onnx")


def test_every_truncation(tmp_path: Path) -> None:
    content = single(DECONV, WEIGHTS).SerializeToString()
    for length in range(1, len(content), 7):
        assert_only_clear_lines(content[:length], tmp_path)


# Damaged files


@contextmanager
def patience(seconds: int) -> Iterator[None]:
    """Stop what hangs, where the system can."""

    def stop(_number: int, _frame: Any) -> None:
        raise AssertionError(f"no answer within {seconds} seconds")

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_only_clear_lines(content: bytes, folder: Path) -> bool:
    """Convert the file; whether it was taken. Only the project's own errors may come out, on one line."""
    path, out = folder / "damaged.onnx", folder / "out.onnx"
    path.write_bytes(content)
    out.unlink(missing_ok=True)
    try:
        with patience(PATIENCE):
            convert(path, out)
    except SplitdeconvError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1
        assert sorted(each.name for each in folder.iterdir()) == ["damaged.onnx"]
        return False
    assert path.read_bytes() == content
    return True


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four damages: bits flipped, bytes overwritten, cut out, doubled, or the end lost."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(len(data)))
        length = int(rng.integers(1, 9))
        match rng.integers(6):
            case 0 | 1 | 2:
                data[place] ^= 1 << int(rng.integers(8))
            case 3:
                data[place : place + length] = rng.bytes(length)
            case 4:
                del data[place : place + length]
            case _:
                data[place:place] = data[place : place + length]
        if not data:
            return b"\x00"
    return bytes(data[: int(rng.integers(1, len(data) + 1))]) if rng.random() < 0.05 else bytes(data)


def originals() -> list[bytes]:
    """Small models with everything that a file can hold: constants, an epilogue, a body, a function."""
    values, bias = WEIGHTS.kernel, WEIGHTS.bias
    assert bias is not None
    plain = single(DECONV, WEIGHTS, [helper.make_node("Relu", ["y"], ["z"])], output="z")
    folded = [
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(values.astype(np.float16))),
        helper.make_node("Cast", ["c"], ["w"], to=1),
        helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="site", strides=[2, 3], auto_pad="SAME_UPPER"),
    ]
    chain = build(folded, {"x": X.shape}, {"y": [None] * 4}, {"b": bias}, opset=13)
    branches = [
        helper.make_graph(
            [helper.make_node("ConvTranspose", ["x", "w"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, 1, [None] * 4)],
        )
        for name in ("t", "e")
    ]
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    body = build([choice], {"x": ("N", 2, 3, 4)}, {"y": [None] * 4}, {"w": values, "c": np.asarray(True)})
    local = helper.make_function(
        "local",
        "up",
        ["a"],
        ["r"],
        [folded[0], folded[1], helper.make_node("ConvTranspose", ["a", "w"], ["r"])],
        [helper.make_opsetid("", OPSET)],
    )
    call = helper.make_node("up", ["x"], ["y"], domain="local")
    function = build([call], {"x": X.shape}, {"y": [None] * 4}, {}, functions=[local], domains={"local": 1})
    return [model.SerializeToString() for model in (plain, chain, body, function)]


def fuzz(times: int, seed: int, folder: Path) -> None:
    rng = np.random.default_rng(seed)
    models = originals()
    taken = 0
    for number in range(times):
        content = damaged(models[number % len(models)], rng)
        try:
            taken += assert_only_clear_lines(content, folder)
        except Exception as error:
            error.add_note(f"file {number} of seed {seed}") if hasattr(error, "add_note") else None
            raise
    assert 0 < taken < times, "some damages are harmless, some are not"


def test_damaged_files_end_in_one_clear_line(tmp_path: Path) -> None:
    fuzz(300, 1, tmp_path)


@pytest.mark.long
def test_ten_thousand_damaged_files(tmp_path: Path) -> None:
    fuzz(10_000, 2, tmp_path)


# Deconvs that contradict themselves


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_dims": (1, 5, 3, 4)}, "kernel has 2 input channels, input has 5 (NCHW); wanted the same."),
        ({"in_dims": (1, 3, 4, 2)}, "input has 3 (NCHW); wanted the same. Is the model NHWC?"),
        ({"in_dims": (1, 2, 3)}, "input has 3 axes, its weight 4; wanted the same"),
        ({"attributes": {"group": 3}}, "group is 3, which does not divide 2 input channels"),
        ({"attributes": {"group": 0}}, "group is 0"),
        ({"attributes": {"group": -1}}, "group is -1"),
        ({"attributes": {"kernel_shape": [3, 3]}}, "kernel_shape is [3, 3], but the weight's kernel is [4, 3]"),
        ({"attributes": {"strides": [2]}}, "strides has 1 numbers, wanted 2"),
        ({"attributes": {"strides": [0, 1]}}, "strides is [0, 1], wanted numbers that are at least 1"),
        ({"attributes": {"dilations": [1, -1]}}, "dilations is [1, -1]"),
        ({"attributes": {"output_padding": [-1, 0]}}, "output_padding is [-1, 0]"),
        ({"attributes": {"pads": [1, 1, 1]}}, "pads is [1, 1, 1], wanted 4 numbers"),
        ({"attributes": {"pads": [1, 1, -1, 0]}}, "pads is [1, 1, -1, 0]"),
        ({"attributes": {"pads": [9, 0, 9, 0]}}, "output size is -12, wanted at least 1"),
        ({"attributes": {"pads": [3, 0, 3, 0]}}, "output size is 0, wanted at least 1"),
        ({"attributes": {"auto_pad": "SAME"}}, "auto_pad is 'SAME', wanted one of NOTSET"),
        ({"attributes": {"output_shape": [9]}}, "output_shape has 1 numbers, wanted 2"),
        ({"attributes": {"output_shape": [90, 9]}}, "output_shape is 90, wanted at most"),
        ({"attributes": {"output_shape": [0, 9]}}, "wanted at least 1"),
        ({"attributes": {"strides": 2}}, "strides"),
        ({"attributes": {"group": [1]}}, "group"),
        ({"attributes": {"pads": "same"}}, "pads"),
        ({"attributes": {"auto_pad": 3}}, "auto_pad"),
        (
            {"attributes": {"auto_pad": "SAME_UPPER", "output_padding": [0, 1], "strides": [2, 2]}},
            "with output_padding",
        ),
        ({"attributes": {"strides": [1.5, 2.5]}}, "strides"),
    ],
)
def test_a_deconv_that_contradicts_itself(change: dict[str, Any], message: str) -> None:
    findings = load(single(DECONV, WEIGHTS, **{"attributes": {}, **change})).find()
    assert findings.sites == ()
    (skipped,) = findings.skipped
    assert skipped.site == "site"
    assert "\n" not in skipped.reason
    assert message in skipped.reason


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 1, 1, 1, 1), (0, 2, 4, 3), (2, 0, 4, 3), (2, 2, 0, 3)])
def test_a_weight_that_is_none(shape: tuple[int, ...]) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="site")
    model = build([node], {"x": (1, 2, 3, 4)}, {"y": None}, {"w": np.zeros(shape, np.float32)})
    findings = load(model).find()
    assert (findings.sites, len(findings.skipped)) == ((), 1)


def test_a_deconv_without_inputs() -> None:
    node = helper.make_node("ConvTranspose", ["x"], ["y"], name="site")
    (skipped,) = load(build([node], {"x": (1, 2, 3, 4)}, {"y": None}, {})).find().skipped
    assert skipped.reason == "a ConvTranspose has an input and a weight, this one has 1"


def test_an_integer_weight_is_no_deconv_of_the_standard() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="site")
    model = build([node], {"x": (1, 2, 3, 4)}, {"y": None}, {"w": np.ones((2, 2, 3, 3), np.int64)})
    (skipped,) = load(model).find().skipped
    assert skipped.reason.startswith("weight of type INT64, wanted FLOAT")


def test_names_that_are_not_utf8_or_very_long(tmp_path: Path) -> None:
    model = single(DECONV, WEIGHTS)
    model.graph.node[0].name = "ünïcødé/" + "x" * 5000
    (site,) = sites(load(model))
    assert site.id == model.graph.node[0].name


def test_a_graph_that_runs_in_a_circle(tmp_path: Path) -> None:
    model = single(DECONV, WEIGHTS)
    model.graph.node[0].input[0] = "y"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="not a sound ONNX model"):
        convert(path, tmp_path / "out.onnx")
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
