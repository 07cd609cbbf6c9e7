"""Files around an ONNX model that cannot be read or written: one clear line, and nothing left behind."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import helper

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.errors import InputError, OutputError
from splitdeconv.pipeline import convert as pipeline
from splitdeconv.pipeline.request import ConvertRequest
from tests.onnx_models import build, single
from tests.strategies import integer_tensors

DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 3), Axis(3, 3, 1, 0, 1, 1, 4)), 2, 2, has_bias=True)
X, WEIGHTS = integer_tensors(DECONV, 0, "float32")


def convert(path: Path, out: Path | None = None) -> None:
    pipeline.convert(path, out, ConvertRequest("generic", verify=False))


def test_the_collector_goes_on_after_a_failure(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(InputError):
        convert(tmp_path / "model.onnx")
    assert gc.isenabled()


# External data


def external(folder: Path, channels: int = 2) -> tuple[Path, Path]:
    """A model and the file that holds its tensors."""
    path = folder / "model.onnx"
    deconv = replace(DECONV, in_channels=channels, out_channels=channels)
    model = single(deconv, integer_tensors(deconv, 0, "float32")[1])
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path, folder / "weights.bin"


def relocate(path: Path, key: str, value: str) -> None:
    """Change an entry of every tensor's external data."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value
    path.write_bytes(model.SerializeToString())


def missing(path: Path, data: Path) -> None:
    data.unlink()


def short(path: Path, data: Path) -> None:
    data.write_bytes(data.read_bytes()[:-8])


def outside(path: Path, data: Path) -> None:
    (path.parent.parent / "weights.bin").write_bytes(data.read_bytes())
    relocate(path, "location", "../weights.bin")


def absolute(path: Path, data: Path) -> None:
    relocate(path, "location", "/etc/hostname")


def linked(path: Path, data: Path) -> None:
    data.rename(path.parent.parent / "weights.bin")
    data.symlink_to(path.parent.parent / "weights.bin")


def directory(path: Path, data: Path) -> None:
    data.unlink()
    data.mkdir()


def shorter(path: Path, data: Path) -> None:
    relocate(path, "length", "4")


def beyond(path: Path, data: Path) -> None:
    relocate(path, "offset", str(2**40))


def negative(path: Path, data: Path) -> None:
    relocate(path, "offset", "-16")


def no_number(path: Path, data: Path) -> None:
    relocate(path, "offset", "some")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, "which does not exist; wanted that file beside the model"),
        (short, "bytes; wanted at least"),
        (outside, "outside of the model's folder"),
        (absolute, "outside of the model's folder"),
        (linked, "outside of the model's folder"),
        (directory, "which does not exist"),
        (shorter, "with 4 bytes; wanted"),
        (beyond, "bytes; wanted at least"),
        (negative, "wanted"),
        (no_number, "wanted"),
    ],
)
def test_external_data_that_cannot_be_used(damage: Callable[[Path, Path], None], message: str, tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    path, data = external(place)
    damage(path, data)
    with pytest.raises(InputError) as caught:
        convert(path, place / "out.onnx")
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert not list(place.glob("*out*"))


def test_an_external_constant_outside_of_the_folder(tmp_path: Path) -> None:
    constant = helper.make_tensor("", onnx.TensorProto.FLOAT, WEIGHTS.kernel.shape, WEIGHTS.kernel.tobytes(), raw=True)
    constant.ClearField("raw_data")
    constant.data_location = onnx.TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="../../etc/hostname")
    nodes = [
        helper.make_node("Constant", [], ["w"], value=constant),
        helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="site"),
    ]
    path = tmp_path / "model.onnx"
    path.write_bytes(build(nodes, {"x": X.shape}, {"y": [None] * 4}, {}).SerializeToString())
    with pytest.raises(InputError, match="outside of the model's folder"):
        convert(path)


# Places that cannot be written


def stored(folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(single(DECONV, WEIGHTS), path)
    return path


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        convert(stored(tmp_path), tmp_path / "none" / "out.onnx")


def test_a_directory_as_output(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="is a directory"):
        convert(stored(tmp_path), tmp_path / "out")


def test_the_input_as_output(tmp_path: Path) -> None:
    path = stored(tmp_path)
    before = path.read_bytes()
    (tmp_path / "link.onnx").symlink_to(path)
    for out in (path, tmp_path / "link.onnx"):
        with pytest.raises(OutputError, match="is the input itself"):
            convert(path, out)
    assert path.read_bytes() == before


def test_the_inputs_weights_as_output(tmp_path: Path) -> None:
    path, data = external(tmp_path, channels=16)
    before = data.read_bytes()
    with pytest.raises(OutputError):
        convert(path, data)
    moved = tmp_path / "other.onnx.data"
    data.rename(moved)
    relocate(path, "location", moved.name)
    with pytest.raises(OutputError, match="belongs to the input"):
        convert(path, tmp_path / "other.onnx")
    assert moved.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "other.onnx.data"]


@pytest.mark.parametrize("is_external", [False, True])
def test_a_full_disk_leaves_nothing_behind(is_external: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full after some bytes, at every file that is written."""
    path = external(tmp_path)[0] if is_external else stored(tmp_path)
    before = sorted(each.name for each in tmp_path.iterdir())

    def full(*args: Any, **options: Any) -> None:
        target = next(each for each in args if isinstance(each, Path))
        Path(target).write_bytes(b"part of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"splitdeconv.formats.onnx.files.{'ir' if is_external else 'onnx'}.save", full)
    with pytest.raises(OutputError, match=r"out\.onnx: cannot be written \(No space left on device\)"):
        convert(path, tmp_path / "out.onnx")
    assert sorted(each.name for each in tmp_path.iterdir()) == before


def test_a_read_only_folder(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the superuser may write everywhere")
    path = stored(tmp_path)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\)"):
            convert(path, tmp_path / "out.onnx")
    finally:
        tmp_path.chmod(0o700)
