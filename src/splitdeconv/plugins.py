"""Plug-ins by name, imported only when they are used, so that a missing package costs nothing until then.

Other packages bring theirs by entry points of the groups ``splitdeconv.lowerings``, ``splitdeconv.targets`` and
``splitdeconv.formats``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

from splitdeconv.errors import MissingExtraError, UsageError

_PACKAGE = "splitdeconv"


def registry(kind: str, own: Mapping[str, str]) -> dict[str, str]:
    """``own`` plug-ins and those of installed packages; of equal names ours holds.

    Args:
        kind: ``target``, ``format`` or ``lowering``.
        own: name → ``module:attribute``.
    """
    others = {entry.name: entry.value for entry in entry_points(group=f"{_PACKAGE}.{kind}s") if entry.name not in own}
    return {**own, **others}


def load(kind: str, name: str, known: Mapping[str, str]) -> Any:
    """What the registry line ``"module:attribute"`` of ``name`` stands for.

    Args:
        kind: what is loaded, for messages (``target``, ``format``).
        name: key in the registry; also the extra of a plug-in of this package.
        known: name → ``module:attribute``.

    Raises:
        UsageError: no such name, or the plug-in is broken.
        MissingExtraError: a package that the plug-in needs is not installed.
    """
    if name not in known:
        raise UsageError(f"no {kind} is called '{name}'; there are {', '.join(sorted(known))}")
    module, _, attribute = known[name].partition(":")
    package = module.partition(".")[0]
    try:
        return getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = (error.name or _PACKAGE).partition(".")[0]
        if missing == _PACKAGE:
            raise
        if package in (_PACKAGE, missing):
            raise MissingExtraError(f"{kind} '{name}'", missing, name) from error
        raise UsageError(f"{kind} '{name}' of {package} needs {missing}, which is not installed") from error
    except (AttributeError, ImportError) as error:
        if package == _PACKAGE:
            raise
        raise UsageError(f"{kind} '{name}' of {package} cannot be loaded: {error}") from error


def require(package: str) -> None:
    """What an import of ``package`` would do where it is missing, for a plug-in that uses it in another process.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    if find_spec(package) is None:
        raise ModuleNotFoundError(f"No module named '{package}'", name=package)
