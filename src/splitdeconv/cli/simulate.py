"""``splitdeconv simulate``: cycles, traffic and energy on modelled processors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from splitdeconv.accelerator.arch import Architecture, architectures, load_architecture
from splitdeconv.accelerator.energy import energy_tables, load_energies
from splitdeconv.accelerator.layers import Network
from splitdeconv.accelerator.sparsity import SKIPS, Skip
from splitdeconv.cli.app import Json, app, console, emit_json
from splitdeconv.cli.inputs import shapes
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.files import together
from splitdeconv.lab.simulation import records
from splitdeconv.lab.simulation.forms import FORMS, FULL, NATIVE, PAPER_FORMS, ZERO_INSERT
from splitdeconv.lab.simulation.models import find_networks
from splitdeconv.pipeline.request import SHAPE_HELP
from splitdeconv.report.listing import Listing, say, show
from splitdeconv.results.schema import SCHEMA_VERSION

ARCH_HELP = f"Architectures: {', '.join(architectures())}, or a .toml file. Repeatable."
ENERGY_HELP = f"Energy table: {', '.join(energy_tables())}, or a .toml file; the architecture's if left out."
FORMS_IN_WORDS = (
    "NZP: zeros inserted, with which all others are compared; SD: the paper's split, cropped: without what it computes "
    "to cut off; Asparse, Wsparse, WAsparse: zeros of activations, of weights, of both are skipped"
)
FormNames = Annotated[
    list[str] | None, typer.Option("--form", metavar="NAME", help=f"How deconvs are computed: {', '.join(FORMS)}.")
]
SkipNames = Annotated[
    list[str] | None, typer.Option("--skip", metavar="NAME", help=f"Zeros that are skipped: {', '.join(SKIPS)}.")
]


@app.command(epilog="Example: `splitdeconv simulate dcgan --arch systolic-ws-32x32 --layers`")
def simulate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL", help="Networks of `splitdeconv zoo list`, `paper` for its six, .toml, .json or a model."
        ),
    ],
    arch: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"{ARCH_HELP} `zigzag:NAME` for ZigZag."),
    ] = None,
    form: FormNames = None,
    skip: SkipNames = None,
    energy: Annotated[str, typer.Option(metavar="NAME", help=ENERGY_HELP)] = "",
    input_shape: Annotated[list[str] | None, typer.Option(metavar="NAME=SIZES", help=SHAPE_HELP)] = None,
    layers: Annotated[bool, typer.Option("--layers", help="One line for each layer.")] = False,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Ranges of the ratios when one assumption varies at a time.")
    ] = False,
    assumptions: Annotated[bool, typer.Option("--assumptions", help="Every number with its source.")] = False,
    json_path: Json = None,
) -> None:
    """Estimate cycles, DRAM traffic and energy of a model's deconvs in each form, against zero insertion (NZP)."""
    read = [(name, Path(name)) for name in (*models, *(arch or []), *([energy] if energy else []))]
    with together(read, [("--json", json_path)]):
        in_shapes = shapes(input_shape)
        networks = [network for text in models for network in find_networks(text, in_shapes)]
        found = []
        for name in arch or ["dot-product-16x16"]:
            if name.startswith("zigzag:"):
                found += _zigzag(networks, name.partition(":")[2], form)
                continue
            architecture = load_architecture(name)
            energies = load_energies(energy or architecture.energy)
            wanted = _wanted(architecture, form, skip)
            for network in networks:
                rows = records.rows(network, architecture, energies, wanted, sensitivity)
                found.append(records.network_record(network, architecture, energies, rows))
        if str(json_path) != "-":
            _print(found, layers=layers, assumptions=assumptions)
        if json_path is not None:
            record = {"schema": SCHEMA_VERSION, "command": "simulate", "results": found}
            emit_json(json.dumps(record, indent=2, ensure_ascii=False) + "\n", json_path)


def _zigzag(networks: Sequence[Network], text: str, forms: Sequence[str] | None) -> list[dict[str, Any]]:
    try:
        from splitdeconv.lab.simulation.zigzag_report import zigzag_records  # noqa: PLC0415  # only with the extra
    except ModuleNotFoundError as error:
        raise MissingExtraError("zigzag:NAME", error.name or "zigzag-dse", "zigzag") from error
    return zigzag_records(networks, text, forms or [FULL, "split:union"])


def skips_named(names: Sequence[str]) -> list[Skip]:
    """What ``--skip`` names.

    Raises:
        UsageError: one of them is unknown.
    """
    if unknown := [name for name in names if name not in SKIPS]:
        raise UsageError(f"--skip: found '{unknown[0]}', wanted one of {', '.join(SKIPS)}")
    return [SKIPS[name] for name in names]


