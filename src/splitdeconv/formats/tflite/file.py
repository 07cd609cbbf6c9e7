"""TFLite files: bytes → object tree → bytes, with everything that is not an operator kept as it was."""

from __future__ import annotations

import copy
import io
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError
from splitdeconv.formats.tflite import flatbuffer
from splitdeconv.formats.tflite.check import inconsistency
from splitdeconv.formats.tflite.schema import tfl

ALIGNMENT = 16  # of buffer contents, as schema.fbs demands (force_align)
LARGEST_INLINE = 2**31 - 2**24  # FlatBuffers end at 2 GiB; beyond that, buffers lie behind it in the file
_WANTED = "wanted a TFLite model (schema version 3)"


@dataclass(frozen=True)
class Contents:
    """What a file holds. Nobody changes the tree; new models share its unchanged parts.

    Attributes:
        name: where it came from, for messages.
        root: the schema's ``ModelT`` tree; contents of all buffers are in the tree.
        outside: whose contents lay behind the FlatBuffer in the file, by the numbers of their buffers.
        known: how many buffers the file had; those after them are new.
        attached: files that were appended as a zip archive (TFLite metadata's associated files).
    """

    name: str
    root: Any
    outside: frozenset[int] = frozenset()
    known: int = 0
    attached: bytes = b""


def read(path: Path) -> Contents:
    """The model in ``path``.

    Raises:
        InputError: it cannot be read, or is not a sound TFLite model.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), {_WANTED}") from None
    return from_bytes(content, str(path))


def from_bytes(content: bytes, name: str) -> Contents:
    """The model that ``content`` holds; ``name`` is for messages.

    Raises:
        InputError: not a sound TFLite model.
    """
    try:
        flatbuffer.verify(content)
        root = tfl.ModelT.InitFromPackedBuf(content)
    except flatbuffer.MalformedError as error:
        raise InputError(f"{name}: {error}, {_WANTED}") from None
    except (struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError) as error:
        raise InputError(f"{name}: an operator's options are malformed ({error}), {_WANTED}") from None
    if problem := inconsistency(root, len(content)):
        raise InputError(f"{name}: {problem}, {_WANTED}")
    return Contents(name, root, _take_in_external(root, content), len(root.buffers), _attached(content))


def _take_in_external(root: Any, content: bytes) -> frozenset[int]:
    """Put what lies behind the FlatBuffer into the tree, which nobody else holds yet; the buffers that did."""
    outside = frozenset(number for number, buffer in enumerate(root.buffers) if buffer.offset > 1)
    for buffer in (root.buffers[number] for number in outside):
        buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    for operator in _operators(root):
        if operator.largeCustomOptionsOffset > 1:
            size, offset = operator.largeCustomOptionsSize, operator.largeCustomOptionsOffset
            operator.customOptions = np.frombuffer(content, np.uint8, size, offset)
            operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0
    return outside


def _operators(root: Any) -> list[Any]:
    return [operator for graph in root.subgraphs or [] for operator in graph.operators or []]


def _attached(content: bytes) -> bytes:
    """A zip archive at the end of the file, or nothing."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            start = min((entry.header_offset for entry in archive.infolist()), default=len(content))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error):
        return b""
    return content[start:] if start > 0 else b""


class _Builder(flatbuffers.Builder):  # type: ignore[misc]  # the library has no types
    """Aligns the contents of buffers, which the generated Python code leaves out."""

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802  # overrides the library's
        if x.dtype != np.uint8:
            return int(super().CreateNumpyVector(x))
        self.StartVector(1, x.size, ALIGNMENT)
        self.head = self.Head() - x.size
        self.Bytes[self.head : self.head + x.size] = x.tobytes()
        self.vectorNumElems = x.size
        return int(self.EndVector())


def to_bytes(model: Contents) -> bytes:
    """The file's content."""
    total = sum(0 if buffer.data is None else len(buffer.data) for buffer in model.root.buffers or [])
    too_large = total > LARGEST_INLINE
    packed = _pack_external(model, everything=too_large) if model.outside or too_large else pack(model.root)
    return packed + _moved_archive(model.attached, len(packed)) if model.attached else packed


def pack(root: Any) -> bytes:
    """A tree as one FlatBuffer."""
    builder = _Builder(1 << 16)
    builder.Finish(root.Pack(builder), file_identifier=flatbuffer.IDENTIFIER)
    return bytes(builder.Output())


def _pack_external(model: Contents, *, everything: bool) -> bytes:
    """The FlatBuffer first, then contents of buffers; packed twice, since offsets depend on its size.

    Readers of metadata look into the FlatBuffer only, so what was inside stays there. New constants go outside.

    Args:
        model: as it was read or rewritten.
        everything: all constants go outside, but for metadata.
    """
    outer = copy.copy(model.root)
    outer.buffers = list(model.root.buffers)
    moved = [number for number in range(len(outer.buffers)) if _lies_outside(model, number, everything=everything)]
    contents = [outer.buffers[number].data for number in moved]
    for number, content in zip(moved, contents, strict=True):
        outer.buffers[number] = tfl.BufferT(None, offset=2, size=len(content))
    end = len(pack(outer))
    pieces: list[bytes] = []
    for number, content in zip(moved, contents, strict=True):
        gap = -end % ALIGNMENT
        outer.buffers[number].offset = end + gap
        pieces += [b"\0" * gap, content.tobytes()]
        end += gap + len(content)
    return b"".join([pack(outer), *pieces])


def _lies_outside(model: Contents, number: int, *, everything: bool) -> bool:
    data = model.root.buffers[number].data
    if data is None or not len(data) or number in {entry.buffer for entry in model.root.metadata or []}:
        return False
    return everything or number in model.outside or number >= model.known


def _moved_archive(attached: bytes, offset: int) -> bytes:
    """The archive for its new place in the file, byte for byte but for the absolute offsets in its directory."""
    with zipfile.ZipFile(io.BytesIO(attached)) as archive:
        directory = at = archive.start_dir
    entries = []
    while attached.startswith(b"PK\x01\x02", at):
        entries.append(at)
        at += 46 + sum(struct.unpack_from("<HHH", attached, at + 28))  # name, extra field, comment
    moved = bytearray(attached)
    if attached.startswith(b"PK\x05\x06", at):
        (stated,) = struct.unpack_from("<I", attached, at + 16)
        struct.pack_into("<I", moved, at + 16, directory + offset)
        for entry in entries:
            (header,) = struct.unpack_from("<I", attached, entry + 42)
            struct.pack_into("<I", moved, entry + 42, header + directory + offset - stated)
    return bytes(moved)
