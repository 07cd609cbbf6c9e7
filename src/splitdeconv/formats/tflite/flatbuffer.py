"""Check a TFLite FlatBuffer before anything reads it: offsets, lengths and strings stay inside the file.

The FlatBuffers library has a verifier for C++ only. This one walks the tables of the TFLite schema (v3), so that a
file that passes can be read without running out of it, in bounded time; the options of single operators are checked
as tables, their fields are read under guard later.
Source: ``schema.fbs`` of LiteRT; the rules are those of ``flatbuffers::Verifier``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

MOST_TABLES = 1_000_000  # as flatbuffers::Verifier::Options::max_tables
IDENTIFIER = b"TFL3"

Kind = Literal["scalar", "vector", "string", "table", "tables", "union"]


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a table: a scalar or the elements of a vector have ``size`` bytes, tables have a ``name``."""

    kind: Kind
    size: int = 4
    name: str = ""


def _scalar(size: int) -> Field:
    return Field("scalar", size)


def _vector(size: int) -> Field:
    return Field("vector", size)


def _tables(name: str) -> Field:
    return Field("tables", name=name)


_STRING = Field("string")
_UNION = Field("union")

# Fields in the order of their ids; a name that has no entry is checked as a table only.
SCHEMA: dict[str, tuple[Field, ...]] = {
    "Model": (
        _scalar(4),
        _tables("OperatorCode"),
        _tables("SubGraph"),
        _STRING,
        _tables("Buffer"),
        _vector(4),
        _tables("Metadata"),
        _tables("SignatureDef"),
        _tables("ExternalBufferGroup"),
        _tables("ExternalBuffer"),
    ),
    "OperatorCode": (_scalar(1), _STRING, _scalar(4), _scalar(4)),
    "SubGraph": (_tables("Tensor"), _vector(4), _vector(4), _tables("Operator"), _STRING, _scalar(4)),
    "Tensor": (
        _vector(4),
        _scalar(1),
        _scalar(4),
        _STRING,
        Field("table", name="QuantizationParameters"),
        _scalar(1),
        Field("table", name="SparsityParameters"),
        _vector(4),
        _scalar(1),
        _tables("VariantSubType"),
        _scalar(4),
    ),
    "QuantizationParameters": (_vector(4), _vector(4), _vector(4), _vector(8), _scalar(1), _UNION, _scalar(4)),
    "SparsityParameters": (_vector(4), _vector(4), _tables("DimensionMetadata")),
    "DimensionMetadata": (_scalar(1), _scalar(4), _scalar(1), _UNION, _scalar(1), _UNION),
    "VariantSubType": (_vector(4), _scalar(1), _scalar(1)),
    "Operator": (
        _scalar(4),
        _vector(4),
        _vector(4),
        _scalar(1),
        _UNION,
        _vector(1),
        _scalar(1),
        _vector(1),
        _vector(4),
        _scalar(8),
        _scalar(8),
        _scalar(1),
        _UNION,
        _scalar(4),
    ),
    "Buffer": (_vector(1), _scalar(8), _scalar(8)),
    "Metadata": (_STRING, _scalar(4)),
    "SignatureDef": (_tables("TensorMap"), _tables("TensorMap"), _STRING, _scalar(4), _scalar(4)),
    "TensorMap": (_STRING, _scalar(4)),
    "ExternalBufferGroup": (_STRING,),
    "ExternalBuffer": (_scalar(4), _scalar(4), _scalar(8), _scalar(8), _STRING),
}


class MalformedError(ValueError):
    """The bytes are no TFLite model; the message says what is wrong and where."""


def verify(content: bytes) -> None:
    """Walk all tables of the model.

    Raises:
        MalformedError: an offset, a length or a string leads out of the file, or there are too many tables.
    """
    if len(content) < 8 or content[4:8] != IDENTIFIER:
        raise MalformedError(f"no TFLite mark 'TFL3' at byte 4, found {content[4:8]!r}")
    walk = _Walk(content)
    walk.table(walk.follow(0, "root"), "Model")


class _Walk:
    """One pass over a buffer, which counts the tables."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.tables_seen = 0
        self.vtables: dict[int, tuple[int, ...]] = {}

    def span(self, at: int, size: int, what: str) -> int:
        """Check that ``size`` bytes at ``at`` lie inside; returns ``at``."""
        if at < 0 or size < 0 or at + size > len(self.content):
            raise MalformedError(
                f"{what} at byte {at} ({size} bytes) leads out of the file ({len(self.content)} bytes)"
            )
        return at

    def read(self, code: str, at: int, what: str) -> int:
        """One little-endian integer."""
        (value,) = struct.unpack_from(code, self.content, self.span(at, struct.calcsize(code), what))
        return int(value)

    def follow(self, at: int, what: str) -> int:
        """Where the offset at ``at`` points."""
        offset = self.read("<I", at, what)
        if offset == 0:
            raise MalformedError(f"{what} at byte {at} points to itself")
        return at + offset

    def table(self, at: int, name: str) -> None:
        """A table and everything that it refers to."""
        self.tables_seen += 1
        if self.tables_seen > MOST_TABLES:
            raise MalformedError(f"more than {MOST_TABLES} tables, so they overlap")
        offsets = self.offsets(at, name)
        fields = SCHEMA.get(name)
        if fields is None:
            return
        if any(offsets[len(fields) :]):
            raise MalformedError(
                f"{name} at byte {at} has {len(offsets)} fields, the schema known here {len(fields)}: "
                "the file is newer than this version of splitdeconv"
            )
        for number, (offset, field) in enumerate(zip(offsets, fields, strict=False)):
            if offset:
                self.field(at + offset, field, f"{name} field {number}")

    def offsets(self, at: int, name: str) -> tuple[int, ...]:
        """The table's field offsets, 0 for absent fields."""
        vtable = at - self.read("<i", at, name)
        if vtable not in self.vtables:
            size = self.read("<H", vtable, f"{name} vtable")
            if size < 4 or size % 2:
                raise MalformedError(f"{name} vtable at byte {vtable} has size {size}")
            self.span(vtable, size, f"{name} vtable")
            self.vtables[vtable] = struct.unpack_from(f"<{size // 2}H", self.content, vtable)
        _, inline, *offsets = self.vtables[vtable]
        self.span(at, inline, name)
        if any(offset and not 4 <= offset < inline for offset in offsets):
            raise MalformedError(f"{name} at byte {at} has a field outside of its {inline} bytes")
        return tuple(offsets)

    def field(self, at: int, field: Field, what: str) -> None:
        """One present field."""
        if field.kind == "scalar":
            self.span(at, field.size, what)
            return
        target = self.follow(at, what)
        if field.kind == "union":
            self.table(target, "")
        elif field.kind == "table":
            self.table(target, field.name)
        elif field.kind == "string":
            length = self.read("<I", target, what)
            self.span(target + 4, length + 1, what)
        elif field.kind == "vector":
            self.span(target + 4, self.read("<I", target, what) * field.size, what)
        else:
            length = self.read("<I", target, what)
            self.span(target + 4, length * 4, what)
            for number in range(length):
                self.table(self.follow(target + 4 + 4 * number, what), field.name)
