"""Operation counts of the six networks' deconvs: as they are, with zeros inserted, split, and without zero taps."""

from __future__ import annotations

from dataclasses import dataclass

from splitdeconv.deconv.spec import Deconv
from splitdeconv.lab.paper.networks import ARTGAN, NAMES, TITLES, network
from splitdeconv.lab.paper.part import PaperPart, Progress, single
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Cell, Chart, Column, Result, Sheet
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate

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


def counts(progress: Progress) -> Result:
    """Ours beside the paper's, for each of the six networks."""
    rows: list[tuple[Cell, ...]] = []
    found = {}
    for number, name in enumerate(NAMES):
        progress(TITLES[name], number / len(NAMES))
        found[name] = ours = macs_of(
            tuple(each.spec for each in network(name).deconvs if isinstance(each.spec, Deconv))
        )
        pairs = zip((ours.original, ours.zero_insert, ours.split), ("mac", "nzp-mac", "sd-mac"), strict=True)
        cells = [cell for count, key in pairs for cell in (count / _MILLION, published(key).value(name))]
        rows.append((TITLES[name], *cells, ours.phases / _MILLION))
    columns = [Column("network")]
    for title in ("original", "NZP", "SD"):
        columns += [Column(f"{title}, ours", "M"), Column(f"{title}, paper", "M")]
    sheet = Sheet(
        "counts",
        "Multiply-accumulates of the deconv layers",
        "counted",
        (*columns, Column("without zero taps, ours", "M")),
        tuple(rows),
        (
            ARTGAN,
            "Without zero taps, each phase has its own taps only (split_phases): as many products as the original.",
        ),
    )
    series = {
        label: tuple(getattr(found[name], key) / found[name].original for name in NAMES)
        for label, key in {"NZP": "zero_insert", "SD": "split", "without zero taps": "phases"}.items()
    }
    ticks = tuple(TITLES[name] for name in NAMES)
    chart = Chart(
        "counts", "Multiply-accumulates, original = 1", "counted", "bars", ticks, series, "of the original", {}
    )
    return Result((sheet,), (chart,), notes=_differences(found))


def _differences(found: dict[str, Macs]) -> tuple[str, ...]:
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
)
