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
from contextlib import closing, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread

from splitdeconv.errors import InputError, OutputError, UsageError
from splitdeconv.lab.simulation.grid import Chunk
from splitdeconv.lab.simulation.held import held
from splitdeconv.lab.simulation.points import Columns, evaluate_chunk, failed
from splitdeconv.lab.simulation.tables import write_table

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

Finished = Generator[tuple[Chunk, Columns], None, None]


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
    """On workers whose death costs nothing but time: the chunk of one that died is done again, alone.

    A chunk that kills a process beside which no other works becomes rows with the reason.
    """
    died = []
    with closing(_Workers(jobs)) as workers:
        for chunk, columns in workers.evaluate(chunks):
            if columns is None:
                died.append(chunk)
            else:
                yield chunk, columns
    with closing(_Workers(1)) as workers:
        for chunk, columns in workers.evaluate(died):
            yield chunk, columns or failed(chunk, "the worker process died, with nothing else to do")


class _Workers:
    """Processes that evaluate one chunk each at a time.

    Each has a pipe of its own whose other end nobody else holds. So what one that dies has half written ends, where a
    queue of all of them (``ProcessPoolExecutor``) waits for the rest for ever.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._processes: dict[Connection, SpawnProcess] = {}

    def evaluate(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Columns | None]]:
        """Results as they come; None for a chunk whose process died."""
        left = list(reversed(chunks))
        idle: list[Connection] = []
        under_way: dict[Connection, Chunk] = {}
        while left or under_way:
            while left and len(under_way) < self._most:
                pipe = idle.pop() if idle else self._start()
                under_way[pipe] = left.pop()
                with suppress(OSError):  # it has died, which is seen when it is listened to
                    pipe.send(under_way[pipe])
            ready = connection.wait(list(under_way))
            for pipe in [each for each in under_way if each in ready]:
                columns = self._hear(pipe)
                if columns is not None:
                    idle.append(pipe)
                yield under_way.pop(pipe), columns

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, evaluate_chunk), daemon=True)
        if sys.platform != "win32":
            with held():  # by itself, because it lets Ctrl-C through to what is started after it in there
                resource_tracker.ensure_running()
        with theirs, held():
            process.start()
            self._processes[ours] = process
        return ours

    def _hear(self, pipe: Connection) -> Columns | None:
        try:
            found: Columns = pipe.recv()
        except (EOFError, OSError):
            self._end(pipe)
            return None
        return found

    def _end(self, pipe: Connection) -> None:
        process = self._processes.pop(pipe)
        process.kill()
        process.join()
        pipe.close()

    def close(self) -> None:
        """End all, in the middle of their work too."""
        for pipe in list(self._processes):
            self._end(pipe)


def _serve(pipe: Connection, evaluate: Callable[[Chunk], Columns]) -> None:
    """In a worker: evaluate chunks until there are no more, or until the parent ends, even if it was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the Ctrl-C that the parent hears too
    Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            pipe.send(evaluate(pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)
