"""Records on the terminal, and as text: the tables and lines that a command prints."""

from __future__ import annotations

from rich.console import Console

from splitdeconv.report import gains, inspection, listing
from splitdeconv.report.bench import captured_in_words
from splitdeconv.report.conversion import NOT_TIMED, rewritten, turned_in_words
from splitdeconv.report.listing import Listing
from splitdeconv.report.numbers import NO_NUMBER, count, milliseconds, times_of
from splitdeconv.results.bench import EQUAL_WORK, NATIVE, ZERO_INSERT, BenchRecord, LayerTimes, ModelTimes
from splitdeconv.results.plan import Choice, Skipped
from splitdeconv.results.record import RunRecord, SiteWork
from splitdeconv.results.verdict import Verdict

TIMES = ("native ms", "zero_insert ms", "equal-work ms", "best ms")
NUMBERS = (*TIMES, "over native", "over zero_insert", "of equal-work")


def run(out: Console, record: RunRecord) -> None:
    """What ``inspect``, ``convert`` or ``restore`` says of its run."""
    (_inspection if record.command == "inspect" else _conversion)(out, record)


def _inspection(out: Console, record: RunRecord) -> None:
    """The table, the sums, and what is left alone."""
    if record.plan.choices:
        told = inspection.inspected(record)
        headers = ("site", "deconv", *inspection.NUMBERS, "then", "generic choice", *told.answers)
        rows = [_inspected_row(record, choice) for choice in record.plan.choices]
        listing.show(out, Listing(headers, rows, inspection.NUMBERS, headers[-1] if told.answers else ""))
    for line in (inspection.sums(record), *inspection.possible(record)):
        listing.say(out, line)
    for skipped in record.skipped:
        listing.say(out, _skipped_in_words(skipped))


def _inspected_row(record: RunRecord, choice: Choice) -> tuple[str, ...]:
    then = " ".join(inspection.inspected(record).epilogues.get(choice.site, ()))
    names, macs = (then, str(choice.chosen)), map(count, inspection.macs(choice))
    return choice.site, choice.deconv.describe(), *macs, *names, *inspection.answers(record, choice)


def _skipped_in_words(skipped: Skipped) -> str:
    """A deconv that is left alone, where it is, and why."""
    return f"skipped '{skipped.site}' ({skipped.where}): {skipped.reason}"


def _conversion(out: Console, record: RunRecord) -> None:
    """The target where the user named none, the table of layers, the proof, and what the user should know."""
    if record.target_reason:
        listing.say(out, f"target: {record.plan.target} ({record.target_reason})")
    if record.plan.choices:
        counted = {each.site: each for each in record.work}
        rows = [_site_row(choice, counted[choice.site]) for choice in record.plan.choices]
        headers = ("site", "deconv", "lowering", "MACs", "convs", "why")
        listing.show(out, Listing(headers, rows, ("MACs", "convs"), "why"))
    if sizes := gains.size_rows(record):
        listing.show(out, Listing(("model", "before", "after"), sizes, ("before", "after")))
    for skipped in record.skipped:
        listing.say(out, _skipped_in_words(skipped))
    for turned in record.turned:
        listing.say(out, turned_in_words(turned))
    for each in record.folded:
        listing.say(out, f"folded into '{each.site}': {', '.join(each.operators)}")
    for note in record.notes:
        listing.say(out, f"note: {note}")
    for line in proof_lines(record.verdict) if record.verdict is not None else ():
        listing.say(out, line)
    if record.output:
        listing.say(out, f"written: {record.output}")
    if record.plan.target == "generic" and rewritten(record):
        listing.say(out, NOT_TIMED)


def _site_row(choice: Choice, work: SiteWork) -> tuple[str, ...]:
    """The sizes are those that were counted with, which a run may have told."""
    convs = next((str(each.cost.convs) for each in choice.options if each.candidate == choice.chosen), "")
    return choice.site, work.deconv.describe(), str(choice.chosen), count(work.chosen), convs, choice.reason


def proof_lines(verdict: Verdict) -> list[str]:
    """What was proved, and loudly what was not."""
    if verdict.skipped:
        return [
            f"NOT VERIFIED: {verdict.skipped}" if "user" in verdict.skipped else f"nothing to verify: {verdict.skipped}"
        ]
    folds = [verdict.folded_in_words()] if verdict.folds else []
    if not verdict.proofs:
        return [*folds, *_output_lines(verdict)]
    found, runner = f"{verdict.bit_equal()} of {len(verdict.proofs)} sites bit-equal", verdict.proofs[0].where
    proved = f"verified: {found} to the definition on {runner}{verdict.rounded_in_words()}"
    return [*folds, proved, *_output_lines(verdict)]


