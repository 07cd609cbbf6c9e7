"""The names of an ONNX model's outputs, read from its bytes: what protobuf's own library would take 0.2 s to load for.

A field of a message is a number and a wire type in one varint, and then a varint, 8 bytes, a length and as many bytes,
or 4 bytes. Source: protobuf.dev, "Encoding"; field numbers from onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

_GRAPH_OF_MODEL, _OUTPUT_OF_GRAPH, _NAME_OF_VALUE = 7, 12, 1
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5

Content = bytes | mmap.mmap
Span = tuple[int, int]


def output_names(model: Content) -> tuple[str, ...]:
    """In the model's order.

    Raises:
        ValueError: the bytes are no protobuf message.
    """
    try:
        return tuple(
            model[slice(*name)].decode()
            for graph in _fields(model, (0, len(model)), _GRAPH_OF_MODEL)
            for value in _fields(model, graph, _OUTPUT_OF_GRAPH)
            for name in _fields(model, value, _NAME_OF_VALUE)
        )
    except IndexError:
        raise ValueError("not a readable ONNX model") from None


def _fields(content: Content, span: Span, wanted: int) -> Iterator[Span]:
    """Where the contents of all fields with the number ``wanted`` lie."""
    at, end = span
    while at < end:
        key, at = _varint(content, at)
        number, kind = key >> 3, key & 7
        length = {_FIXED_64: 8, _FIXED_32: 4}.get(kind, 0)
        if kind == _VARINT:
            _, at = _varint(content, at)
        elif kind == _BYTES:
            length, at = _varint(content, at)
        if number == wanted and kind == _BYTES:
            yield at, at + length
        at += length


def _varint(content: Content, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = shift = 0
    while True:
        byte = content[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
