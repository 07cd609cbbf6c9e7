"""A modelled processor: its numbers and choices, read from a TOML file in which each has a unit and a source."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv.accelerator.sparsity import SKIPS, Skip
from splitdeconv.accelerator.toml_values import FREQUENCIES, RATES, SIZES, Quantity, Reader, Stated
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError, UsageError
from splitdeconv.files import read_toml

DATAFLOWS = {
    "dot-product": "each cycle: rows input channels × columns output channels of one output pixel and one tap",
    "regular-2d": "output pixels on the array, one weight broadcast each cycle, inputs forwarded between PEs",
    "systolic-weight-stationary": "rows hold products of one output, columns output channels, pixels stream through",
    "systolic-output-stationary": "rows hold output pixels, columns output channels, products stream through",
}
STATIONARY = {
    "output": "sums stay in registers; inputs and weights are read each cycle",
    "weight": "weights stay in registers; sums go to the buffer and back each cycle",
}
DECONV = {
    "none": "the processor runs convolutions only",
    "scattered": "each input pixel goes through all taps, overlapping sums are added for free",
    "phases": "each phase is computed with its own taps and written in place",
}
ZERO_INSERTION = {
    "on-the-fly": "zeros are inserted while the buffer is filled",
    "stored": "the map with its zeros is written to DRAM first, and read from there",
}
REARRANGEMENT = {
    "dma": "phases are written to their places by strided writes, in whole DRAM bursts",
    "free": "phases cost no more than a plain output",
    "pass": "phases are rearranged and cropped by passes over the data",
}
YES_NO = {"yes": True, "no": False}

_COUNT = {"PEs": 1.0}
_LANES = {"rows": {"input channels": 1.0}, "columns": {"output channels": 1.0}}
_NUMBERS = {
    "clock_hz": ("clock.frequency", Quantity(FREQUENCIES, whole=False)),
    "data_bits": ("arithmetic.data_width", Quantity({"bit": 1.0})),
    "sum_bits": ("arithmetic.sum_width", Quantity({"bit": 1.0})),
    "maps_buffer_bytes": ("memory.maps_buffer", Quantity(SIZES)),
    "weights_buffer_bytes": ("memory.weights_buffer", Quantity(SIZES)),
    "dram_bytes_per_second": ("memory.dram_bandwidth", Quantity(RATES, whole=False)),
    "dram_granule_bytes": ("memory.dram_granule", Quantity({"B": 1.0})),
    "pass_elements": ("memory.pass_width", Quantity({"elements/cycle": 1.0})),
}
_CHOICES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "deconv": ("behaviour.deconv", DECONV),
    "stationary": ("behaviour.stationary", STATIONARY),
    "zero_insertion": ("behaviour.zero_insertion", ZERO_INSERTION),
    "rearrangement": ("behaviour.rearrangement", REARRANGEMENT),
    "side_by_side": ("behaviour.side_by_side", YES_NO),
    "overlapped": ("behaviour.overlapped", YES_NO),
}
NUMBERS = ("rows", "columns", *_NUMBERS)
CHOICES: dict[str, Mapping[str, Any]] = {name: options for name, (_, options) in _CHOICES.items()}


@dataclass(frozen=True, slots=True, eq=False)
class Architecture:
    """A modelled processor, or many that differ in numbers: then those fields are arrays of one shape.

    Attributes:
        name, title: for the command line and for tables.
        dataflow: one of ``DATAFLOWS``.
        energy: name of its energy table.
        skips: kinds of zeros that its hardware can skip (``activations``, ``weights``).
        deconv, stationary, zero_insertion, rearrangement: one word each of the tables above.
        side_by_side: whether several output channels share the array where the map is smaller than the array.
        overlapped: whether the DRAM works while the array does; then each tile has half of a buffer.
        rows, columns: of the array; for ``dot-product`` input and output channels.
        clock_hz, data_bits, sum_bits, maps_buffer_bytes, weights_buffer_bytes, dram_bytes_per_second,
            dram_granule_bytes: as named.
        pass_elements: elements that a pass over the data reads or writes in a cycle.
        stated: every number and choice as the file states it, with its source.
    """

    name: str
    title: str
    dataflow: str
    energy: str
    skips: tuple[str, ...]
    deconv: str
    stationary: str
    zero_insertion: str
    rearrangement: str
    side_by_side: bool
    overlapped: bool
    rows: Array
    columns: Array
    clock_hz: Array
    data_bits: Array
    sum_bits: Array
    maps_buffer_bytes: Array
    weights_buffer_bytes: Array
    dram_bytes_per_second: Array
    dram_granule_bytes: Array
    pass_elements: Array
    stated: Mapping[str, Stated]

    def varied(self, **fields: Any) -> Architecture:
        """The same with other numbers (also arrays, all of one shape) or choices."""
        changed: dict[str, Any] = {
            name: _number(name, value) if name in NUMBERS else _choice(name, value) for name, value in fields.items()
        }
        return dataclasses.replace(self, **changed)

    def shape(self) -> tuple[int, ...]:
        """Shape of the numbers that vary; empty for a single architecture."""
        return np.broadcast_shapes(*(getattr(self, name).shape for name in NUMBERS))

    def refuse_skip(self, skip: Skip) -> str | None:
        """Why the hardware cannot skip these zeros, or None."""
        wanted = [kind for kind in ("activations", "weights") if getattr(skip, kind)]
        missing = [kind for kind in wanted if kind not in self.skips]
        return f"{self.name} cannot skip zero {' and '.join(missing)}" if missing else None

    def possible_skips(self) -> tuple[Skip, ...]:
        """Every combination of zeros that the hardware can skip."""
        return tuple(skip for skip in SKIPS.values() if self.refuse_skip(skip) is None)


def _number(name: str, value: Any) -> Array:
    whole = name not in {"clock_hz", "dram_bytes_per_second"}
    found: Array = np.asarray(value, np.int64 if whole else np.float64)
    if (found <= 0).any():
        raise UsageError(f"{name}: found {found.min()}, wanted numbers above 0")
    return found


def _choice(name: str, value: Any) -> Any:
    if name not in CHOICES:
        known = ", ".join([*NUMBERS, *CHOICES])
        raise UsageError(f"an architecture has no '{name}'; there are {known}")
    options = CHOICES[name]
    if options is YES_NO and isinstance(value, bool):
        return value
    if value not in options:
        raise UsageError(f"{name}: found '{value}', wanted one of {', '.join(options)}")
    return options[value] if options is YES_NO else value


def architectures() -> dict[str, Path]:
    """The architectures that come with the package, by name."""
    folder = Path(str(resources.files("splitdeconv.accelerator") / "archs"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_architecture(name: str) -> Architecture:
    """An architecture by name, or from a file of the user's.

    Raises:
        UsageError: none is called so.
        InputError: the file is wrong; the message names file, key and what was wanted.
    """
    if name.endswith(".toml"):
        return parse_architecture(Path(name), name)
    found = architectures()
    if name not in found:
        raise UsageError(f"no architecture is called '{name}'; there are {', '.join(found)}, or give a .toml file")
    return parse_architecture(found[name], found[name].name)


def parse_architecture(path: Path, label: str) -> Architecture:
    """An architecture from a file; ``label`` names it in messages."""
    reader = Reader(label, read_toml(path))
    name, title = reader.text("name"), reader.text("title")
    dataflow = reader.text("dataflow", f"one of {', '.join(DATAFLOWS)}")
    if dataflow not in DATAFLOWS:
        raise InputError(f"{label}: dataflow: found '{dataflow}', wanted one of {', '.join(DATAFLOWS)}")
    energy = reader.text("energy", "the name of an energy table")
    numbers: dict[str, Any] = {}
    for side in ("rows", "columns"):
        units = _LANES[side] if dataflow == "dot-product" else _COUNT
        numbers[side] = _number(side, reader.number(f"array.{side}", Quantity(units)))
    for field, (key, quantity) in _NUMBERS.items():
        numbers[field] = _number(field, reader.number(key, quantity))
    choices = {field: _choice(field, reader.choice(key, options)) for field, (key, options) in _CHOICES.items()}
    skips = reader.several("behaviour.skips", {"activations": 1, "weights": 1})
    reader.finish()
    if skips and dataflow.startswith("systolic"):
        raise InputError(f"{label}: behaviour.skips: found {', '.join(skips)}, wanted [] for a systolic array")
    return Architecture(name, title, dataflow, energy, skips, **choices, **numbers, stated=reader.stated)
