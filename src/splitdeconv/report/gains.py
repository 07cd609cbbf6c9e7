"""What a conversion has gained: times and multiply-accumulates before and after, as plots and as tables."""

from __future__ import annotations

from collections.abc import Sequence

from splitdeconv.deconv.spec import Deconv
from splitdeconv.report import bars, run, sites
from splitdeconv.report.bars import Bar, BarGroup
from splitdeconv.report.numbers import NO_NUMBER, count, milliseconds, size_in_bytes, times_of
from splitdeconv.report.page import Block, Cell, Columns, Kind, Plot, Section, Table, Unbroken
from splitdeconv.results import times
from splitdeconv.results.bench import NATIVE
from splitdeconv.results.plan import Choice, sizes_in_words
from splitdeconv.results.record import RunRecord, SiteWork, WholeTimes
from splitdeconv.results.times import Measurement

BEFORE, AFTER, ZEROS = 2, 0, 1  # series of the plots

PEAK = "peak memory of maps, estimated"
MEMORY_IN_WORDS = (
    "Peak memory: the most that all maps take that are alive at once, by the graph, for a batch of 1 where it is open; "
    "runtimes compute some in place and keep copies of their own."
)

Timed = tuple[Choice, Measurement, Measurement]


def section(record: RunRecord) -> Section | None:
    """Times where there are any, and arithmetic; None for a model without deconvs."""
    found, whole = timed(record), record.whole
    kind = kind_of(record)
    drawn: list[Block] = []
    if found:
        groups = [BarGroup(_name(choice.site, choice.deconv), _pair(before, after)) for choice, before, after in found]
        drawn.append(bars.plot("Time of each deconv alone, before and after", groups, kind, bars.MILLISECONDS))
    if record.work:
        drawn.append(_work_plot(record.work))
    if not drawn:
        return None
    blocks: list[Block] = [Columns(tuple(drawn))] if len(drawn) > 1 else drawn
    if whole is not None:
        sizes = _at_each_size(record, whole) or {"whole model": (whole.before, whole.after)}
        groups = [BarGroup(name, _pair(before, after)) for name, (before, after) in sizes.items()]
        blocks.insert(0, bars.plot("Time of the whole model, before and after", groups, kind, bars.MILLISECONDS))
    if found or whole is not None:
        blocks.append(_times(record, whole, kind))
    if record.work:
        blocks.append(_work_table(record))
    if rows := size_rows(record):
        notes = (MEMORY_IN_WORDS,) if any(PEAK in row for row in rows) else ()
        blocks.append(Table("What the model is made of", ("", "before", "after"), tuple(rows), notes))
    return Section("Time and arithmetic", _where(record), tuple(blocks))


def size_rows(record: RunRecord) -> list[tuple[str, str, str]]:
    """What the model is made of, before and after: the operators whose number has changed, file and memory."""
    before, after = record.before, record.after
    if before is None or after is None:
        return []
    names = sorted({*before.operators, *after.operators})
    counts = {name: (before.operators.get(name, 0), after.operators.get(name, 0)) for name in names}
    rows = [(name, str(old), str(new)) for name, (old, new) in counts.items() if old != new]
    if same := sum(old for old, new in counts.values() if old == new):
        rows.append(("all other operators", str(same), str(same)))
    rows.append(("stored size", size_in_bytes(before.file_bytes), size_in_bytes(after.file_bytes)))
    if before.peak_bytes is not None and after.peak_bytes is not None:
        rows.append((PEAK, size_in_bytes(before.peak_bytes), size_in_bytes(after.peak_bytes)))
    return rows


def timed(record: RunRecord) -> list[Timed]:
    """The sites whose times before and after are known."""
    found = []
    for choice in record.plan.choices:
        before, after = (sites.time_of(choice.options, each) for each in (NATIVE, choice.chosen))
        if before is not None and after is not None:
            found.append((choice, before, after))
    return found


def kind_of(record: RunRecord) -> Kind:
    """Whether the times of a record are measured or estimated."""
    if record.whole is not None:
        return record.whole.after.kind
    return next((after.kind for _, _, after in timed(record)), "measured")


def _where(record: RunRecord) -> str:
    found = next((each for each in record.environments if each.target == record.plan.target), None)
    return f"On {run.where(found)}." if found is not None else ""


