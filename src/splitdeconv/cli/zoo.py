"""``splitdeconv zoo list`` and ``splitdeconv zoo export``."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import Annotated, Any

import typer

import splitdeconv.lab.zoo
from splitdeconv.cli import app as shared
from splitdeconv.files import together
from splitdeconv.report import listing
from splitdeconv.report.listing import Listing
from splitdeconv.report.numbers import count

COUNTS = ("MAC", "NZP", "SD")  # original, zeros inserted, the paper's split

group = typer.Typer(
    help="The paper's six networks, a small trained generator, and networks that upsample and convolve."
)
shared.app.add_typer(group, name="zoo")


@group.command("list", epilog="Example: `splitdeconv zoo list --json -`")
def show_networks(json: shared.Json = None) -> None:
    """List the networks: their deconvs, multiply-accumulates as the paper counts them, and where they come from."""
    found = [_describe(name) for name in splitdeconv.lab.zoo.NETWORKS]
    if json is not None:
        with together([], [("--json", json)]):
            shared.emit_json(json_text.dumps(found, indent=2, ensure_ascii=False) + "\n", json)
        if str(json) == "-":
            return
    rows = [
        (
            each["network"],
            str(len(each["deconvs"])),
            *(count(each[name]) for name in COUNTS),
            each["title"],
            each["source"],
        )
        for each in found
    ]
    headers = ("network", "deconvs", *COUNTS, "title", "source")
    out = shared.console()
    listing.show(out, Listing(headers, rows, ("deconvs", *COUNTS), "source"))
    listing.say(out, "multiply-accumulates of the deconvs: as they are (MAC), with zeros inserted (NZP), split (SD)")


def _describe(name: str) -> dict[str, Any]:
    network, deconvs = splitdeconv.lab.zoo.network(name), splitdeconv.lab.zoo.deconvs(name)
    return {
        "network": name,
        "title": network.title,
        "source": network.source,
        "deconvs": [deconv.describe() for deconv in deconvs],
        "MAC": sum(deconv.native_macs() for deconv in deconvs),
        "NZP": sum(deconv.zero_insert_macs() for deconv in deconvs),
        "SD": sum(deconv.split_macs() for deconv in deconvs),
    }


@group.command("export", epilog="Example: `splitdeconv zoo export dcgan dcgan.onnx --dtype int8`")
def export_network(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A network of `splitdeconv zoo list`.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where to write it: a file that ends in .onnx or .tflite.")
    ],
    dtype: Annotated[
        str, typer.Option(metavar="NAME", help="float32, or int8: quantised with weights per channel.")
    ] = "float32",
    seed: Annotated[int, typer.Option(metavar="N", help="Of the weights and the calibration inputs.")] = 0,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A state dict (.pt or .npz) instead of initial weights.")
    ] = None,
    width: Annotated[
        int | None, typer.Option(metavar="N", help="Channels of the finest maps, of networks that have a choice.")
    ] = None,
    json: shared.Json = None,
) -> None:
    """Write a network as a model file, through the official exporters and quantisers (extra `zoo`)."""
    with together([("--weights", weights)], [("OUT", out), ("--json", json)]):
        splitdeconv.lab.zoo.export(name, out, dtype=dtype, seed=seed, weights=weights, width=width)
        shared.emit_done("zoo export", [out], json, network=name, dtype=dtype, seed=seed)
    shared.say_done(f"written: {out}", json)
