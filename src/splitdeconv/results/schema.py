"""The version of everything that is written as JSON; it changes when the meaning of a field does."""

from __future__ import annotations

from typing import Any

SCHEMA_VERSION = 1

Json = dict[str, Any]
