"""How values become JSON. ``SCHEMA_VERSION`` changes when the meaning of a field does."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from splitdeconv.lowerings.candidate import Candidate

SCHEMA_VERSION = 1


Json = dict[str, Any]


def plain(found: Any) -> Any:
    """What ``asdict`` gave, with candidates as text and everything else as it is."""
    if isinstance(found, dict):
        if set(found) == {each.name for each in fields(Candidate)}:
            return str(Candidate(**found))
        return {key: plain(value) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [plain(value) for value in found]
    return found
