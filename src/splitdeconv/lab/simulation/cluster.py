"""Chunks of a sweep on a Dask cluster (extra ``dask``). Its workers need splitdeconv, and no shared files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import distributed

from splitdeconv.errors import UsageError
from splitdeconv.lab.simulation.grid import Chunk
from splitdeconv.lab.simulation.points import Columns, evaluate_chunk, failed
from splitdeconv.lab.simulation.sweep import Finished

PATIENCE_S = 20  # for the scheduler to answer, and for a first worker, or another one when all have gone
_STAY = "what was done stays, and the same command goes on where it was"


def on_cluster(address: str) -> Callable[[Sequence[Chunk]], Finished]:
    """Evaluate on the cluster whose scheduler listens at ``address``.

    A worker that dies costs nothing but time: Dask gives its chunks to another one, and a chunk that kills several
    workers becomes rows with the reason.

    Raises:
        UsageError: no scheduler answers, it goes away, or there is no worker.
    """

    def evaluate_all(chunks: Sequence[Chunk]) -> Finished:
        client = _connect(address)
        try:
            futures = {
                client.submit(evaluate_chunk, chunk, key=f"splitdeconv-{chunk.key()}"): chunk for chunk in chunks
            }
            while futures:
                for future in _some_done(client, address, list(futures)):
                    chunk = futures.pop(future)
                    yield chunk, _result(address, future, chunk)
        finally:
            client.close()

    return evaluate_all


def _connect(address: str) -> Any:
    try:
        client = distributed.Client(address, timeout=PATIENCE_S)
    except (OSError, ValueError) as error:
        raise UsageError(f"--cluster {address}: no Dask scheduler answers ({error}), wanted tcp://HOST:PORT") from None
    try:
        client.wait_for_workers(1, timeout=PATIENCE_S)
    except TimeoutError:
        client.close()
        raise _no_worker(address) from None
    return client


def _no_worker(address: str) -> UsageError:
    return UsageError(f"--cluster {address}: no worker for {PATIENCE_S} s; start some (dask worker {address}); {_STAY}")


def _some_done(client: Any, address: str, futures: list[Any]) -> set[Any]:
    """Wait until some are done, as long as there is a worker."""
    while True:
        try:
            done: set[Any] = distributed.wait(futures, timeout=PATIENCE_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            if not client.scheduler_info(n_workers=1)["workers"]:
                raise _no_worker(address) from None
        except distributed.CancelledError as error:
            raise _gone(address, error) from None
        else:
            return done


def _gone(address: str, error: BaseException | None) -> UsageError:
    return UsageError(f"--cluster {address}: the scheduler went away ({error or 'the work was cancelled'}); {_STAY}")


def _result(address: str, future: Any, chunk: Chunk) -> Columns:
    """A chunk's rows; those of one that killed several workers, or that they cannot evaluate, with the reason."""
    if future.status == "finished":
        try:
            found: Columns = future.result()
        except (OSError, distributed.CancelledError) as error:  # it is fetched from where it was made
            raise _gone(address, error) from None
        return found
    if future.status != "error":
        raise _gone(address, None)
    return failed(chunk, f"the cluster gave up: {future.exception()}")
