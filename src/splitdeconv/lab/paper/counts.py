"""Operation counts of the six networks' deconvs: as they are, with zeros inserted, split, and without zero taps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splitdeconv.deconv.spec import Deconv
from splitdeconv.lab.paper.networks import ARTGAN, NAMES, TITLES, network
from splitdeconv.lab.paper.part import PaperPart, Progress, single
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Chart, Result, grouped
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.report.page import Cell, Column, Header, Table

_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Macs:
    """Multiply-accumulates of deconvs.

    Attributes:
        original: every input meets every tap.
        zero_insert: with zeros inserted (NZP).
        split: with the filters extended by zeros (SD).
        phases: each output phase with its own taps only (``split_phases``).
    """

    original: int
    zero_insert: int
    split: int
    phases: int


def macs_of(deconvs: tuple[Deconv, ...]) -> Macs:
    """The sums over ``deconvs``, counted as the paper does: outputs of the pads' border are left out."""
    return Macs(
        sum(each.macs() for each in deconvs),
        sum(each.zero_insert_macs() for each in deconvs),
        sum(each.split_macs() for each in deconvs),
        sum(_phases(each) for each in deconvs),
    )


def _phases(deconv: Deconv) -> int:
    """A deconv of stride 1 has no phases: it is a convolution as it is."""
    return lower(deconv, "NHWC", Candidate("split_phases")).macs() if max(deconv.strides) > 1 else deconv.macs()


def counts(progress: Progress) -> dict[str, Macs]:
    """Of each of the six networks."""
    found = {}
    for number, name in enumerate(NAMES):
        progress(TITLES[name], number / len(NAMES))
        found[name] = macs_of(tuple(each.spec for each in network(name).deconvs if isinstance(each.spec, Deconv)))
    return found


def shown(found: Mapping[str, Macs]) -> Result:
    """Ours beside the paper's, for each of the six networks."""
    rows: list[tuple[Cell, ...]] = []
    for name, ours in found.items():
        pairs = zip((ours.original, ours.zero_insert, ours.split), ("mac", "nzp-mac", "sd-mac"), strict=True)
        cells = [cell for count, key in pairs for cell in (count / _MILLION, published(key).value(name))]
        rows.append((TITLES[name], *cells, ours.phases / _MILLION))
    columns: list[Header] = ["network"]
    for title in ("original", "NZP", "SD"):
        columns += [Column(f"{title}, ours", "M"), Column(f"{title}, paper", "M")]
    table = Table(
        "Multiply-accumulates of the deconv layers",
        (*columns, Column("without zero taps, ours", "M")),
        tuple(rows),
        (
            ARTGAN,
            "Without zero taps, each phase has its own taps only (split_phases): as many products as the original.",
        ),
        "counted",
    )
    series = {
        label: [getattr(each, key) / each.original for each in found.values()]
        for label, key in {"NZP": "zero_insert", "SD": "split", "without zero taps": "phases"}.items()
    }
    groups = grouped([TITLES[name] for name in found], series)
    chart = Chart("Multiply-accumulates, original = 1", "counted", groups, "of the original")
    return Result({"counts": table}, {"counts": chart}, notes=_differences(found))


def _differences(found: Mapping[str, Macs]) -> tuple[str, ...]:
    equal = [TITLES[name] for name in NAMES if _equals(found[name].original, published("mac").value(name))]
    return (f"Equal to the paper's to all digits that it gives: {', '.join(equal)}.",)


def _equals(ours: int, theirs: float | None) -> bool:
    return theirs is not None and round(ours / _MILLION, 2) == theirs


PART: PaperPart = single(
    "counts",
    "Operation counts",
    "How many multiply-accumulates the deconv layers of the six networks need in each form.",
    "counted",
    counts,
    Mapping[str, Macs],
    shown,
)
