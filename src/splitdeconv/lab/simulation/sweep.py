"""A sweep: chunks to workers, each result to a part file, all parts to one table at the end.

A part is written under the key of its chunk as soon as it is there. A sweep that is started again finds its parts and
computes only what is missing; the table appears whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from splitdeconv.lab.simulation.grid import Chunk
from splitdeconv.lab.simulation.points import Columns, evaluate_chunk, failed
from splitdeconv.lab.simulation.tables import write_table

Finished = Iterator[tuple[Chunk, Columns]]
AHEAD = 4


def run_sweep(
    chunks: Sequence[Chunk],
    path: Path,
    evaluate_all: Callable[[Sequence[Chunk]], Finished],
    progress: Callable[[int], None],
) -> tuple[int, int]:
    """Evaluate what is missing and write the table to ``path``.

    Args:
        chunks: all points.
        path: ``.csv`` or ``.parquet``.
        evaluate_all: how chunks are evaluated (:func:`locally`, or a cluster).
        progress: called with the number of points whenever some are done.

    Returns:
        Points in the table, and how many of them failed.
    """
    parts = path.with_name(path.name + ".parts")
    parts.mkdir(parents=True, exist_ok=True)
    keys = [chunk.key() for chunk in chunks]
    places = {key: parts / f"{key}.json" for key in keys}
    missing = {key: chunk for key, chunk in zip(keys, chunks, strict=True) if not places[key].exists()}
    progress(sum(chunk.points for key, chunk in zip(keys, chunks, strict=True) if key not in missing))
    for chunk, columns in evaluate_all(list(missing.values())):
        _write_part(places[chunk.key()], columns)
        progress(chunk.points)
    found = write_table(path, [places[key] for key in dict.fromkeys(keys)])
    shutil.rmtree(parts)
    return found


def _write_part(path: Path, columns: Columns) -> None:
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(columns), "utf-8")
    unfinished.replace(path)


def locally(jobs: int) -> Callable[[Sequence[Chunk]], Finished]:
    """Evaluate on ``jobs`` local processes, or in this one if that is 1."""

    def evaluate_all(chunks: Sequence[Chunk]) -> Finished:
        if jobs == 1 or len(chunks) < 2:
            return ((chunk, evaluate_chunk(chunk)) for chunk in chunks)
        return _on_processes(chunks, jobs)

    return evaluate_all


def _on_processes(chunks: Sequence[Chunk], jobs: int) -> Finished:
    """A pool whose death (a worker was killed) costs nothing: what was under way is done again, each chunk alone.

    A chunk that kills a process which does nothing else becomes rows with the reason.
    """
    left = list(reversed(chunks))
    while left:
        suspects: list[Chunk] = []
        with _pool(jobs) as pool:
            under_way: dict[Future[Columns], Chunk] = {}
            while (left or under_way) and not suspects:
                while left and len(under_way) < jobs * AHEAD:
                    chunk = left.pop()
                    under_way[pool.submit(evaluate_chunk, chunk)] = chunk
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    chunk = under_way.pop(future)
                    if isinstance(future.exception(), BrokenProcessPool):
                        suspects.append(chunk)
                    else:
                        yield chunk, future.result()
            suspects += under_way.values()
        for chunk in suspects:
            yield chunk, _alone(chunk)


def _pool(jobs: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def _alone(chunk: Chunk) -> Columns:
    with _pool(1) as pool:
        try:
            return pool.submit(evaluate_chunk, chunk).result()
        except BrokenProcessPool:
            return failed(chunk, "the worker process died, with nothing else to do")