def _wanted(arch: Architecture, forms: Sequence[str] | None, skips: Sequence[str] | None) -> list[tuple[str, Skip]]:
    """Forms and skips to compute: those asked for, or what the paper compares."""
    chosen = skips_named(skips or ()) or list(arch.possible_skips())
    if forms:
        return [(form, each) for form in forms for each in chosen]
    if arch.deconv != "none":
        return [(ZERO_INSERT, Skip()), (NATIVE, Skip())]
    rest = [(form, each) for form in PAPER_FORMS[1:] for each in chosen]
    return [(ZERO_INSERT, Skip()), *rest, ("split_phases", Skip())]


def _print(found: Sequence[dict[str, Any]], *, layers: bool, assumptions: bool) -> None:
    out = console()
    for record in found:
        is_zigzag = record["architecture"]["dataflow"] == "zigzag"
        by = " by ZigZag" if is_zigzag else ""
        say(out, f"{record['title'] or record['network']} on {record['architecture']['title']} (estimated{by})")
        show(out, _zigzag_table(record) if is_zigzag else _table(record))
        for note in record["notes"]:
            say(out, f"note: {note}")
        if layers and not is_zigzag:
            _print_layers(out, record)
    if any(record["architecture"]["dataflow"] != "zigzag" for record in found):
        say(out, FORMS_IN_WORDS)
    if assumptions:
        for arch in {record["architecture"]["name"]: record["architecture"] for record in found}.values():
            if "stated" in arch:
                say(out, f"{arch['name']}: numbers and their sources")
                show(out, _assumption_table(arch))


_RESULTS = ("k cycles", "stalled", "ms", "useful", "DRAM kB", "energy", "speed-up", "energy saved", "whole network")
_ZIGZAG_RESULTS = ("k cycles", "k compute", "energy", "speed-up", "energy saved")


def _table(record: dict[str, Any]) -> Listing:
    return _listing(_RESULTS, [(row, () if "refused" in row else _cells(row)) for row in record["rows"]])


def _zigzag_table(record: dict[str, Any]) -> Listing:
    return _listing(_ZIGZAG_RESULTS, [(row, () if "refused" in row else _zigzag_cells(row)) for row in record["rows"]])


def _listing(columns: Sequence[str], rows: Sequence[tuple[dict[str, Any], Sequence[str]]]) -> Listing:
    """One row for each form; one that is refused has its reason in place of numbers."""
    cells = [(row["name"], *(numbers or [""] * len(columns)), row.get("refused", "")) for row, numbers in rows]
    return Listing(("form", *columns, "refused"), cells, columns, "refused")


def _zigzag_cells(row: dict[str, Any]) -> list[str]:
    return [
        f"{row['cycles'] / 1e3:.1f}",
        f"{row['compute_cycles'] / 1e3:.1f}",
        f"{row['energy_pj'] * 1e-6:.1f} µJ",
        f"{row['speed_up']:.2f}×",
        f"{100 * row['energy_saving']:.1f} %",
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    total = row["deconvs"]
    per_unit = {"pJ": (1e-6, "µJ"), "MAC": (1e-6, "M MAC")}[total["energy_unit"]]
    return [
        f"{total['cycles'] / 1e3:.1f}",
        f"{100 * total['stall_cycles'] / max(1, total['cycles']):.0f} %",
        f"{total['ms']:.3f}",
        f"{100 * total['utilisation']:.1f} %",
        f"{(total['dram_reads'] + total['dram_writes']) / 1e3:.0f}",
        f"{total['energy'] * per_unit[0]:.1f} {per_unit[1]}",
        _ranged(row["speed_up"], row.get("speed_up_range"), 1, "×"),
        _ranged(row["energy_saving"], row.get("saving_range"), 100, " %"),
        f"{row['whole_speed_up']:.2f}×",
    ]


def _ranged(number: float, spread: Sequence[float] | None, factor: float, unit: str) -> str:
    digits = 2 if factor == 1 else 1
    text = f"{number * factor:.{digits}f}{unit}"
    if spread is None:
        return text
    low, high = spread
    return f"{text} ({low * factor:.{digits}f}–{high * factor:.{digits}f})"


def _print_layers(out: Console, record: dict[str, Any]) -> None:
    numbers = ("k compute", "k stall", "k move", "DRAM kB", "useful")
    for row in record["rows"]:
        if layers := row.get("layers"):
            say(out, f"{row['name']}, layer by layer")
            rows = [(layer["name"], *_layer_cells(layer)) for layer in layers]
            show(out, Listing(("layer", "what", *numbers), rows, numbers))


def _layer_cells(layer: dict[str, Any]) -> list[str]:
    cycles = [f"{layer[f'{name}_cycles'] / 1e3:.1f}" for name in ("compute", "stall", "move")]
    traffic = f"{(layer['dram_reads'] + layer['dram_writes']) / 1e3:.0f}"
    return [layer["what"], *cycles, traffic, f"{100 * layer['utilisation']:.1f} %"]


def _assumption_table(arch: dict[str, Any]) -> Listing:
    rows = [(key, each["value"], each["source"]) for key, each in {**arch["stated"], **arch["energy"]}.items()]
    return Listing(("key", "value", "source"), rows, text="source")
