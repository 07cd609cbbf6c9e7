"""Blocks that say where numbers come from: the command, the versions, what computed them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from splitdeconv.report.page import Block, Cell, Code, Facts, Section
from splitdeconv.results.record import Environment, Provenance


def section(source: str, output: str | None, environments: Sequence[Environment], provenance: Provenance) -> Section:
    """How this record came about.

    Args:
        output: what was written, empty where that is nothing; None for a command that writes no model.
    """
    rows: list[tuple[str, Cell]] = []
    if provenance.arguments:
        rows.append(("command", Code(shlex.join(("splitdeconv", *provenance.arguments)))))
    rows.append(("input", Code(source)))
    if output is not None:
        rows.append(("written to", Code(output) if output else "nothing was written"))
    if provenance.finished:
        rows.append(("finished", provenance.finished.replace("T", " ").replace("+00:00", " UTC")))
    if provenance.versions:
        rows.append(("versions", _pairs(provenance.versions)))
    if provenance.system:
        rows.append(("system", provenance.system))
    blocks: list[Block] = [Facts(tuple(rows))]
    blocks.extend(Facts(environment(each)) for each in environments)
    return Section("Command and environment", "", tuple(blocks))


def environment(found: Environment) -> tuple[tuple[str, Cell], ...]:
    """What computed something."""
    rows: list[tuple[str, Cell]] = [("target", Code(found.target))]
    if found.versions:
        rows.append(("versions", _pairs(found.versions)))
    if found.processor:
        rows.append(("processor", found.processor))
    rows.append(("threads", str(found.threads) if found.threads else "its own number"))
    rows.extend((name.replace("_", " "), text) for name, text in found.options.items() if text)
    return tuple(rows)


def where(found: Environment) -> str:
    """The same in a few words: ``onnxruntime 1.27.0, AMD EPYC, 2 threads``."""
    versions = [f"{name} {version}" for name, version in found.versions.items()]
    threads = [f"{found.threads} threads"] if found.threads else []
    return ", ".join([*versions, *([found.processor] if found.processor else []), *threads])


def _pairs(found: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found.items())
