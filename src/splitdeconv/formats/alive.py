"""The memory that the maps of a graph take while it runs: an estimate, the same for every runtime."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class GraphStep:
    """One operator of a graph.

    Attributes:
        reads: the values that it reads; constants have no part in it.
        makes: the values that it makes, and their bytes.
        is_view: whether what it makes shares the memory of the first value that it reads.
    """

    reads: tuple[Hashable, ...]
    makes: Mapping[Any, int]
    is_view: bool = False


def peak_bytes(inputs: Mapping[Any, int], steps: Sequence[GraphStep], outputs: Collection[Hashable]) -> int:
    """The most bytes that are alive at once, operators in the graph's order, none of them computed in place.

    A value lives until the last operator that reads it has run; inputs and outputs of the graph live to the end.
    """
    owners: dict[Hashable, Hashable] = {name: name for name in inputs}
    last: dict[Hashable, int] = {}
    for number, step in enumerate(steps):
        shared = owners.get(step.reads[0]) if step.is_view and step.reads else None
        owners |= {name: name if shared is None else shared for name in step.makes}
        last |= {owners[name]: number for name in (*step.reads, *step.makes) if name in owners}
    kept = {owners[name] for name in (*inputs, *outputs) if name in owners}
    ends: dict[int, list[Hashable]] = {}
    for name, number in last.items():
        if name not in kept:
            ends.setdefault(number, []).append(name)
    return _most(sum(inputs.values()), steps, owners, ends)


def _most(
    alive: int, steps: Sequence[GraphStep], owners: Mapping[Any, Hashable], ends: Mapping[int, Sequence[Hashable]]
) -> int:
    sizes: dict[Hashable, int] = {}
    most = alive
    for number, step in enumerate(steps):
        sizes |= {name: size for name, size in step.makes.items() if owners[name] == name}
        alive += sum(sizes[name] for name in step.makes if owners[name] == name)
        most = max(most, alive)
        alive -= sum(sizes[name] for name in ends.get(number, ()))
    return most
