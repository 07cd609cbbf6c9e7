"""``splitdeconv zoo list`` and ``splitdeconv zoo export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import splitdeconv.zoo
from splitdeconv.cli import app as shared

group = typer.Typer(no_args_is_help=True, help="The paper's six networks and a small trained generator.")
shared.app.add_typer(group, name="zoo")


@group.command("list")
def show_networks() -> None:
    """List the networks: their deconvs, multiply-accumulates as the paper counts them, and where they come from."""
    numbers = ("MAC", "NZP", "SD")
    table = shared.table("network", "deconvs", *numbers, "title", "source", numbers=numbers)
    for name in splitdeconv.zoo.NETWORKS:
        network, deconvs = splitdeconv.zoo.network(name), splitdeconv.zoo.deconvs(name)
        counts = (
            sum(deconv.macs() for deconv in deconvs),
            sum(deconv.zero_insert_macs() for deconv in deconvs),
            sum(deconv.split_macs() for deconv in deconvs),
        )
        cells = (name, str(len(deconvs)), *(shared.count(number) for number in counts), network.title, network.source)
        shared.add_row(table, *cells)
    shared.console().print(table)


@group.command("export")
def export_network(
    name: Annotated[str, typer.Argument(help="A network of `splitdeconv zoo list`.")],
    out: Annotated[Path, typer.Argument(help="Where to write it: a file that ends in .onnx or .tflite.")],
    dtype: Annotated[str, typer.Option(help="float32, or int8: quantised with weights per channel.")] = "float32",
    seed: Annotated[int, typer.Option(help="Of the weights and the calibration inputs.")] = 0,
    weights: Annotated[Path | None, typer.Option(help="A state dict (.pt or .npz) instead of initial weights.")] = None,
) -> None:
    """Write a network as a model file, through the official exporters and quantisers (extra `zoo`)."""
    splitdeconv.zoo.export(name, out, dtype=dtype, seed=seed, weights=weights)
    shared.console().print(f"written: {out}", soft_wrap=True, markup=False)
