"""The parts of a sweep to one CSV or Parquet table, and the Pareto front of what is in it."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.files import staged
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


def write_table(path: Path, parts: Iterable[Columns]) -> tuple[int, int]:
    """All parts in order as one table; returns the number of rows, and of those with a reason.

    Raises:
        OutputError: it cannot be written there.
    """
    write = _write_csv if path.suffix == ".csv" else _write_parquet
    rows = failures = 0

    def counted() -> Iterator[Columns]:
        nonlocal rows, failures
        for columns in parts:
            rows += len(columns["reason"])
            failures += sum(reason != "" for reason in columns["reason"])
            yield columns

    with staged(path) as folder:
        write(folder / path.name, counted())
    return rows, failures


def _write_csv(path: Path, parts: Iterable[Columns]) -> None:
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.writer(file)
        for number, columns in enumerate(parts):
            if number == 0:
                table.writerow(columns)
            table.writerows(zip(*columns.values(), strict=True))


def _write_parquet(path: Path, parts: Iterable[Columns]) -> None:
    pa, pq = _pyarrow()
    writer = None
    for columns in parts:
        fields = [(name, _kind(pa, name, found)) for name, found in columns.items()]
        schema = pa.schema(fields) if writer is None else writer.schema
        table = pa.table({name: pa.array(columns[name], schema.field(name).type) for name in columns}, schema=schema)
        writer = writer or pq.ParquetWriter(path, schema)
        writer.write_table(table)
    assert writer is not None, "a sweep has at least one chunk"
    writer.close()


def _kind(pa: Any, name: str, found: list[Any]) -> Any:
    """Type of a column; varied numbers are floats, as some may be fractions."""
    if name in TEXTS or any(isinstance(value, str) for value in found):
        return pa.string()
    if any(isinstance(value, bool) for value in found):
        return pa.bool_()
    whole = name in RESULTS and not name.endswith(("ms", "energy"))
    return pa.int64() if whole else pa.float64()


def pareto(first: Array, second: Array) -> Array:
    """Indices of the points that no other point beats in both (smaller is better), by the first number."""
    order = np.lexsort((second, first))
    lowest = np.minimum.accumulate(second[order])
    better = np.concatenate([[True], second[order][1:] < lowest[:-1]])
    front: Array = order[better]
    return front
