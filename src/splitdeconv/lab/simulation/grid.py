"""The points of a sweep: networks × architectures × forms × every combination of varied numbers and choices."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any

import numpy as np

from splitdeconv.accelerator.arch import CHOICES, NUMBERS, YES_NO, Architecture
from splitdeconv.accelerator.energy import ACTIONS, Energies
from splitdeconv.accelerator.layers import Network
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.errors import UsageError
from splitdeconv.results.record import versions

CHUNK_POINTS = 4096
LARGEST_RANGE = 1_000_000
ENERGIES = tuple(f"energy.{action}" for action in ACTIONS)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Points that are evaluated at once: they differ in numbers only.

    Attributes:
        network, arch, energies, form, skip: common to all.
        choices: other choices of the architecture.
        numbers: varied number → its value at each point.
    """

    network: Network
    arch: Architecture
    energies: Energies
    form: str
    skip: Skip
    choices: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def points(self) -> int:
        """How many."""
        return len(next(iter(self.numbers.values()))) if self.numbers else 1

    def key(self) -> str:
        """Names the chunk in a restart: the same for the same points, another one where anything differs."""
        fixed = {name: np.asarray(getattr(self.arch, name)).tolist() for name in NUMBERS}
        kinds = {name: getattr(self.arch, name) for name in ("name", "dataflow", "skips", *CHOICES)}
        prices = {name: float(getattr(self.energies, name)) for name in ACTIONS}
        layers = [
            (layer.name, repr(layer.spec), None if layer.nonzero is None else _digest(layer.nonzero.tobytes()))
            for layer in self.network.layers
        ]
        said = [
            versions()["splitdeconv"],
            self.network.name,
            layers,
            fixed,
            kinds,
            prices,
            self.energies.unit,
            self.form,
            str(self.skip),
        ]
        text = json.dumps([said, dict(self.choices), dict(self.numbers)], sort_keys=True, default=str)
        return _digest(text.encode())


def _digest(found: bytes) -> str:
    return hashlib.sha256(found).hexdigest()[:20]


def values(text: str) -> tuple[str, tuple[Any, ...]]:
    """What ``--vary`` takes: ``rows=8,16,32``, ``rows=8:64:8`` (the end included), or ``zero_insertion=stored,…``.

    Raises:
        UsageError: no such number or choice, or values that cannot be.
    """
    name, _, found = text.partition("=")
    if name in CHOICES:
        words = tuple(found.split(","))
        for word in words:
            if word not in CHOICES[name]:
                raise UsageError(f"--vary {name}: found '{word}', wanted {', '.join(CHOICES[name])}")
        return name, tuple(CHOICES[name][word] if CHOICES[name] is YES_NO else word for word in words)
    if name not in (*NUMBERS, *ENERGIES):
        known = ", ".join([*NUMBERS, *ENERGIES, *CHOICES])
        raise UsageError(f"--vary: found '{name}', wanted one of {known}")
    try:
        return name, _range(found) if ":" in found else tuple(_number(part) for part in found.split(","))
    except ValueError:
        wanted = "numbers as 8,16,32 or first:last:step"
        raise UsageError(f"--vary {name}: found '{found}', wanted {wanted}") from None


def _range(text: str) -> tuple[float, ...]:
    parts = [_number(part) for part in text.split(":")]
    first, last, step = parts if len(parts) == 3 else (*parts, 1)
    if step <= 0 or last < first or (last - first) / step > LARGEST_RANGE:
        raise ValueError(text)
    return tuple(first + step * number for number in range(int((last - first) / step + 1e-9) + 1))


def _number(text: str) -> float:
    number = float(text)
    return int(number) if number == int(number) else number


def chunks(
    networks: Sequence[Network],
    architectures: Sequence[tuple[Architecture, Energies]],
    forms: Sequence[tuple[str, Skip]],
    varied: Mapping[str, Sequence[Any]],
) -> Iterator[Chunk]:
    """All points, cut into chunks."""
    choices = {name: found for name, found in varied.items() if name in CHOICES}
    numbers = {name: found for name, found in varied.items() if name not in CHOICES}
    for network, (arch, energies), (form, skip) in product(networks, architectures, forms):
        for chosen in product(*choices.values()):
            picked = dict(zip(choices, chosen, strict=True))
            for part in _parts(numbers):
                yield Chunk(network, arch, energies, form, skip, picked, part)


def _parts(numbers: Mapping[str, Sequence[float]]) -> Iterator[dict[str, tuple[float, ...]]]:
    """Combinations of numbers, ``CHUNK_POINTS`` at a time, the first number slowest."""
    if not numbers:
        yield {}
        return
    lengths = [len(found) for found in numbers.values()]
    total = prod(lengths)
    for start in range(0, total, CHUNK_POINTS):
        places = np.unravel_index(np.arange(start, min(start + CHUNK_POINTS, total)), lengths)
        yield {
            name: tuple(np.asarray(found)[place].tolist())
            for (name, found), place in zip(numbers.items(), places, strict=True)
        }
