"""The record of a conversion as a page: was it exact, how much faster is it, what was done to which deconv and why."""

from __future__ import annotations

from pathlib import PurePath

from splitdeconv.report import gains, proof, run, sites
from splitdeconv.report.numbers import NO_NUMBER, count, number_of
from splitdeconv.report.page import (
    Badge,
    Cell,
    Code,
    Figure,
    Figures,
    Note,
    Page,
    Section,
    Table,
    Tone,
    Unbroken,
)
from splitdeconv.results import times
from splitdeconv.results.bench import NATIVE
from splitdeconv.results.plan import Choice
from splitdeconv.results.record import RunRecord, TurnedSite

NOT_TIMED = "not timed: it may be slower than the original where it runs; a measured --target tells"


def page(record: RunRecord) -> Page:
    """The page of one conversion, also of one that failed or left everything as it was.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    sections = [
        _sites(record),
        gains.section(record),
        proof.section(record),
        _forms(record),
        run.section(record.model, record.output, record.environments, record.provenance),
    ]
    name = PurePath(record.model).name
    return Page(_title(name, record), _lead(record), tuple(each for each in sections if each), (_figures(record),))


def rewritten(record: RunRecord) -> list[Choice]:
    """The sites that do not stay as they are."""
    return [choice for choice in record.plan.choices if choice.chosen != NATIVE]


def _failed(record: RunRecord) -> bool:
    """Whether the proof failed, so that no model was written."""
    return record.verdict is not None and not record.verdict.passed


def _title(name: str, record: RunRecord) -> str:
    if _failed(record):
        return f"{name}: conversion failed, nothing was written"
    done = rewritten(record)
    if not done and record.is_changed:
        return f"{name}: changed for {record.plan.target} as asked for"
    if not done:
        return f"{name}: unchanged"
    return f"{name}: {number_of(len(done), 'deconv')} rewritten for {record.plan.target}"


def _lead(record: RunRecord) -> str:
    verdict, done = record.verdict, rewritten(record)
    if verdict is not None and not verdict.passed:
        return f"The rewritten model is not equal to the original, so no model was written: {verdict.worst()}."
    if record.is_changed and not done:
        return f"{_prepared_in_words(record)} {_gain_in_words(record)}"
    if not done:
        return f"Nothing was rewritten, and the model goes out as it came in. {_why_unchanged(record)}"
    found = number_of(len(record.plan.choices) + len(record.skipped), "deconv")
    sentence = f"{len(done)} of {found} rewritten as ordinary convolutions and {proof.in_words(record)}."
    return " ".join(filter(None, (sentence, _prepared_in_words(record), _gain_in_words(record))))


def turned_in_words(turned: TurnedSite) -> str:
    """What a sub-pixel convolution is now, with the times of both."""
    was, now = " and ".join(turned.operators), turned.deconv.describe()
    gain = times.comparison(turned.after, turned.before)
    return f"'{turned.site}' was {was}, {turned.before.median_ms:.4g} ms; as the deconv {now}: {gain}"


def _prepared_in_words(record: RunRecord) -> str:
    """What was done before the deconvs were rewritten."""
    turned = number_of(len(record.turned), "sub-pixel convolution")
    sentences = [f"{turned} became a transposed one, where that is faster."] if record.turned else []
    return " ".join([*sentences, *([_folded_in_words(record)] if record.folded else [])])


def _folded_in_words(record: RunRecord) -> str:
    operators = sum(len(each.operators) for each in record.folded)
    where = (
        f"{number_of(operators, 'operator')} became part of the weights of {number_of(len(record.folded), 'deconv')}"
    )
    whole = record.whole
    native = whole.folded if whole else None
    gain = "" if whole is None or native is None else f"; that alone: {times.comparison(native, whole.before)}"
    return f"{where}, proved to the noise bound and not bit for bit{gain}."


def _why_unchanged(record: RunRecord) -> str:
    if record.whole is not None and not record.whole.kept:
        return (
            f"The rewritten model was {times.comparison(record.whole.after, record.whole.before)}: not faster beyond "
            "the noise, so it was taken back."
        )
    if not record.plan.choices:
        return "It has no deconv that can be rewritten."
    return "No other form of its deconvs is faster, or they were to stay as they are; the table below has the reasons."


def _gain_in_words(record: RunRecord) -> str:
    whole, target = record.whole, record.plan.target
    if whole is not None and not whole.kept:
        return (
            f"With all forms that were planned the whole model: {times.comparison(whole.after, whole.before)}, not "
            "faster beyond the noise; only what was asked for by name was kept."
        )
    if whole is not None:
        figures = times.comparison(whole.after, whole.before)
        mean = f" (mean of {len(sizes)} sizes)" if (sizes := whole.before.sizes_ms) else ""
        before = f"{whole.before.median_ms:.4g} ms{mean}"
        return f"On {target} the whole model took {before}; now {figures}, {whole.after.kind}."
    if not gains.timed(record):
        rule = "The forms were chosen by rule and not timed; the model may be slower than the original where it runs."
        return rule if target == "generic" else "Nothing was timed."
    return "The whole model was not timed; the notes say why."


def _figures(record: RunRecord) -> Figures:
    found = [proof.figure(record), *_speed(record), *_work(record)]
    done, skipped = len(rewritten(record)), len(record.skipped)
    total = len(record.plan.choices) + skipped
    stay = total - done - skipped
    details = [f"{stay} stay as they are" if stay > 1 else "1 stays as it is"] if stay else []
    details += [f"{skipped} cannot be rewritten"] if skipped else []
    label = "Deconvs tried, none written" if _failed(record) else "Deconvs rewritten"
    found.append(Figure(label, f"{done} of {total}", ", ".join(details)))
    return Figures(tuple(found))


def _speed(record: RunRecord) -> list[Figure]:
    found = []
    if record.whole is not None:
        before, after = record.whole.before, record.whole.after
        taken_back = "" if record.whole.kept else "; taken back"
        won = times.rounds_won(after, before) or f"{before.median_ms:.4g} ms → {after.median_ms:.4g} ms"
        detail = f"{won}{taken_back}"
        ratio = times.ratio(before, after)
        tone: Tone = "warn" if record.whole.kept and ratio < 1 else "plain"
        found.append(Figure("Whole model, speed", f"{ratio:.2f}×", detail, tone, after.kind))
    timed = gains.timed(record)
    if any(after is not before for _, before, after in timed):
        before_ms = sum(before.median_ms for _, before, _ in timed)
        after_ms = sum(after.median_ms for _, _, after in timed)
        detail = f"{before_ms:.4g} ms → {after_ms:.4g} ms, each timed alone"
        found.append(Figure("Deconvs, speed", f"{before_ms / after_ms:.2f}×", detail, kind=timed[0][2].kind))
    return found


def _work(record: RunRecord) -> list[Figure]:
    if not record.work:
        return []
    native, chosen = (sum(getattr(each, name) for each in record.work) for name in ("native", "chosen"))
    inserted = sum(each.zero_insert for each in record.work)
    detail = f"{count(native)} as they were, {count(inserted)} with zeros inserted"
    return [Figure("Multiply-accumulates of the deconvs", count(chosen), detail, kind="counted")]


def _sites(record: RunRecord) -> Section:
    proved = proof.by_site(record)
    rows: list[tuple[Cell, ...]] = [
        (choice.site, Unbroken(choice.deconv.describe()), Code(str(choice.chosen)), choice.reason, proved[choice.site])
        for choice in record.plan.choices
    ]
    rows.extend(
        (each.site, NO_NUMBER, "left alone", f"{each.reason} (in {each.where})", Badge("not rewritten"))
        for each in record.skipped
    )
    title, has = ("What was tried", "was tried") if _failed(record) else ("What was done", "it has now")
    folds = tuple(Note(f"Folded into '{each.site}': {', '.join(each.operators)}.") for each in record.folded)
    folds = (*(Note(f"{turned_in_words(each)}.") for each in record.turned), *folds)
    notes = (*folds, *(Note(note) for note in record.notes))
    if not rows:
        return Section(title, "The model has no deconv.", notes)
    headers = ("site", "deconv", "form", "why", "result")
    caption = f"Every deconv of the model, the form that {has}, and why"
    return Section(title, "", (Table(caption, headers, tuple(rows), (sites.GEOMETRY,)), *notes))


def _forms(record: RunRecord) -> Section | None:
    if not record.plan.choices:
        return None
    blocks = [
        sites.every_form(choice.site, choice.deconv, choice.options, choice.refusals, choice.chosen)
        for choice in record.plan.choices
    ]
    text = "For each deconv: its geometry, every form that applies with its figures, and why the others do not apply."
    return Section("Every form considered", text, (*blocks, sites.forms_in_words()))
