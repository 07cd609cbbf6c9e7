"""The record of a benchmark as a page: every form of every layer beside native, zero insertion and the limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from splitdeconv.report import bars, plots, ratios, run, sites
from splitdeconv.report.bars import Bar, BarGroup
from splitdeconv.report.numbers import NO_NUMBER, milliseconds, number_of, times_of
from splitdeconv.report.page import (
    Block,
    Cell,
    Code,
    Figure,
    Figures,
    Kind,
    Note,
    Page,
    Plot,
    Section,
    Table,
    Unbroken,
)
from splitdeconv.results.bench import EQUAL_WORK, NATIVE, ZERO_INSERT, BenchRecord, LayerTimes, ModelTimes, Summary
from splitdeconv.results.times import Measurement

NAMES = {
    "native": "native (as it came)",
    "native, folded": "native, with folded weights",
    "zero_insert": "zeros inserted",
    "split": "the paper's split",
    "converted": "converted",
    "bound": "convolutions of least work",
}
SERIES = {"native": 2, "zero_insert": 1, "split": 3, "converted": 0, "bound": 4, "native, folded": 5}

EXPLAINED = (
    "Each layer was run in every exact form, all in the same rounds. “Converted” is what the planner takes from these "
    "times; it is native where nothing is faster beyond the noise. Zero insertion is the baseline of the paper. The "
    "convolution of equal work computes as many useful multiply-accumulates and rearranges nothing: the limit. It "
    "computes something else, and is only timed."
)


def page(records: Sequence[BenchRecord]) -> Page:
    """The page of one benchmark on one or several targets.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    name = PurePath(records[0].source).name
    targets = ", ".join(record.environment.target for record in records)
    sections = [section for record in records for section in _of_target(record, several=len(records) > 1)]
    lead = " ".join(_lead(record) for record in records)
    environments = [record.environment for record in records]
    sections.append(run.section(records[0].source, None, environments, records[0].provenance))
    return Page(f"{name}: benchmark on {targets}", lead, tuple(sections), tuple(_figures(each) for each in records))


def kind_of(record: BenchRecord) -> Kind:
    """Whether a benchmark's times are measured or estimated."""
    return next((kind for layer in record.layers if (kind := sites.kind_of(layer.options))), "measured")


def _lead(record: BenchRecord) -> str:
    where, kind = record.environment.target, kind_of(record)
    parts = []
    if record.model is not None and (ratio := record.model.ratio("native", "converted")) is not None:
        parts.append(f"the whole model is {ratio:.2f} times as fast converted as it came")
    gained = _summary(record, "native / converted")
    if gained is not None:
        parts.append(f"its {number_of(gained.count, 'layer')} {gained.mean:.2f} times as fast (geometric mean)")
    inserted = _summary(record, "zero_insert / converted")
    if inserted is not None:
        parts.append(f"{inserted.mean:.2f} times as fast as with zeros inserted")
    return f"On {where} ({kind}): {', '.join(parts) or 'nothing could be timed'}."


def _summary(record: BenchRecord, title: str) -> Summary | None:
    return next((each for each in record.summaries() if each.title == title), None)


def _figures(record: BenchRecord) -> Figures:
    kind, found = kind_of(record), []
    where = record.environment.target
    if record.model is not None and (ratio := record.model.ratio("native", "converted")) is not None:
        times = record.model.times
        detail = f"{times['native'].median_ms:.4g} ms → {times['converted'].median_ms:.4g} ms on {where}"
        found.append(Figure("Whole model, against native", f"{ratio:.2f}×", detail, kind=kind))
    for title, label in (
        ("native / converted", "Layers, against native"),
        ("zero_insert / converted", "Layers, against zero insertion"),
        ("converted / equal-work convolution", "Time over that of equal work"),
    ):
        if (each := _summary(record, title)) is not None:
            worst = plots.shortened(each.layer, 30)
            detail = f"geometric mean of {each.count} on {where}; worst {each.worst:.2f}× ({worst})"
            found.append(Figure(label, f"{each.mean:.2f}×", detail, kind=kind))
    return Figures(tuple(found))