def _output_lines(verdict: Verdict) -> list[str]:
    """What the outputs of the whole model say."""
    if not verdict.outputs:
        return [f"OUTPUTS NOT COMPARED: {note}" for note in verdict.notes]
    outputs = f"{len(verdict.outputs)} output{'s' if len(verdict.outputs) > 1 else ''}"
    proved = f"verified: {outputs} within the original's noise; worst: {verdict.worst()}"
    return [proved, *(f"note: {note}" for note in verdict.notes)]


def benchmark(out: Console, record: BenchRecord, *, every: bool = False) -> None:
    """The table of layers, the ratios, the whole model, and what the user should know."""
    where = record.environment
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    threads = f"{where.threads} threads" if where.threads else "its own number of threads"
    listing.say(out, f"{record.source} on {where.target} ({versions}; {where.processor}; {threads})")
    if record.layers:
        listing.show(out, _layers(record))
    for line in summary_lines(record):
        listing.say(out, line)
    if every:
        for layer in record.layers:
            _show_every_form(out, layer)
    for skipped in record.skipped:
        listing.say(out, _skipped_in_words(skipped))
    for note in record.notes:
        listing.say(out, f"note: {note}")


def _layers(record: BenchRecord) -> Listing:
    headers = ("layer", "deconv", *NUMBERS, "best lowering", "converted")
    return Listing(headers, [_row(layer) for layer in record.layers], NUMBERS)


def _row(layer: LayerTimes) -> tuple[str, ...]:
    best = layer.best
    times = [milliseconds(layer.time(each)) for each in (NATIVE, ZERO_INSERT, EQUAL_WORK)]
    name, chosen = (layer.name, layer.deconv.describe()), str(layer.chosen)
    if best is None:
        return (*name, *times, *[NO_NUMBER] * 4, NO_NUMBER, chosen)
    ratios = (layer.ratio(NATIVE, best), layer.ratio(ZERO_INSERT, best), layer.ratio(best, EQUAL_WORK))
    same = "same" if layer.chosen == best else chosen
    return (*name, *times, milliseconds(layer.time(best)), *map(times_of, ratios), str(best), same)


def _show_every_form(out: Console, layer: LayerTimes) -> None:
    """All forms of one layer, fastest first, and those that do not apply."""
    timed = [(option, option.time) for option in layer.options if option.time is not None]
    rows = [
        (
            str(option.candidate),
            f"{time.median_ms:.4g}",
            f"{time.low_ms:.4g}–{time.high_ms:.4g}",
            str(time.rounds),
            times_of(layer.ratio(NATIVE, option.candidate)),
            count(option.cost.macs),
        )
        for option, time in sorted(timed, key=lambda pair: pair[1].median_ms)
    ]
    numbers = ("ms", "rounds", "over native", "MACs")
    out.print()
    listing.say(out, f"{layer.name}  {layer.deconv.describe()}")
    if rows:
        listing.show(out, Listing(("form", "ms", "quartiles", "rounds", "over native", "MACs"), rows, numbers))
    for refusal in layer.refusals:
        listing.say(out, f"{refusal.candidate} does not apply: {refusal.reason}")


def summary_lines(record: BenchRecord) -> list[str]:
    """Geometric means with the worst layer, and the whole model."""
    lines = [
        f"{each.title}: geometric mean {each.mean:.2f}× of {each.count}, worst {each.worst:.2f}× ({each.layer})"
        for each in record.summaries()
    ]
    return lines if record.model is None else [*lines, _model_line(record.model)]


def _model_line(model: ModelTimes) -> str:
    if not model.times:
        return f"the whole model was not timed: {model.reason}"
    times = ", ".join(f"{name} {milliseconds(time, 'ms')}" for name, time in model.times.items())
    ratios = f"native / converted {times_of(model.ratio('native', 'converted'))}"
    if "zero_insert" in model.times:
        ratios += f", zero_insert / converted {times_of(model.ratio('zero_insert', 'converted'))}"
    return f"whole model: {times}; {ratios}; {captured_in_words(model)}"
