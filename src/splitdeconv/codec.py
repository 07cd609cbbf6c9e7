"""Records as JSON and back, and their JSON Schema, all from the dataclasses.

Candidates are written as text. ``python -m splitdeconv.codec`` prints the schema of what ``--json`` writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from mashumaro.codecs import BasicDecoder, BasicEncoder
from mashumaro.dialect import Dialect
from mashumaro.exceptions import InvalidFieldValue, MissingField

from splitdeconv.errors import InputError
from splitdeconv.files import parse_json
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.bench import BenchRecord, Summary
from splitdeconv.results.record import RunRecord
from splitdeconv.results.schema import SCHEMA_VERSION, Json

Value = TypeVar("Value")
WANTED = "wanted the file that --json of inspect, convert, restore or bench writes"


class _Records(Dialect):
    serialization_strategy = {Candidate: {"serialize": str, "deserialize": Candidate.parse}}  # noqa: RUF012


@cache
def _encoder(kind: Any) -> Callable[[Any], Any]:
    return BasicEncoder(kind, default_dialect=_Records).encode


@cache
def _decoder(kind: Any) -> Callable[[Any], Any]:
    return BasicDecoder(kind, default_dialect=_Records).decode


def to_object(record: Any, kind: Any = None) -> Json:
    """A dataclass as plain dictionaries, lists, texts and numbers.

    Args:
        record: a dataclass, or what ``kind`` says.
        kind: such as ``Mapping[str, SomeDataclass]``.
    """
    return cast("Json", _encoder(kind or cast("Any", type(record)))(record))


def from_object(kind: type[Value], values: object, source: str, wanted: str = WANTED) -> Value:
    """The dataclass that :func:`to_object` has written.

    Args:
        kind: of the dataclass.
        values: its plain values; keys that ``kind`` does not know are left out.
        source: where they come from, for the message.
        wanted: ends the message.

    Raises:
        InputError: a field is missing or has another type; the message names its place.
    """
    if is_dataclass(kind) and not isinstance(values, Mapping):
        raise InputError(f"{source}: is no object of names and values; {wanted}")
    try:
        return cast("Value", _decoder(cast("Any", kind))(values))
    except (MissingField, InvalidFieldValue) as error:
        raise InputError(f"{source}: {_place(error)}; {wanted}") from None
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise InputError(f"{source}: not a {kind.__name__} ({error}); {wanted}") from None


def _place(error: BaseException) -> str:
    """Path and value of the innermost field that is wrong."""
    path: list[str] = []
    reason: BaseException | None = error
    value: object = None
    while isinstance(reason, InvalidFieldValue):
        path.append(reason.field_name)
        value, reason = reason.field_value, reason.__cause__ or reason.__context__
    if isinstance(reason, MissingField):
        return f"{'.'.join([*path, reason.field_name])} is missing"
    text = str(value)
    return f"{'.'.join(path)} is {text if len(text) <= 40 else text[:40] + '…'}" + (f" ({reason})" if reason else "")


def run_to_json(record: RunRecord) -> str:
    """What ``inspect``, ``convert`` and ``restore`` write with ``--json``."""
    values = {"schema": SCHEMA_VERSION, **to_object(record)}
    if record.verdict is not None:
        values["verdict"]["passed"] = record.verdict.passed
    return _text(values)


def bench_to_json(records: Sequence[BenchRecord]) -> str:
    """What ``bench --json`` writes: several runs, each with the ratios of its summaries."""
    head: Json = {"schema": SCHEMA_VERSION, "command": "bench"}
    runs = [
        {**head, **to_object(record), "summaries": [to_object(each) for each in record.summaries()]}
        for record in records
    ]
    return _text({**head, "runs": runs})


def _text(values: Json) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str, source: str) -> RunRecord | tuple[BenchRecord, ...]:
    """The record of a run, or those of a benchmark.

    Args:
        text: what ``--json`` has written.
        source: its name, for messages.

    Raises:
        InputError: not such a record.
    """
    values = parse_json(text, source, WANTED)
    if not isinstance(values, dict) or values.get("command") not in ("inspect", "convert", "restore", "bench"):
        raise InputError(f"{source}: is no record of a run; {WANTED}")
    if values.get("schema") != SCHEMA_VERSION:
        raise InputError(f"{source}: record of schema {values.get('schema')}, this version reads {SCHEMA_VERSION}")
    if values["command"] != "bench":
        return from_object(RunRecord, values, source)
    runs = values.get("runs")
    if not isinstance(runs, list) or not runs:
        raise InputError(f"{source}: runs is {runs!r}; {WANTED}")
    return tuple(from_object(BenchRecord, run, f"{source}: run {number}") for number, run in enumerate(runs, 1))


def json_schema() -> Json:
    """JSON Schema (2020-12) of what ``inspect``, ``convert``, ``restore`` and ``bench`` write with ``--json``."""
    definitions: dict[str, Json] = {}
    for kind in (RunRecord, BenchRecord, Summary):
        _schema_of(kind, definitions)
    version: Json = {"const": SCHEMA_VERSION}
    bench: Json = {"schema": version, "command": {"const": "bench"}}
    summaries = {"type": "array", "items": {"$ref": "#/$defs/Summary"}}
    runs = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/BenchRecord"}}
    definitions["Bench"] = {"type": "object", "properties": {}}
    _add(definitions["Bench"], {**bench, "runs": runs})
    _add(definitions["BenchRecord"], {**bench, "summaries": summaries})
    _add(definitions["RunRecord"], {"schema": version, "command": {"enum": ["inspect", "convert", "restore"]}})
    _add(definitions["Verdict"], {"passed": {"type": "boolean"}})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What splitdeconv writes with --json",
        "oneOf": [{"$ref": "#/$defs/RunRecord"}, {"$ref": "#/$defs/Bench"}],
        "$defs": definitions,
    }


_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null", Candidate: "string"}


def _schema_of(kind: Any, definitions: dict[str, Json]) -> Json:
    """The schema of a field's type; dataclasses go to ``definitions``."""
    if kind in _SCALARS:
        return {"type": _SCALARS[kind]}
    if isinstance(kind, type) and is_dataclass(kind):
        name = kind.__name__
        if name not in definitions:
            properties = {key: _schema_of(hint, definitions) for key, hint in get_type_hints(kind).items()}
            definitions[name] = {"type": "object", "properties": properties, "required": sorted(properties)}
        return {"$ref": f"#/$defs/{name}"}
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and arguments[-1] is not ...:
        items = [_schema_of(each, definitions) for each in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is tuple:
        return {"type": "array", "items": _schema_of(arguments[0], definitions)}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": _schema_of(arguments[1], definitions)}
    assert origin in (Union, UnionType), f"no schema for {kind}"
    return {"anyOf": [_schema_of(each, definitions) for each in arguments]}


def _add(definition: Json, properties: Json) -> None:
    """Properties that are written beside the fields of a dataclass."""
    definition["properties"] |= properties
    definition["required"] = sorted({*definition.get("required", ()), *properties})


if __name__ == "__main__":
    sys.stdout.write(_text(json_schema()))
