"""Records as JSON and back, and the schema of what is written."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest

from splitdeconv import codec
from splitdeconv.errors import InputError
from splitdeconv.results.record import RunRecord
from tests import invented_records as invented

RUNS = (
    invented.converted,
    invented.failed,
    invented.taken_back,
    invented.by_rule,
    invented.estimated,
    invented.inspected,
    invented.restored,
)


@pytest.mark.parametrize("make", RUNS, ids=lambda make: make.__name__)
def test_a_run_comes_back_from_its_json(make: Any) -> None:
    record: RunRecord = make()
    assert codec.from_json(codec.run_to_json(record), "run.json") == record


def test_a_benchmark_comes_back_from_its_json() -> None:
    record = invented.benchmark()
    assert codec.from_json(codec.bench_to_json([record, record]), "run.json") == (record, record)


def test_the_schema_in_the_package_is_the_one_of_the_dataclasses() -> None:
    kept = (resources.files("splitdeconv") / "record.schema.json").read_text("utf-8")
    assert json.loads(kept) == codec.json_schema(), "make schema writes it"


@pytest.mark.parametrize("make", RUNS, ids=lambda make: make.__name__)
def test_the_schema_has_exactly_the_fields_that_a_run_writes(make: Any) -> None:
    _check(json.loads(codec.run_to_json(make())), {"$ref": "#/$defs/RunRecord"})


def test_the_schema_has_exactly_the_fields_that_a_benchmark_writes() -> None:
    _check(json.loads(codec.bench_to_json([invented.benchmark()])), {"$ref": "#/$defs/Bench"})


def test_the_check_of_this_file_can_fail() -> None:
    values = json.loads(codec.run_to_json(invented.converted()))
    values["plan"]["choices"][0]["deconv"]["groups"] = "one"
    with pytest.raises(AssertionError):
        _check(values, {"$ref": "#/$defs/RunRecord"})


KINDS = {"string": str, "boolean": bool, "integer": int, "number": (int, float), "null": type(None)}


def _check(value: Any, schema: dict[str, Any]) -> None:
    """The part of JSON Schema that the codec writes, and no field besides."""
    if reference := schema.get("$ref"):
        schema = codec.json_schema()["$defs"][reference.rpartition("/")[2]]
    if "const" in schema or "enum" in schema:
        assert value in schema.get("enum", [schema.get("const")])
    elif "anyOf" in schema:
        assert any(_fits(value, each) for each in schema["anyOf"]), value
    elif "properties" in schema:
        assert value.keys() == schema["properties"].keys() >= set(schema["required"])
        for key, item in value.items():
            _check(item, schema["properties"][key])
    elif "additionalProperties" in schema:
        for item in value.values():
            _check(item, schema["additionalProperties"])
    elif schema["type"] == "array":
        items = schema.get("prefixItems") or [schema["items"]] * len(value)
        for item, each in zip(value, items, strict=True):
            _check(item, each)
    else:
        assert isinstance(value, KINDS[schema["type"]]), (value, schema)


def _fits(value: Any, schema: dict[str, Any]) -> bool:
    try:
        _check(value, schema)
    except (AssertionError, AttributeError, TypeError):
        return False
    return True


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("deconv", "axes"), 3, "choices.deconv.axes is 3"),
        (("deconv", "in_channels"), "many", "deconv.in_channels is many"),
        (("chosen",), None, "choices.chosen is None"),
    ],
)
def test_a_wrong_field_is_named_with_its_value(place: tuple[str, ...], value: object, message: str) -> None:
    values = json.loads(codec.run_to_json(invented.converted()))
    at = values["plan"]["choices"][1]
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    with pytest.raises(InputError, match=message):
        codec.from_json(json.dumps(values), "run.json")
