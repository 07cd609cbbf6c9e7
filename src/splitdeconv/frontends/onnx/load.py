"""Reading and writing ONNX files, with external data, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from splitdeconv.errors import InputError, OutputError

_PROTO_LIMIT = 2**31 - 2**20  # protobuf refuses messages of 2 GiB
_EXTERNAL_FROM = 1024  # bytes; smaller tensors stay in the model's own file


@dataclass(frozen=True)
class OnnxModel:
    """A model in memory; its external data stay on disk until they are used.

    Attributes:
        ir: the model.
        path: where it came from, or None for a model that was handed over in memory.
    """

    ir: ir.Model
    path: Path | None


def load(path: Path) -> OnnxModel:
    """Read a model.

    Raises:
        InputError: not an ONNX model, truncated, or external data missing, too short or outside of the folder.
    """
    try:
        model = ir.load(path)
    except Exception as error:  # a damaged file makes the parser fail in many ways
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: not a readable ONNX model ({reason}); wanted a complete .onnx file") from None
    if not model.ir_version or not model.opset_imports:
        raise InputError(f"{path}: not an ONNX model (no IR version or opset); wanted a complete .onnx file")
    for tensor in external_tensors(model):
        _check_external(path, tensor)
    return OnnxModel(model, path)


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """All initializers whose data lie in other files."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value


def _check_external(path: Path, tensor: ir.ExternalTensor) -> None:
    folder = path.parent.resolve()
    file = (folder / str(tensor.location)).resolve()
    where = f"{path}: tensor '{tensor.name}' has its data in '{tensor.location}'"
    if not file.is_relative_to(folder):
        raise InputError(f"{where}, which is outside of the model's folder; wanted a file inside of it")
    if not file.is_file():
        raise InputError(f"{where}, which does not exist; wanted that file beside the model")
    needed = (tensor.offset or 0) + (tensor.length or 0)
    if file.stat().st_size < needed:
        raise InputError(f"{where}, which has {file.stat().st_size} bytes; wanted at least {needed}")


def save(model: OnnxModel, path: Path) -> None:
    """Write a model, and ``<path>.data`` with it where the model had external data or is above 2 GiB.

    Raises:
        OutputError: the folder is missing, not writable or full, or the model's own files would be overwritten.
    """
    data = path.with_name(path.name + ".data")
    external = list(external_tensors(model.ir))
    if any(Path(str(tensor.path)).resolve() == data.resolve() for tensor in external):
        raise OutputError(f"{data}: holds the input's own weights and would be overwritten; choose another output name")
    size = sum(value.const_value.nbytes for value in model.ir.graph.initializers.values() if value.const_value)
    with staging(path) as folder:
        if external or size > _PROTO_LIMIT:
            staged = model.ir.clone()
            ir.save(staged, folder / path.name, external_data=data.name, size_threshold_bytes=_EXTERNAL_FROM)
            (folder / data.name).replace(data)
        else:
            ir.save(model.ir, folder / path.name)
        (folder / path.name).replace(path)


@contextmanager
def staging(path: Path) -> Iterator[Path]:
    """A temporary folder beside ``path``, removed afterwards, with file-system errors as one clear line."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); wanted a writable folder") from None
    try:
        yield folder
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
