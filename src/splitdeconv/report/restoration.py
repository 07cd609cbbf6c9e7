"""The record of a restoration as a page: which deconvs are as they were, which are not and why, and the proof."""

from __future__ import annotations

from pathlib import PurePath

from splitdeconv.report import proof, run, sites
from splitdeconv.report.numbers import number_of
from splitdeconv.report.page import Badge, Cell, Figure, Figures, Note, Page, Section, Table, Unbroken
from splitdeconv.results.record import RunRecord

_COMPARED = "The outputs of the restored model must be those of the converted one, but for the noise of the arithmetic."


def page(record: RunRecord) -> Page:
    """The page of one restoration, also of one that failed."""
    name, done = PurePath(record.model).name, number_of(len(record.plan.choices), "deconv")
    title = f"{name}: {'restoration failed, nothing was written' if _failed(record) else f'{done} restored'}"
    made_by = run.section(record.model, record.output, record.environments, record.provenance)
    proved = proof.section(record, _COMPARED)
    return Page(title, _lead(record), (_sites(record), proved, made_by), (_figures(record),))


def _failed(record: RunRecord) -> bool:
    """Whether the proof failed, so that no model was written."""
    return record.verdict is not None and not record.verdict.passed


def _lead(record: RunRecord) -> str:
    verdict, done, left = record.verdict, len(record.plan.choices), len(record.skipped)
    if verdict is not None and not verdict.passed:
        return f"The restored model is not equal to the converted one, so none was written: {verdict.worst()}."
    proved = "written without being proved equal"
    if verdict is not None and not verdict.skipped:
        proved = "proved equal to the converted model" if verdict.outputs else "not compared; the notes say why"
    return f"{done} of {number_of(done + left, 'deconv')} as they were, with the bits of their weights; {proved}."


def _sites(record: RunRecord) -> Section:
    done = Badge("not written", "bad") if _failed(record) else Badge("restored", "good")
    rows: list[tuple[Cell, ...]] = [
        (each.site, Unbroken(each.deconv.describe()), each.reason, done) for each in record.plan.choices
    ]
    rows.extend((each.site, "", f"{each.reason} (in {each.where})", Badge("stays")) for each in record.skipped)
    caption = "Every deconv that a conversion has rewritten, and what became of it"
    table = Table(caption, ("site", "deconv", "why", "result"), tuple(rows), (sites.GEOMETRY,))
    return Section("What was done", "", (table, *(Note(note) for note in record.notes)))


def _figures(record: RunRecord) -> Figures:
    done, left = len(record.plan.choices), len(record.skipped)
    stay = f"{left} stay" + ("s" if left == 1 else "") if left else ""
    return Figures((_verdict(record), Figure("Deconvs restored", f"{done} of {done + left}", stay)))


def _verdict(record: RunRecord) -> Figure:
    verdict, title = record.verdict, "Equal to the converted model?"
    if verdict is None or verdict.skipped:
        return Figure(title, "not verified", verdict.skipped if verdict else "", "warn")
    if not verdict.passed:
        return Figure(title, "NO", "nothing was written", "bad")
    if not verdict.outputs:
        return Figure(title, "not compared", "the notes say why", "warn")
    return Figure(title, "proved", f"{number_of(len(verdict.outputs), 'output')} within the noise", "good")
