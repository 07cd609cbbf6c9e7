"""The record of an inspection as a page: what deconvs there are, what they cost in each form, what is said of them."""

from __future__ import annotations

from pathlib import PurePath

from splitdeconv.report import bars, run, sites
from splitdeconv.report.bars import Bar, BarGroup
from splitdeconv.report.numbers import NO_NUMBER, count, number_of
from splitdeconv.report.page import Block, Cell, Code, Figure, Figures, Note, Page, Section, Table, Unbroken
from splitdeconv.results.plan import Choice
from splitdeconv.results.record import Inspected, RunRecord

NUMBERS = ("MACs", "NZP", "SD", "fewest")
_RUNS = "runs it"
_NUMBERS_IN_WORDS = (
    "Multiply-accumulates: as it is (MACs), with zeros inserted (NZP), split as in the paper (SD), and in the form "
    "with the fewest."
)
_SERIES = {"as it is": 2, "zeros inserted": 1, "fewest": 0}


def page(record: RunRecord) -> Page:
    """The page of one inspection.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    made_by = run.section(record.model, None, record.environments, record.provenance)
    found = number_of(len(record.plan.choices), "deconv")
    title = f"{PurePath(record.model).name}: {found} that can be rewritten"
    return Page(title, sums(record), (_sites(record), *_forms(record), made_by), (_figures(record),))


def sums(record: RunRecord) -> str:
    """What all deconvs cost together, and their share of the model."""
    deconvs = [choice.deconv for choice in record.plan.choices]
    if not deconvs:
        return "no deconv that can be rewritten"
    native = sum(deconv.native_macs() for deconv in deconvs)
    inserted = sum(deconv.zero_insert_macs() for deconv in deconvs)
    split = sum(deconv.split_macs() for deconv in deconvs)
    text = (
        f"{number_of(len(deconvs), 'deconv')}: {count(native)} MACs; with zeros inserted (NZP) {count(inserted)}, "
        f"split (SD) {count(split)}."
    )
    sets = "--input-shape sets them" if inspected(record).is_open else "the model computes them at run time"
    if any(None in deconv.in_sizes for deconv in deconvs):
        return text + f" Sizes marked ? count as 1; {sets}."
    other = record.other_macs
    if other is None:
        return text + f" The rest of the model has sizes that are not known; {sets}."
    return text + f" The deconvs are {native / (native + other):.1%} of the model's {count(native + other)} MACs."


def possible(record: RunRecord) -> list[str]:
    """What options would do besides."""
    told = inspected(record)
    sites_of: dict[str, list[str]] = {}
    for each in told.foldable:
        sites_of.setdefault(", ".join(each.operators), []).append(f"'{each.site}'")
    folds = [f"--fold puts {operators} into the weights of {', '.join(names)}" for operators, names in sites_of.items()]
    turns = told.turnable.items()
    return [*folds, *(f"--to-deconv tries '{name}' as a deconv: {deconv.describe()}" for name, deconv in turns)]


def macs(choice: Choice) -> tuple[int, int, int, int]:
    """Multiply-accumulates of one deconv, as in ``NUMBERS``; the original is one of its forms."""
    native = choice.deconv.native_macs()
    fewest = min([native, *(option.cost.macs for option in choice.options)])
    return native, choice.deconv.zero_insert_macs(), choice.deconv.split_macs(), fewest


def inspected(record: RunRecord) -> Inspected:
    """What the record tells beside its plan."""
    return record.inspected or Inspected()


def answers(record: RunRecord, choice: Choice) -> list[str]:
    """What each target that was asked says of a deconv as it is."""
    return [each.get(choice.site, NO_NUMBER) or _RUNS for each in inspected(record).answers.values()]


def _sites(record: RunRecord) -> Section:
    told = inspected(record)
    rows: list[tuple[Cell, ...]] = []
    for choice in record.plan.choices:
        then = " ".join(told.epilogues.get(choice.site, ()))
        name, form = (choice.site, Unbroken(choice.deconv.describe())), Code(str(choice.chosen))
        rows.append((*name, *map(count, macs(choice)), then, form, *answers(record, choice)))
    blocks: list[Block] = []
    if rows:
        headers = ("site", "deconv", *NUMBERS, "then", "generic choice", *told.answers)
        notes = (_NUMBERS_IN_WORDS, "Then: the operators behind it that a rewriting moves.", sites.GEOMETRY)
        blocks = [_plot(record), Table("Every deconv that can be rewritten", headers, tuple(rows), notes, "counted")]
    if record.skipped:
        left = tuple((each.site, each.where, each.reason) for each in record.skipped)
        blocks.append(Table("Deconvs that stay", ("site", "in", "why"), left))
    return Section("What there is", "", (*blocks, *(Note(line) for line in possible(record))))


def _plot(record: RunRecord) -> Block:
    groups = []
    for choice in record.plan.choices:
        native, inserted, _, fewest = macs(choice)
        named = zip(_SERIES.items(), (native, inserted, fewest), strict=True)
        drawn = tuple(Bar(name, number / 1e6, count(number), series) for (name, series), number in named)
        groups.append(BarGroup(f"{choice.site}  {choice.deconv.describe()}", drawn))
    caption = "Multiply-accumulates of each deconv"
    return bars.plot(caption, groups, "counted", "millions of multiply-accumulates")


def _forms(record: RunRecord) -> list[Section]:
    if not record.plan.choices:
        return []
    blocks = [
        sites.every_form(choice.site, choice.deconv, choice.options, choice.refusals, choice.chosen)
        for choice in record.plan.choices
    ]
    text = "For each deconv: its geometry, every form that applies, and why the others do not apply."
    return [Section("Every form", text, (*blocks, sites.forms_in_words()))]


def _figures(record: RunRecord) -> Figures:
    choices = record.plan.choices
    left = f"{len(record.skipped)} cannot be" if record.skipped else ""
    found = [Figure("Deconvs that can be rewritten", str(len(choices)), left)]
    if choices:
        native, inserted, _, fewest = (sum(each) for each in zip(*map(macs, choices), strict=True))
        detail = f"{count(inserted)} with zeros inserted, {count(fewest)} in the forms with the fewest"
        found.append(Figure("Multiply-accumulates of the deconvs", count(native), detail, kind="counted"))
    if choices and record.other_macs is not None:
        share = f"{native / (native + record.other_macs):.1%}"
        found.append(Figure("Share of the model", share, f"of {count(native + record.other_macs)}", kind="counted"))
    else:
        found.append(Figure("Share of the model", NO_NUMBER, "sizes are not known" if choices else ""))
    return Figures(tuple(found))