def _at_each_size(record: RunRecord, whole: WholeTimes) -> dict[str, tuple[Measurement, Measurement]]:
    """The whole model before and after at each of several sizes."""
    pairs = zip(whole.before.at_each_size(), whole.after.at_each_size(), strict=True)
    return {
        f"whole model, {sizes_in_words(sizes)}": pair
        for sizes, pair in zip(record.plan.measured_at, pairs, strict=False)
    }


def _pair(before: Measurement, after: Measurement) -> tuple[Bar, ...]:
    name = "unchanged" if after is before else "before"
    old = Bar(name, before.median_ms, f"{before.median_ms:.3g} ms", BEFORE, (before.low_ms, before.high_ms))
    if after is before:
        return (old,)
    text = f"{after.median_ms:.3g} ms, {times.ratio(before, after):.2f}×"
    return old, Bar("after", after.median_ms, text, AFTER, (after.low_ms, after.high_ms))


def _times(record: RunRecord, whole: WholeTimes | None, kind: Kind) -> Table:
    rows: list[tuple[Cell, ...]] = [("whole model", *_row(whole.before, whole.after))] if whole is not None else []
    each_size = {} if whole is None else _at_each_size(record, whole)
    rows += [(name, *_row(*pair)) for name, pair in each_size.items()]
    for choice in record.plan.choices:
        before, after = (sites.time_of(choice.options, each) for each in (NATIVE, choice.chosen))
        if after is not None:
            rows.append((choice.site, *_row(before, after)))
    notes = list(sites.SPREAD) if kind == "measured" else ["By the compiler's own estimate; nothing was run."]
    if len(record.plan.measured_at) > 1:
        notes.append("Times without a size are geometric means over all sizes that were measured.")
    if any(NO_NUMBER in row for row in rows):
        notes.append("– before: the target does not run the deconv as it was. – after: it stays as it is.")
    headers: tuple[str, ...] = ("site", "ms before", "ms after", "speed", "rounds")
    if kind == "estimated":
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return Table(f"Times on {record.plan.target}", headers, tuple(rows), tuple(notes), kind)


def _row(before: Measurement | None, after: Measurement) -> tuple[Cell, ...]:
    if after is before:
        return milliseconds(before), NO_NUMBER, NO_NUMBER, after.rounds
    return milliseconds(before), milliseconds(after), times_of(sites.gain(before, after)), after.rounds


def _work_table(record: RunRecord) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (each.site, Unbroken(each.deconv.describe()), count(each.zero_insert), count(each.native), count(each.chosen))
        for each in record.work
    ]
    total = [sum(getattr(each, name) for each in record.work) for name in ("zero_insert", "native", "chosen")]
    if len(rows) > 1:
        rows.append(("all deconvs", "", *(count(each) for each in total)))
    notes = [
        "Multiply-accumulates (MACs), zeros included where the form computes with them. Fewer do not always mean "
        "faster: what a form moves, and how well the target runs it, count too."
    ]
    if any(None in (each.deconv.batch, *each.deconv.in_sizes) for each in record.work):
        notes.append("Sizes marked ? are open and count as 1; --input-shape sets them.")
    elif record.other_macs is not None:
        share = total[1] / (total[1] + record.other_macs)
        notes.append(f"Before, the deconvs were {share:.1%} of the model's {count(total[1] + record.other_macs)} MACs.")
    headers = ("site", "deconv", "zeros inserted", "as it was", "as it is now")
    return Table("Multiply-accumulates of each deconv", headers, tuple(rows), tuple(notes), "counted")


def _work_plot(works: Sequence[SiteWork]) -> Plot:
    groups = [BarGroup(_name(each.site, each.deconv), _work_bars(each)) for each in works]
    caption = "Multiply-accumulates of each deconv, before and after"
    return bars.plot(caption, groups, "counted", "millions of multiply-accumulates")


def _work_bars(work: SiteWork) -> tuple[Bar, ...]:
    changed = work.chosen != work.native
    named = [("before" if changed else "before and after", work.native, BEFORE)]
    named += [("after", work.chosen, AFTER)] if changed else []
    named.append(("zeros inserted", work.zero_insert, ZEROS))
    return tuple(Bar(name, number / 1e6, count(number), series) for name, number, series in named)


def _name(site: str, deconv: Deconv) -> str:
    return f"{site}  {deconv.describe()}"
