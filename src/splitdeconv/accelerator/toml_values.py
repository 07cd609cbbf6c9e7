"""Numbers with unit and source from a TOML file; a mistake is one line with file, key and what was wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splitdeconv.errors import InputError

SIZES = {"B": 1.0, "KiB": 1024.0, "MiB": 1024.0**2, "GiB": 1024.0**3}
RATES = {"B/s": 1.0, "MB/s": 1e6, "GB/s": 1e9}
FREQUENCIES = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}


@dataclass(frozen=True, slots=True)
class Quantity:
    """What a key of a file must hold.

    Attributes:
        units: unit → factor to the unit that the model counts in.
        whole: whether the number must be whole after conversion.
        zero: whether 0 is allowed.
    """

    units: Mapping[str, float]
    whole: bool = True
    zero: bool = False

    @property
    def wanted(self) -> str:
        """For messages."""
        kind = "whole number" if self.whole else "number"
        return f"a {kind} {'of at least' if self.zero else 'above'} 0 in {' or '.join(self.units)}"


@dataclass(frozen=True, slots=True)
class Stated:
    """A value as a file states it.

    Attributes:
        text: value and unit.
        source: where the number is from, or ``assumed: …``.
    """

    text: str
    source: str


class Reader:
    """Takes keys out of one file and complains about what is missing, wrong or left over.

    Attributes:
        path: of the file, for messages.
        stated: every number and choice that was taken, by key.
    """

    def __init__(self, path: str, tables: Mapping[str, Any]) -> None:
        self.path = path
        self.tables = tables
        self.stated: dict[str, Stated] = {}
        self._taken: set[str] = set()

    def fail(self, key: str, found: str, wanted: str) -> InputError:
        """The error for one key."""
        return InputError(f"{self.path}: {key}: {found}, wanted {wanted}")

    def has(self, key: str) -> bool:
        """Whether the file holds ``table.key``."""
        table, _, name = key.rpartition(".")
        found = self.tables.get(table) if table else self.tables
        return isinstance(found, dict) and name in found

    def _take(self, key: str, wanted: str) -> Any:
        if not self.has(key):
            raise self.fail(key, "is missing", wanted)
        self._taken.add(key)
        table, _, name = key.rpartition(".")
        return self.tables[table][name] if table else self.tables[name]

    def text(self, key: str, wanted: str = "a text") -> str:
        """A plain text."""
        found = self._take(key, wanted)
        if not isinstance(found, str):
            raise self.fail(key, f"found {found!r}", wanted)
        return found

    def _entry(self, key: str, wanted: str, unit: bool) -> dict[str, Any]:
        form = '{ value, unit, source = "…" }' if unit else '{ value, source = "…" }'
        found = self._take(key, f"{form} with {wanted}")
        if not isinstance(found, dict):
            raise self.fail(key, f"found {found!r}", f"{form} with {wanted}")
        names = {"value", "unit", "source"} if unit else {"value", "source"}
        if left := sorted(set(found) - names):
            raise self.fail(f"{key}.{left[0]}", "unknown key", f"only {', '.join(sorted(names))}")
        for name in sorted(names):
            if name not in found:
                raise self.fail(f"{key}.{name}", "is missing", f"{form} with {wanted}")
        if not isinstance(found["source"], str) or not found["source"].strip():
            raise self.fail(
                f"{key}.source", f"found {found['source']!r}", "the source of the number, or 'assumed: why'"
            )
        return found

    def number(self, key: str, quantity: Quantity) -> float:
        """A number, converted to the unit that the model counts in."""
        entry = self._entry(key, quantity.wanted, unit=True)
        value, unit = entry["value"], entry["unit"]
        if unit not in quantity.units:
            raise self.fail(f"{key}.unit", f"found {unit!r}", " or ".join(quantity.units))
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.fail(f"{key}.value", f"found {value!r}", quantity.wanted)
        scaled = value * quantity.units[unit]
        allowed = scaled >= 0 if quantity.zero else scaled > 0
        if not allowed or scaled == float("inf") or (quantity.whole and scaled != int(scaled)):
            raise self.fail(f"{key}.value", f"found {value}", quantity.wanted)
        self.stated[key] = Stated(f"{value} {unit}", entry["source"])
        return scaled

    def choice(self, key: str, options: Mapping[str, Any]) -> str:
        """One of several words."""
        wanted = " or ".join(f"'{option}'" for option in options)
        entry = self._entry(key, wanted, unit=False)
        if entry["value"] not in options:
            raise self.fail(f"{key}.value", f"found {entry['value']!r}", wanted)
        self.stated[key] = Stated(str(entry["value"]), entry["source"])
        return str(entry["value"])

    def several(self, key: str, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Several words, or none."""
        wanted = f"a list of {', '.join(repr(option) for option in options)}"
        entry = self._entry(key, wanted, unit=False)
        found = entry["value"]
        if not isinstance(found, list) or any(word not in options for word in found):
            raise self.fail(f"{key}.value", f"found {found!r}", wanted)
        self.stated[key] = Stated(", ".join(found) or "none", entry["source"])
        return tuple(found)

    def finish(self) -> None:
        """Complain about keys that nobody took.

        Raises:
            InputError: there is one.
        """
        for name, table in self.tables.items():
            keys = [f"{name}.{key}" for key in table] if isinstance(table, dict) else [name]
            for key in keys:
                if key not in self._taken:
                    known = ", ".join(sorted(self._taken))
                    raise self.fail(key, "unknown key", f"one of {known}")
