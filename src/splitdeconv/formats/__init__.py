"""Model formats. One line here, one folder and one extra make a new one.

Other packages bring theirs by entry points of the group ``splitdeconv.formats``.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from splitdeconv import plugins
from splitdeconv.errors import InputError, UsageError
from splitdeconv.formats.frontend import Frontend

_OWN = {
    "onnx": "splitdeconv.formats.onnx:OnnxFrontend",
    "tflite": "splitdeconv.formats.tflite:TfliteFrontend",
}
FRONTENDS = plugins.registry("format", _OWN)

_TFLITE_MAGIC = b"TFL3"


def frontend(name: str, numerics: str = "exact") -> Frontend:
    """The front-end of a format.

    Args:
        name: of the format.
        numerics: ``exact``, or what else the format's front-end lists as ``numerics_known``.

    Raises:
        UsageError: no such format, or it does not know these numerics.
        MissingExtraError: its package is not installed.
    """
    kind = plugins.load("format", name, FRONTENDS)
    if numerics == "exact":
        return cast("Frontend", kind())
    known: tuple[str, ...] = getattr(kind, "numerics_known", ("exact",))
    if numerics not in known:
        raise UsageError(f"--numerics {numerics}: {name} models know {', '.join(known)}")
    return cast("Frontend", kind(numerics))


def recognise(path: Path, numerics: str = "exact") -> Frontend:
    """The front-end for the file at ``path``, by its content: TFLite has a mark, everything else is tried as ONNX.

    Formats of other packages are known by the file's suffix, which is their name.

    Raises:
        InputError: the file cannot be read, or is empty.
        UsageError: the format does not know these numerics.
    """
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory, wanted an .onnx or .tflite file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), wanted an .onnx or .tflite file") from None
    if not start:
        raise InputError(f"{path}: is empty, wanted an .onnx or .tflite file")
    if (suffix := path.suffix[1:]) in FRONTENDS and suffix not in _OWN:
        return frontend(suffix, numerics)
    return frontend("tflite" if start[4:8] == _TFLITE_MAGIC else "onnx", numerics)
