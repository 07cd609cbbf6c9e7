"""Model formats. One line here, one folder and one extra make a new one.

Other packages bring theirs by entry points of the group ``splitdeconv.formats``.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from splitdeconv import plugins
from splitdeconv.errors import InputError, MissingExtraError, UsageError
from splitdeconv.files import protect
from splitdeconv.formats.model import Model

_OWN = {
    "onnx": "splitdeconv.formats.onnx:OnnxModel",
    "tflite": "splitdeconv.formats.tflite:TfliteModel",
    "torch": "splitdeconv.formats.torch:ExportedModel",
}
SUFFIXES = {".onnx": "onnx", ".tflite": "tflite", ".pt2": "torch"}
FORMATS = plugins.registry("format", _OWN)

_TFLITE_MAGIC = b"TFL3"
_ZIP_MAGIC = b"PK\x03\x04"
_WANTED = "wanted an .onnx, .tflite or .pt2 file"


def model_class(name: str, numerics: str = "exact") -> type[Model]:
    """The class of a format's models.

    Args:
        name: of the format.
        numerics: ``exact``, or what else the format lists as ``numerics_known``.

    Raises:
        UsageError: no such format, or it does not know these numerics.
        MissingExtraError: its package is not installed.
    """
    kind = cast("type[Model]", plugins.load("format", name, FORMATS))
    if numerics not in kind.numerics_known:
        raise UsageError(f"--numerics {numerics}: {name} models know {', '.join(kind.numerics_known)}")
    return kind


def load(path: Path, numerics: str = "exact") -> Model:
    """The model in a file; its content tells the format.

    TFLite has a mark, PyTorch's files are archives, and everything else is tried as ONNX.

    Formats of other packages are known by the file's suffix, which is their name.

    Raises:
        InputError: the file cannot be read, or is not a model.
        UsageError: the format does not know these numerics, or the command under way writes one of the model's files.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, {_WANTED}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), {_WANTED}") from None
    if not start:
        raise InputError(f"{path}: is empty, {_WANTED}")
    name = "tflite" if start[4:8] == _TFLITE_MAGIC else "torch" if start[:4] == _ZIP_MAGIC else "onnx"
    if (suffix := path.suffix[1:]) in FORMATS and suffix not in _OWN:
        name = suffix
    model = model_class(name, numerics).load(path, numerics)
    protect(model.files())
    return model


def from_object(source: object, numerics: str = "exact") -> Model:
    """The model in an object of a format's own library.

    Raises:
        InputError: no format knows such objects.
        UsageError: the format does not know these numerics.
    """
    for name in FORMATS:
        try:
            model = model_class(name).from_object(source)
        except MissingExtraError:  # then it is no object of this format's library
            continue
        if model is not None:
            return model if numerics == "exact" else _with_numerics(name, source, numerics)
    wanted = (
        "a path, or an object such as onnx.ModelProto or torch.export.ExportedProgram; PyTorch modules go to "
        "splitdeconv.torch.convert"
    )
    raise InputError(f"{type(source).__name__}: is not a model; wanted {wanted}")


def _with_numerics(name: str, source: object, numerics: str) -> Model:
    model = model_class(name, numerics).from_object(source, numerics)
    assert model is not None, "it was one a moment ago"
    return model
