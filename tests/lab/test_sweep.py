"""Sweeps from the command line: every point once, failures as rows, restarts, killed workers."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.cli import main
from splitdeconv.errors import UsageError
from splitdeconv.lab.simulation import grid, points, sweep
from splitdeconv.lab.simulation.models import find_networks
from splitdeconv.lab.simulation.network import NetworkResult, simulate
from splitdeconv.lab.simulation.tables import pareto

VARY = ["--vary", "rows=8:16:8", "--vary", "maps_buffer_bytes=1024,65536", "--vary", "zero_insertion=stored,on-the-fly"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(path: Path, *more: str) -> list[dict[str, str]]:
    assert main(["sweep", "dcgan", "--out", str(path), "--jobs", "1", *VARY, *more]) == 0
    return table(path)


def test_every_combination_is_one_row_with_the_numbers_of_simulate(tmp_path: Path) -> None:
    rows = run(tmp_path / "s.csv", "--form", "split:full", "--skip", "both")
    assert len(rows) == 2 * 2 * 2
    assert len({(row["rows"], row["maps_buffer_bytes"], row["zero_insertion"]) for row in rows}) == 8
    for row in rows:
        numbers = {name: int(row[name]) for name in ("rows", "maps_buffer_bytes")}
        arch = load_architecture("dot-product-16x16").varied(**numbers, zero_insertion=row["zero_insertion"])
        (network,) = find_networks("dcgan")
        wanted = simulate(network, arch, load_energies(arch.energy), "split:full", Skip(True, True))
        assert isinstance(wanted, NetworkResult) == (row["reason"] == "")
        if isinstance(wanted, NetworkResult):
            assert int(row["cycles"]) == wanted.counts().cycles
            assert float(row["energy"]) == pytest.approx(float(wanted.energy()))
            assert int(row["whole_cycles"]) == wanted.counts(deconvs_only=False).cycles


def test_a_failed_point_is_a_row_with_its_reason_and_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    assert (
        main(["sweep", "sngan", "--out", str(path), "--jobs", "1", "--vary", "rows=0,8", "--form", "zero_insert"]) == 0
    )
    rows = table(path)
    assert [bool(row["reason"]) for row in rows] == [True, False, True, False]
    assert "rows: found 0, wanted numbers above 0" in rows[0]["reason"]
    assert rows[0]["cycles"] == ""
    assert main(["sweep", "sngan", "--out", str(path), "--arch", "systolic-ws-32x32", "--jobs", "1"]) == 0
    reasons = [row["reason"] for row in table(path) if row["skip"] == "both"]
    assert set(reasons) == {"systolic-ws-32x32 cannot skip zero activations and weights"}


def test_csv_and_parquet_hold_the_same(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    for name in ("s.csv", "s.parquet"):
        assert main(["sweep", "dcgan", "--out", str(tmp_path / name), "--jobs", "1", *VARY]) == 0
    rows = pq.read_table(tmp_path / "s.parquet").to_pylist()
    for first, second in zip(table(tmp_path / "s.csv"), rows, strict=True):
        assert [first[name] for name in ("network", "form", "skip", "reason")] == [
            second[name] for name in ("network", "form", "skip", "reason")
        ]
        assert [float(first[name]) if first[name] else None for name in ("cycles", "energy", "rows")] == [
            second[name] for name in ("cycles", "energy", "rows")
        ]


def chunks(count: int) -> list[grid.Chunk]:
    (network,) = find_networks("sngan")
    arch = load_architecture("dot-product-16x16")
    found = [grid.values(f"rows={','.join(str(8 + number) for number in range(count))}")]
    numbers = dict(found)["rows"]
    parts = [{"rows": (number,)} for number in numbers]
    energies = load_energies(arch.energy)
    return [grid.Chunk(network, arch, energies, "split:full", Skip(), {}, part) for part in parts]


@pytest.mark.parametrize("damage", [None, "", "{", "[]", "{}", '{"cycles": 1}', "[" * 100_000, '{"reason": [""]}'])
def test_a_sweep_that_was_cut_off_goes_on_where_it_was(damage: str | None, tmp_path: Path) -> None:
    every, path = chunks(6), tmp_path / "s.csv"
    done: list[grid.Chunk] = []

    def breaks(found: Sequence[grid.Chunk]) -> Iterator[tuple[grid.Chunk, points.Columns]]:
        for chunk in found:
            if len(done) == 4:
                raise KeyboardInterrupt
            done.append(chunk)
            yield chunk, points.evaluate_chunk(chunk)

    def goes_on(found: Sequence[grid.Chunk]) -> Iterator[tuple[grid.Chunk, points.Columns]]:
        assert [chunk.key() for chunk in found] == [chunk.key() for chunk in every[4:]]
        for chunk in found:
            yield chunk, points.evaluate_chunk(chunk)

    with pytest.raises(KeyboardInterrupt), sweep.Parts(path) as parts:
        sweep.run_sweep(every, parts, path, breaks, lambda number: None)
    assert not path.exists()
    if damage is not None:
        (tmp_path / "s.csv.parts" / f"{every[5].key()}.json").write_text(damage)
    progress: list[int] = []
    with sweep.Parts(path) as parts:
        assert sweep.run_sweep(every, parts, path, goes_on, progress.append) == (6, 0)
    assert sum(progress) == 6
    assert len(table(path)) == 6
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.csv"]


def test_another_number_anywhere_is_another_key() -> None:
    first, second = chunks(2)
    assert first.key() != second.key()
    assert first.key() == chunks(2)[0].key()
    other = grid.Chunk(first.network, first.arch.varied(columns=17), first.energies, first.form, first.skip)
    assert other.key() != first.key()


def test_local_processes_give_what_one_process_gives() -> None:
    every = chunks(4)
    alone = {chunk.key(): columns for chunk, columns in sweep.locally(1)(every)}
    assert {chunk.key(): columns for chunk, columns in sweep.locally(2)(every)} == alone


def _dies(chunk: grid.Chunk) -> points.Columns:
    if chunk.numbers["rows"] == (9,):
        os.kill(os.getpid(), signal.SIGKILL)
    return points.evaluate_chunk(chunk)


def test_a_point_that_kills_its_process_becomes_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "evaluate_chunk", _dies)
    found = {chunk.numbers["rows"]: columns for chunk, columns in sweep.locally(1 + 1)(chunks(2))}
    assert set(found) == {(8,), (9,)}
    assert found[9,]["reason"] == ["the worker process died, with nothing else to do"]
    assert found[8,]["reason"] == [""]


def _dies_while_it_tells(chunk: grid.Chunk) -> points.Columns:
    """What a process that is ended does at any time: the pipe has a part of its result."""
    if chunk.numbers["rows"] == (9,):
        Connection._send = _half_of_it  # type: ignore[attr-defined]
    return points.evaluate_chunk(chunk) | {"long": ["x" * 100_000]}


def _half_of_it(pipe: Connection, content: bytes) -> None:
    if len(content) > 8:  # of the length before it, all
        os.write(pipe.fileno(), content[: len(content) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(pipe.fileno(), content)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and signals as on Unix")
def test_half_a_result_of_a_process_that_died_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "evaluate_chunk", _dies_while_it_tells)
    found = {chunk.numbers["rows"]: columns for chunk, columns in sweep.locally(2)(chunks(2))}
    assert found[8,]["reason"] == [""]
    assert "died" in found[9,]["reason"][0]


def _slow(chunk: grid.Chunk) -> points.Columns:
    time.sleep(0.15)
    return points.evaluate_chunk(chunk)


def test_a_dask_cluster_of_several_processes_survives_a_killed_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from splitdeconv.lab.simulation import cluster  # noqa: PLC0415

    monkeypatch.setattr(cluster, "PATIENCE_S", 300)  # a busy machine starts another worker late
    monkeypatch.setattr(cluster, "evaluate_chunk", _slow)
    every = chunks(12)
    with local_cluster(2) as local:
        assert len(local.workers) == 2
        killer = threading.Timer(0.6, os.kill, (next(iter(local.workers.values())).pid, signal.SIGKILL))
        killer.start()
        found = {chunk.key(): columns for chunk, columns in cluster.on_cluster(local.scheduler_address)(every)}
        killer.join()
    assert found == {chunk.key(): points.evaluate_chunk(chunk) for chunk in every}


def test_no_cluster_at_the_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    from splitdeconv.lab.simulation import cluster  # noqa: PLC0415

    monkeypatch.setattr(cluster, "PATIENCE_S", 0.3)
    with pytest.raises(UsageError, match=r"--cluster tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        list(cluster.on_cluster("tcp://127.0.0.1:9")(chunks(1)))


@contextmanager
def local_cluster(workers: int) -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    options: dict[str, Any] = {"threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(n_workers=workers, **options) as local:
        yield local


def test_a_cluster_without_workers_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_cluster(0) as local:
        from splitdeconv.lab.simulation import cluster  # noqa: PLC0415

        monkeypatch.setattr(cluster, "PATIENCE_S", 0.3)
        with pytest.raises(UsageError, match=r"no worker for 0\.3 s; start some .*goes on where it was"):
            list(cluster.on_cluster(local.scheduler_address)(chunks(1)))


def test_a_scheduler_that_dies_is_an_error_and_the_parts_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every, path = chunks(40), tmp_path / "s.csv"
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--no-dashboard", "--no-show"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert scheduler.stderr is not None
    address = next(found[0] for line in scheduler.stderr if (found := re.findall(r"tcp://[\d.]+:\d+", line)))
    worker = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard", "--nthreads", "1"],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"},
    )
    try:
        from splitdeconv.lab.simulation import cluster  # noqa: PLC0415

        monkeypatch.setattr(cluster, "PATIENCE_S", 300)  # a busy machine starts the worker late
        monkeypatch.setattr(cluster, "evaluate_chunk", _slow)
        done: list[int] = []

        def count(points_done: int) -> None:
            done.append(points_done)
            if len(done) == 4:
                scheduler.kill()

        with pytest.raises(UsageError, match="the scheduler went away"), sweep.Parts(path) as parts:
            sweep.run_sweep(every, parts, path, cluster.on_cluster(address), count)
    finally:
        for process in (worker, scheduler):
            process.kill()
            process.wait()
        scheduler.stderr.close()
    assert not path.exists()
    assert len(list((tmp_path / "s.csv.parts").glob("*.json"))) >= 3


def test_a_scheduler_that_dies_while_rows_are_fetched_is_an_error_too() -> None:
    distributed = pytest.importorskip("distributed")
    from splitdeconv.lab.simulation import cluster  # noqa: PLC0415

    class Lost:
        status = "finished"

        def result(self) -> None:
            raise distributed.comm.CommClosedError("connection closed")

    with pytest.raises(UsageError, match=r"the scheduler went away \(connection closed\)"):
        cluster._result("tcp://host:1", Lost(), chunks(1)[0])


def test_a_second_sweep_on_one_output_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.csv"
    with sweep.Parts(path):
        assert main(["sweep", "dcgan", "--out", str(path), "--jobs", "1"]) == 2
        assert "another sweep is writing it" in capsys.readouterr().err
    run(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s.csv"]


@pytest.mark.parametrize(
    "name", ["SIGKILL", *(pytest.param(each, marks=pytest.mark.long) for each in ("SIGINT", "SIGTERM", "SIGHUP"))]
)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_no_worker_outlives_its_sweep(name: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    command = [sys.executable, "-m", "splitdeconv", "sweep", "dcgan", "--out", str(path), "--jobs", "2"]
    vary = ["--vary", "rows=8:800:1", "--vary", "columns=8:800:1"]
    process = subprocess.Popen([*command, *vary], stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob("*.parts/*.json")):
        assert process.poll() is None
        time.sleep(0.05)
    workers = [int(each) for each in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert workers
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    number = getattr(signal, name)
    if name == "SIGKILL":
        assert process.returncode == -number
    else:
        assert (process.returncode, err) == (128 + number, f"splitdeconv: stopped by {name}\n")
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [entry.name for entry in tmp_path.iterdir() if name != "SIGKILL"] in ([], ["s.csv.parts"])


@pytest.mark.skipif(sys.platform != "linux", reason="a place where nobody can write")
def test_a_place_where_no_parts_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "dcgan", "--out", "/proc/s.csv"]) == 3
    assert "/proc/s.csv.parts: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("rows=8,16", (8, 16)),
        ("rows=8:16:4", (8, 12, 16)),
        ("clock_hz=1e8", (100_000_000,)),
        ("energy.dram=0.5:1:0.25", (0.5, 0.75, 1)),
        ("side_by_side=yes,no", (True, False)),
        ("rearrangement=free,pass", ("free", "pass")),
    ],
)
def test_values_to_vary(text: str, found: tuple[object, ...]) -> None:
    assert grid.values(text)[1] == found


@pytest.mark.parametrize("text", ["rows", "rows=", "rows=a", "rows=9:8:1", "rows=1:9:0", "size=3", "stationary=both"])
def test_values_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="--vary"):
        grid.values(text)


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    first, second = np.array([3.0, 1, 2, 2, 4]), np.array([1.0, 5, 3, 2, 1])
    assert pareto(first, second).tolist() == [1, 3, 0]


def test_a_plot_is_written(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    run(tmp_path / "s.csv", "--plot", str(tmp_path / "p.svg"))
    assert (tmp_path / "p.svg").stat().st_size > 1000


def test_bad_usage_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "dcgan", "--out", str(tmp_path / "s.xlsx")]) == 2
    assert "found '.xlsx', wanted .csv or .parquet" in capsys.readouterr().err
    assert main(["sweep", "dcgan", "--out", str(tmp_path / "s.csv"), "--skip", "all"]) == 2
    assert "--skip: found 'all'" in capsys.readouterr().err
