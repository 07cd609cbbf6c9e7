"""Chunks of a sweep on a Dask cluster (extra ``dask``). Its workers need splitdeconv, and no shared files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import distributed

from splitdeconv.errors import UsageError
from splitdeconv.lab.simulation.grid import Chunk
from splitdeconv.lab.simulation.points import Columns, evaluate_chunk, failed
from splitdeconv.lab.simulation.sweep import Finished

CONNECT_SECONDS = 20


def on_cluster(address: str) -> Callable[[Sequence[Chunk]], Finished]:
    """Evaluate on the cluster whose scheduler listens at ``address``.

    A worker that dies costs nothing but time: Dask gives its chunks to another one, and a chunk that kills several
    workers becomes rows with the reason.
    """

    def evaluate_all(chunks: Sequence[Chunk]) -> Finished:
        client = _connect(address)
        try:
            futures = {
                client.submit(evaluate_chunk, chunk, key=f"splitdeconv-{chunk.key()}"): chunk for chunk in chunks
            }
            for future in distributed.as_completed(list(futures)):
                chunk = futures.pop(future)
                yield chunk, _result(future, chunk)
        finally:
            client.close()

    return evaluate_all


def _connect(address: str) -> Any:
    try:
        return distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise UsageError(f"--cluster {address}: no Dask scheduler answers ({error}), wanted tcp://HOST:PORT") from None


def _result(future: Any, chunk: Chunk) -> Columns:
    if future.status == "finished":
        found: Columns = future.result()
        return found
    return failed(chunk, f"the cluster gave up: {future.exception()}")
