"""Plug-ins by name, imported only when they are used, so that a missing package costs nothing until then."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from splitdeconv.errors import MissingExtraError, UsageError


def load(kind: str, name: str, registry: dict[str, str]) -> Any:
    """What the registry line ``"module:attribute"`` of ``name`` stands for.

    Args:
        kind: what is loaded, for messages (``target``, ``format``).
        name: key in the registry; also the name of the plug-in's extra.
        registry: name → ``module:attribute``.

    Raises:
        UsageError: no such name.
        MissingExtraError: a package that the plug-in needs is not installed.
    """
    if name not in registry:
        raise UsageError(f"no {kind} is called '{name}'; there are {', '.join(sorted(registry))}")
    module, attribute = registry[name].split(":")
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "splitdeconv":
            raise
        raise MissingExtraError(f"{kind} '{name}'", error.name.split(".")[0], name) from error