def _of_target(record: BenchRecord, *, several: bool) -> list[Section]:
    on = f" on {record.environment.target}" if several else ""
    found = [_layers(record, f"Layers{on}")]
    if record.model is not None:
        found.insert(0, _whole(record, record.model, f"Whole model{on}"))
    details: list[Block] = [
        sites.every_form(layer.name, layer.deconv, layer.options, layer.refusals, layer.chosen)
        for layer in record.layers
    ]
    if details:
        found.append(Section(f"Every form{on}", "", (*details, sites.forms_in_words())))
    return found


def _whole(record: BenchRecord, model: ModelTimes, title: str) -> Section:
    if not model.times:
        return Section(title, "", (Note(f"The whole model was not timed: {model.reason}.", "warn"),))
    kind = kind_of(record)
    drawn = [
        Bar(NAMES[name], time.median_ms, _beside(model, name, time), SERIES[name], (time.low_ms, time.high_ms))
        for name, time in model.times.items()
    ]
    plot = bars.plot("Time of the whole model", [BarGroup("whole model", tuple(drawn))], kind, bars.MILLISECONDS)
    rows = tuple(
        (NAMES[name], milliseconds(time), times_of(model.ratio("native", name)), time.rounds)
        for name, time in model.times.items()
    )
    table = Table("The same in numbers", ("model", "ms", "speed", "rounds"), rows, sites.SPREAD, kind)
    return Section(title, f"Converted: {captured_in_words(model)}.", (plot, table))


def captured_in_words(model: ModelTimes) -> str:
    """How much of what there is to gain in the whole model a conversion gains."""
    room = model.ratio("native", "bound")
    if room is None:
        return "no bound is known"
    if model.captured is None:
        return f"no room: with convolutions of least work {room:.2f}×"
    return f"{model.captured:.0%} of the room, which ends at {room:.2f}× with convolutions of least work"


def _beside(model: ModelTimes, name: str, time: Measurement) -> str:
    shown = f"{time.median_ms:.4g} ms"
    return shown if name == "native" else f"{shown}, {times_of(model.ratio('native', name))}"


def _layers(record: BenchRecord, title: str) -> Section:
    kind = kind_of(record)
    blocks: list[Block] = [Note(note) for note in record.notes]
    if record.layers:
        svg = plots.to_svg(ratios.figure([record]), "; ".join(_described(layer) for layer in record.layers))
        blocks += [Plot("Speed of each kind of form, native = 1", svg, kind), _times(record, kind), _choices(record)]
    if record.skipped:
        rows = tuple((each.site, each.where, each.reason) for each in record.skipped)
        blocks.append(Table("Deconvs that cannot be rewritten", ("site", "where", "why"), rows))
    return Section(title, f"{EXPLAINED}\n\nOn {run.where(record.environment)}.", tuple(blocks))


def _described(layer: LayerTimes) -> str:
    found = (f"{form} {times_of(ratio)}" for form, ratio in ratios.speed_ups(layer).items())
    return f"{layer.name}: {', '.join(found)}"


def _times(record: BenchRecord, kind: Kind) -> Table:
    headers = ("layer", "native", "zeros inserted", "equal work", "best lowering", "converted", "against native",
               "against zeros")  # fmt: skip
    rows = tuple(_row(layer) for layer in record.layers)
    notes = sites.SPREAD if kind == "measured" else ("By the compiler's own estimate; nothing was run.",)
    return Table("Milliseconds of each layer", headers, rows, notes, kind)


def _row(layer: LayerTimes) -> tuple[Cell, ...]:
    best = layer.best
    return (
        layer.name,
        *(milliseconds(layer.time(form)) for form in (NATIVE, ZERO_INSERT, EQUAL_WORK)),
        milliseconds(layer.time(best)) if best is not None else NO_NUMBER,
        milliseconds(layer.time(layer.chosen)),
        times_of(layer.ratio(NATIVE, layer.chosen)),
        times_of(layer.ratio(ZERO_INSERT, layer.chosen)),
    )


def _choices(record: BenchRecord) -> Table:
    rows = tuple(
        (
            layer.name,
            Unbroken(layer.deconv.describe()),
            Code(str(layer.best or NO_NUMBER)),
            Code(str(layer.chosen)),
            layer.reason,
        )
        for layer in record.layers
    )
    headers = ("layer", "deconv", "best lowering", "converted", "why")
    return Table("What the planner takes, and why", headers, rows, (sites.GEOMETRY,))
