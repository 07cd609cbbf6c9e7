"""Part files to one CSV or Parquet table, and the Pareto front of what is in it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.lab.simulation.points import RESULTS, Columns

TEXTS = {"network", "arch", "form", "skip", "energy_unit", "reason"}


def check_suffix(path: Path) -> None:
    """Whether a table can be written there, before anything is computed.

    Raises:
        UsageError: neither ``.csv`` nor ``.parquet``.
        MissingExtraError: Parquet without its package.
    """
    if path.suffix not in {".csv", ".parquet"}:
        raise UsageError(f"{path}: found '{path.suffix}', wanted .csv or .parquet")
    if path.suffix == ".parquet":
        _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415  # only with the extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("a .parquet table", "pyarrow", "parquet") from error
    return pa, pq


def write_table(path: Path, parts: Sequence[Path]) -> tuple[int, int]:
    """All parts in order as one table; returns the number of rows, and of those with a reason."""
    unfinished = path.with_name(path.name + ".unfinished")
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    totals = write(unfinished, parts)
    unfinished.replace(path)
    return totals


def _read(parts: Sequence[Path]) -> Iterator[Columns]:
    for part in parts:
        columns: Columns = json.loads(part.read_text("utf-8"))
        yield columns


def _count(columns: Columns) -> tuple[int, int]:
    return len(columns["reason"]), sum(reason != "" for reason in columns["reason"])


def _write_csv(path: Path, parts: Sequence[Path]) -> tuple[int, int]:
    rows = failures = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        for number, columns in enumerate(_read(parts)):
            if number == 0:
                table.writerow(columns)
            table.writerows(zip(*columns.values(), strict=True))
            rows, failures = rows + _count(columns)[0], failures + _count(columns)[1]
    return rows, failures


def _write_parquet(path: Path, parts: Sequence[Path]) -> tuple[int, int]:
    pa, pq = _pyarrow()
    rows = failures = 0
    writer = None
    for columns in _read(parts):
        fields = [(name, _kind(pa, name, found)) for name, found in columns.items()]
        schema = pa.schema(fields) if writer is None else writer.schema
        table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in columns}, schema=schema)
        writer = writer or pq.ParquetWriter(path, schema)
        writer.write_table(table)
        rows, failures = rows + _count(columns)[0], failures + _count(columns)[1]
    assert writer is not None, "a sweep has at least one chunk"
    writer.close()
    return rows, failures


def _kind(pa: Any, name: str, found: list[Any]) -> Any:
    """Type of a column; varied numbers are floats, as some may be fractions."""
    if name in TEXTS or any(isinstance(value, str) for value in found):
        return pa.string()
    if any(isinstance(value, bool) for value in found):
        return pa.bool_()
    whole = name in RESULTS and not name.endswith(("ms", "energy"))
    return pa.int64() if whole else pa.float64()


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[Any]]:
    """Some columns of a table that :func:`write_table` wrote; numbers of failed points are None."""
    if path.suffix == ".parquet":
        _, pq = _pyarrow()
        found: dict[str, list[Any]] = pq.read_table(path, columns=list(names)).to_pydict()
        return found
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [_value(name, row[name]) for row in rows] for name in names}


def _value(name: str, text: str) -> Any:
    if name in TEXTS:
        return text
    return float(text) if text else None


def pareto(first: Array, second: Array) -> Array:
    """Indices of the points that no other point beats in both (smaller is better), by the first number."""
    order = np.lexsort((second, first))
    lowest = np.minimum.accumulate(second[order])
    better = np.concatenate([[True], second[order][1:] < lowest[:-1]])
    front: Array = order[better]
    return front
