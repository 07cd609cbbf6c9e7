"""``splitdeconv sweep``: many models × processors × forms, locally or on a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Annotated

import typer

from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.cli.app import Json, app, emit_done, progress_bar, say_done
from splitdeconv.cli.inputs import shapes
from splitdeconv.cli.simulate import ARCH_HELP, ENERGY_HELP, FormNames, SkipNames, skips_named
from splitdeconv.errors import MissingExtraError
from splitdeconv.files import together
from splitdeconv.lab.simulation import grid
from splitdeconv.lab.simulation.forms import FULL, ZERO_INSERT
from splitdeconv.lab.simulation.models import find_networks
from splitdeconv.lab.simulation.sweep import Finished, Parts, columns_of, locally, run_sweep
from splitdeconv.lab.simulation.tables import check_suffix
from splitdeconv.pipeline.request import SHAPE_HELP
from splitdeconv.report import plots


@app.command(epilog="Example: `splitdeconv sweep dcgan --out table.csv --vary rows=8:64:8`")
def sweep(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="As for `simulate`; each is one row per point.")],
    out_path: Annotated[Path, typer.Option("--out", metavar="FILE", help="The table: .csv or .parquet.")],
    arch: Annotated[list[str] | None, typer.Option(metavar="NAME", help=ARCH_HELP)] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUES",
            help="A number or choice and its values: rows=8,16 or rows=8:64:8 or zero_insertion=stored.",
        ),
    ] = None,
    form: FormNames = None,
    skip: SkipNames = None,
    energy: Annotated[str, typer.Option(metavar="NAME", help=ENERGY_HELP)] = "",
    input_shape: Annotated[list[str] | None, typer.Option(metavar="NAME=SIZES", help=SHAPE_HELP)] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=0, help="Local processes; 0 is one for each core.")] = 0,
    cluster: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address of a Dask scheduler, such as tcp://host:8786.")
    ] = "",
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a Pareto plot of time and energy (.svg, .png).")
    ] = None,
    json: Json = None,
) -> None:
    """Evaluate every combination and write one row for each; a sweep that was cut off goes on where it was."""
    check_suffix(out_path)
    if plot is not None:
        plots.check(plot)
    skips = skips_named(skip or ("none", "both"))
    read = [(name, Path(name)) for name in (*models, *(arch or []), *([energy] if energy else []))]
    with Parts(out_path) as parts, together(read, [("--out", out_path), ("--plot", plot), ("--json", json)]):
        in_shapes = shapes(input_shape)
        networks = [network for text in models for network in find_networks(text, in_shapes)]
        architectures = [load_architecture(name) for name in arch or ["dot-product-16x16"]]
        pairs = [(each, load_energies(energy or each.energy)) for each in architectures]
        forms = list(product(form or [ZERO_INSERT, FULL], skips))
        varied = dict(grid.values(text) for text in vary or [])
        chunks = list(grid.chunks(networks, pairs, forms, varied))
        total = prod([len(networks), len(pairs), len(forms), *(len(found) for found in varied.values())])
        evaluate_all = _cluster(cluster) if cluster else locally(jobs or os.cpu_count() or 1)
        rows, failures = _with_progress(chunks, parts, out_path, evaluate_all, total)
        if plot is not None:
            from splitdeconv.lab.simulation.plot import plot_pareto  # noqa: PLC0415  # only with the extra

            plot_pareto(columns_of(chunks, parts), plot)
        emit_done("sweep", [out_path, *([plot] if plot else [])], json, points=rows, failed=failures)
    say_done(f"{rows} points in {out_path}, {failures} of them failed with a reason (column 'reason')", json)


def _cluster(address: str) -> Callable[[Sequence[grid.Chunk]], Finished]:
    try:
        from splitdeconv.lab.simulation.cluster import on_cluster  # noqa: PLC0415  # only with the extra
    except ModuleNotFoundError as error:
        raise MissingExtraError("--cluster", error.name or "distributed", "dask") from error
    return on_cluster(address)


def _with_progress(
    chunks: Sequence[grid.Chunk],
    parts: Parts,
    path: Path,
    evaluate_all: Callable[[Sequence[grid.Chunk]], Finished],
    total: int,
) -> tuple[int, int]:
    done = 0
    with progress_bar() as progress:

        def count(points: int) -> None:
            nonlocal done
            done += points
            progress(f"{done} of {total} points", done / total)

        return run_sweep(chunks, parts, path, evaluate_all, count)
