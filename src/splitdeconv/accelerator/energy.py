"""Energy per action, one source for each table, apart from the counts that it is multiplied with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from splitdeconv.accelerator.counts import Counts
from splitdeconv.accelerator.toml_values import Quantity, Reader, Stated
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.files import read_toml

ACTIONS = ("mac", "register", "link", "buffer", "dram")

# Energy per access of a word of so many bits; an action's energy is for one element, so widths are converted.
_PICOJOULES = {f"pJ/{bits}bit": 1 / bits for bits in (8, 16, 32, 64)}
_RELATIVE = {"MAC/element": 1.0}
_PER_MAC = {"pJ": 1.0, "MAC": 1.0}


@dataclass(frozen=True, slots=True, eq=False)
class Energies:
    """Energy per action. All numbers are from the one source that the file names.

    Attributes:
        name: of the table.
        unit: ``pJ``, or ``MAC`` where the source gives relative numbers only.
        mac: of one multiply-accumulate.
        register, link, buffer, dram: of moving one bit (``pJ``) or one element (``MAC``); arrays vary them.
        stated: numbers as the file states them, with their sources.
    """

    name: str
    unit: str
    mac: Array | float
    register: Array | float
    link: Array | float
    buffer: Array | float
    dram: Array | float
    stated: Mapping[str, Stated]

    def of(self, counts: Counts, data_bits: Array | int) -> dict[str, Array]:
        """Energy by place, in ``unit``.

        Args:
            counts: of a layer.
            data_bits: width of an element.
        """
        per_element = data_bits if self.unit == "pJ" else 1
        return {
            "mac": counts.macs_issued * self.mac,
            "register": counts.registers * self.register * per_element,
            "link": counts.links * self.link * per_element,
            "buffer": (counts.buffer_reads + counts.buffer_writes) * self.buffer * per_element,
            "dram": (counts.dram_reads + counts.dram_writes) * self.dram * per_element,
        }

    def total(self, counts: Counts, data_bits: Array | int) -> Array:
        """Energy of a layer, in ``unit``."""
        parts = list(self.of(counts, data_bits).values())
        total: Array = parts[0] + parts[1] + parts[2] + parts[3] + parts[4]
        return total


def energy_tables() -> dict[str, Path]:
    """The energy tables that come with the package, by name."""
    folder = Path(str(resources.files("splitdeconv.accelerator") / "energies"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_energies(name: str) -> Energies:
    """A table by name, or from a file.

    Raises:
        UsageError: no table is called so.
        InputError: the file is wrong.
    """
    if name.endswith(".toml"):
        return parse_energies(Path(name), name)
    found = energy_tables()
    if name not in found:
        raise UsageError(f"no energy table is called '{name}'; there are {', '.join(found)}, or give a .toml file")
    return parse_energies(found[name], name)


def parse_energies(path: Path, label: str) -> Energies:
    """A table from a file."""
    reader = Reader(label, read_toml(path))
    name, source = reader.text("name"), reader.text("source", "the one source of all numbers")
    mac_quantity = Quantity(_PER_MAC, whole=False)
    mac = reader.number("energy.mac", mac_quantity)
    relative = reader.stated["energy.mac"].text.endswith("MAC")
    units = _RELATIVE if relative else _PICOJOULES
    values = {
        action: reader.number(f"energy.{action}", Quantity(units, whole=False, zero=True)) for action in ACTIONS[1:]
    }
    reader.finish()
    stated = {"source": Stated(name, source), **reader.stated}
    return Energies(name, "MAC" if relative else "pJ", mac, stated=stated, **values)
