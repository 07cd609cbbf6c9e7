"""Files of ``torch.export.save``, and which of them are opened.

PyTorch's loader unpickles whatever a file holds in that way: tensor subclasses, objects of the user's own classes, and
all weights in the format before torch 2.9; and it evaluates sizes and names as Python (``evaluated``). Loading such a
file runs code of its author, so it is refused.
"""

from __future__ import annotations

import io
import json
import logging
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from splitdeconv.errors import InputError, lacks_memory
from splitdeconv.torch_modules.evaluated import first_code
from splitdeconv.torch_modules.flat import first_line

PICKLED = ("data/weights/", "data/constants/")  # folders whose lists say what in them is pickled
COMPILED = "data/aotinductor/"
TENSORS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"  # for torch.load, which otherwise falls back to unpickling anything
WANTED = "wanted a .pt2 file, as torch.export.save writes it"


def load(path: Path) -> ExportedProgram:
    """The exported program in ``path``.

    Raises:
        InputError: not such a file, or one that cannot be read without running code that it holds.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            reason = _refuse(archive)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), {WANTED}") from None
    except Exception as error:  # damaged archives and lists make their readers fail in many ways
        if lacks_memory(error):
            raise
        raise InputError(f"{path}: is no archive that can be read ({first_line(error)}), {WANTED}") from None
    if reason:
        raise InputError(f"{path}: {reason}")
    try:
        with path.open("rb") as file, _careful():
            program = torch.export.load(file)
    except Exception as error:  # zip, schema and version errors alike
        if lacks_memory(error):
            raise
        raise InputError(f"{path}: torch {torch.__version__} cannot load it ({first_line(error)}), {WANTED}") from None
    return program


def to_bytes(program: ExportedProgram) -> bytes:
    """The content of a file."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _refuse(archive: zipfile.ZipFile) -> str | None:
    """Why the file is not loaded, or None."""
    names = {name.partition("/")[2]: name for name in archive.namelist()}
    if len(names) < len(archive.namelist()):  # PyTorch's reader may take the other one
        return f"holds two entries of one name; {WANTED}"
    if not any(name.startswith("models/") for name in names):
        return f"holds no exported program of torch 2.9 or later, {WANTED}; save older files again with a newer torch"
    if any(name.startswith(COMPILED) for name in names):
        return f"holds machine code of AOTInductor, which is not run; {WANTED}"
    for name, entry in names.items():
        if name.startswith("models/") and (code := first_code(json.loads(archive.read(entry)))):
            return f"holds '{code}' where PyTorch evaluates sizes and names, which may run code; it is not loaded"
        if name.startswith(PICKLED) and name.endswith(".pt"):
            return "holds pickled weights, and loading them runs code; save it again with torch 2.9 or later"
        if name.startswith(PICKLED) and name.endswith(".json"):
            listed: dict[str, Any] = json.loads(archive.read(entry))["config"]
            pickled = [stored for stored, payload in listed.items() if payload["use_pickle"]]
            if pickled:
                return f"holds '{pickled[0]}' as a pickle, and loading it runs code; {WANTED} with plain tensors"
    return None


@contextmanager
def _careful() -> Iterator[None]:
    """Nothing but tensors is unpickled, and what fails is raised without being logged as well."""
    logger, before = logging.getLogger("torch.export"), os.environ.get(TENSORS_ONLY)
    disabled, logger.disabled = logger.disabled, True
    os.environ[TENSORS_ONLY] = "1"
    try:
        yield
    finally:
        logger.disabled = disabled
        os.environ.pop(TENSORS_ONLY)
        if before is not None:
            os.environ[TENSORS_ONLY] = before
