"""A sweep: chunks to workers, each result to a part file, all parts to one table at the end.

A part is written under the key of its chunk as soon as it is there. A sweep that is started again finds its parts and
computes only what is missing or damaged; the table appears whole or not at all.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from threading import Thread

from splitdeconv.errors import InputError, OutputError, UsageError
from splitdeconv.lab.simulation.grid import Chunk
from splitdeconv.lab.simulation.points import Columns, evaluate_chunk, failed
from splitdeconv.lab.simulation.tables import write_table

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Finished = Generator[tuple[Chunk, Columns], None, None]
AHEAD = 4


class Parts:
    """The results of a sweep beside its table, one file for each chunk, for one sweep at a time.

    Args:
        path: of the table.

    Raises:
        OutputError: they cannot be written there.
        UsageError: another sweep is writing this table.
    """

    def __init__(self, path: Path) -> None:
        self._folder = path.with_name(path.name + ".parts")
        try:
            self._folder.mkdir(exist_ok=True)
            self._lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise OutputError(
                f"{self._folder}: cannot be written ({error.strerror}); wanted a folder for parts"
            ) from None
        try:
            _lock(self._lock.fileno())
        except OSError:
            self._lock.close()
            raise UsageError(f"{path}: another sweep is writing it; wait for it, or choose another --out") from None

    def read(self, chunk: Chunk) -> Columns | None:
        """A chunk's result, or None where there is none, or a damaged one."""
        try:
            found = json.loads(self._path(chunk).read_text("utf-8"))
            columns: Columns = {str(name): list(values) for name, values in found.items()}
        except (OSError, ValueError, AttributeError, TypeError, RecursionError):
            return None
        whole = columns.keys() == failed(chunk, "").keys() and {len(each) for each in columns.values()} == {
            chunk.points
        }
        return columns if whole else None

    def write(self, chunk: Chunk, columns: Columns) -> None:
        """Keep a chunk's result.

        Raises:
            OutputError: it cannot be written.
        """
        place = self._path(chunk)
        unfinished = place.with_suffix(".unfinished")
        try:
            unfinished.write_text(json.dumps(columns), "utf-8")
            unfinished.replace(place)
        except OSError as error:
            raise OutputError(f"{place}: cannot be written ({error.strerror}); the parts before it stay") from None

    def _path(self, chunk: Chunk) -> Path:
        return self._folder / f"{chunk.key()}.json"

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Let another sweep have them; remove them where the table has its place, or where there are none."""
        if kind is None or not any(self._folder.glob("*.json")):
            shutil.rmtree(self._folder, ignore_errors=True)
        self._lock.close()


def _lock(number: int) -> None:
    """Lock an open file for this process, until it is closed or the process ends."""
    if sys.platform == "win32":
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)


def run_sweep(
    chunks: Sequence[Chunk],
    parts: Parts,
    path: Path,
    evaluate_all: Callable[[Sequence[Chunk]], Finished],
    progress: Callable[[int], None],
) -> tuple[int, int]:
    """Evaluate what is missing and write the table to ``path``.

    Args:
        chunks: all points.
        parts: what there is of them, and where the rest goes.
        path: ``.csv`` or ``.parquet``.
        evaluate_all: how chunks are evaluated (:func:`locally`, or a cluster).
        progress: called with the number of points whenever some are done.

    Returns:
        Points in the table, and how many of them failed.
    """
    missing = [chunk for chunk in chunks if parts.read(chunk) is None]
    progress(sum(chunk.points for chunk in chunks) - sum(chunk.points for chunk in missing))
    with closing(evaluate_all(missing)) as finished:
        for chunk, columns in finished:
            parts.write(chunk, columns)
            progress(chunk.points)
    return write_table(path, columns_of(chunks, parts))


def columns_of(chunks: Sequence[Chunk], parts: Parts) -> Iterator[Columns]:
    """The results of all chunks, each once, in order."""
    for chunk in {chunk.key(): chunk for chunk in chunks}.values():
        columns = parts.read(chunk)
        if columns is None:
            raise InputError("a part of the sweep was removed or damaged while it ran; run the same command again")
        yield columns


def locally(jobs: int) -> Callable[[Sequence[Chunk]], Finished]:
    """Evaluate on ``jobs`` local processes, or in this one if that is 1."""

    def evaluate_all(chunks: Sequence[Chunk]) -> Finished:
        return _here(chunks) if jobs == 1 or len(chunks) < 2 else _on_processes(chunks, jobs)

    return evaluate_all


def _here(chunks: Sequence[Chunk]) -> Finished:
    for chunk in chunks:
        yield chunk, evaluate_chunk(chunk)


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


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that are gone afterwards, at once if something went wrong."""
    others = set(multiprocessing.active_children())
    _start_tracker()
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_serve)
    try:
        yield pool
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _start_tracker() -> None:
    """Start the process that frees names of semaphores so that a hang-up of the terminal does not end it before us.

    Python lets it ignore the other signals; a signal that is blocked here is so in what is started.
    """
    if sys.platform != "win32":
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve() -> None:
    """In a worker: leave Ctrl-C to the parent, and end when it ends, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


def _alone(chunk: Chunk) -> Columns:
    with _pool(1) as pool:
        try:
            return pool.submit(evaluate_chunk, chunk).result()
        except BrokenProcessPool:
            return failed(chunk, "the worker process died, with nothing else to do")
