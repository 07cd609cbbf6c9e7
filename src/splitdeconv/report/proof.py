"""What was proved of a conversion, and loudly what was not."""

from __future__ import annotations

from splitdeconv.report.numbers import number_of
from splitdeconv.report.page import Badge, Block, Cell, Figure, Note, Section, Table
from splitdeconv.results.bench import NATIVE
from splitdeconv.results.record import RunRecord
from splitdeconv.results.verdict import OutputCheck, SiteProof, Verdict

EXPLAINED = (
    "A rewritten deconv is bit-equal when it gives exactly the bits of the definition on integer-valued tensors, where "
    "every order of summation gives the same result; behind an interpolation, whose places and weights runtimes round, "
    "it must be equal within these roundings. The outputs of the whole model, on real-valued inputs, must stay "
    "within a small multiple of the original's own rounding error."
)
FOLDED = (
    "Operators around a deconv became part of its weights, which were rounded once: that is not bit-equal. Each such "
    "site must be as near to float64 as the site and these operators are. Bit-equal then means: with folded weights."
)


def in_words(record: RunRecord) -> str:
    """What was proved of a rewritten model that passed."""
    verdict = record.verdict
    if verdict is None or verdict.skipped:
        return "written without being proved equal"
    if not verdict.outputs:
        return "each proved equal alone; the whole model's outputs were not compared"
    return "proved equal to the original" + (", with notes under Verification" if verdict.notes else "")


def figure(record: RunRecord) -> Figure:
    """The verdict, to be seen first."""
    verdict, title = record.verdict, "Equal to the original?"
    if not record.is_changed:
        return Figure(title, "unchanged", "nothing was rewritten", "good")
    if verdict is None or verdict.skipped:
        return Figure(title, "not verified", verdict.skipped if verdict else "", "warn")
    detail = f"{verdict.bit_equal()} of {number_of(len(verdict.proofs), 'site')} bit-equal{verdict.rounded_in_words()}"
    detail += f"; {number_of(len(verdict.folds), 'folded site')} within the noise" if verdict.folds else ""
    if not verdict.passed:
        return Figure(title, "NO", f"{detail}; nothing was written", "bad")
    if not verdict.outputs:
        return Figure(title, "each deconv is", f"{detail}; outputs of the whole model were not compared", "warn")
    detail += f"; {number_of(len(verdict.outputs), 'output')} within the noise"
    if verdict.notes:
        return Figure(title, "proved, with notes", detail, "warn")
    return Figure(title, "proved", detail, "good")


def by_site(record: RunRecord) -> dict[str, Badge]:
    """The verdict on each site in two words."""
    found = {}
    proofs = {} if record.verdict is None else {each.site: each for each in record.verdict.proofs}
    folds = {} if record.verdict is None else {each.name: each for each in record.verdict.folds}
    for choice in record.plan.choices:
        if choice.site in folds and folds[choice.site].passed:
            found[choice.site] = Badge("folded, within the noise", "good")
        elif choice.site in folds:
            found[choice.site] = Badge("folded, beyond the noise", "bad")
        elif choice.chosen == NATIVE and choice.site not in proofs:
            found[choice.site] = Badge("unchanged")
        elif choice.site not in proofs:
            found[choice.site] = Badge("not verified", "warn")
        else:
            found[choice.site] = _badge(proofs[choice.site])
    return found


def _badge(proof: SiteProof) -> Badge:
    if not proof.exact:
        return Badge("differs", "bad")
    return Badge("equal within roundings" if proof.rounded else "bit-equal", "good")


def section(record: RunRecord, explained: str = EXPLAINED) -> Section:
    """All checks with their figures, after a sentence on what is compared."""
    verdict = record.verdict
    if verdict is None or verdict.skipped:
        reason = verdict.skipped if verdict else "there is no verdict in the record"
        tone = "plain" if reason.startswith("nothing") else "warn"
        word = "Nothing had to be verified" if tone == "plain" else "NOT VERIFIED"
        return Section("Verification", "", (Note(f"{word}: {reason}.", "plain" if tone == "plain" else "warn"),))
    blocks: list[Block] = []
    if not verdict.passed:
        blocks.append(Note(f"NOT EQUAL: {verdict.worst()}. No model was written.", "bad"))
    if verdict.folds:
        blocks.append(Note(FOLDED))
        blocks.append(_errors("Each site with folded weights, on real-valued inputs", "site", verdict.folds))
    if verdict.proofs:
        blocks.append(_proofs(verdict))
    if verdict.sites:
        blocks.append(_errors("Each rewritten deconv alone, on real-valued inputs", "site", verdict.sites))
    if verdict.outputs:
        blocks.append(_errors("The whole model's outputs, on real-valued inputs", "output", verdict.outputs))
    lost = "" if verdict.outputs else "OUTPUTS NOT COMPARED: "
    blocks.extend(Note(f"{lost}{note}", "warn") for note in verdict.notes)
    return Section("Verification", explained, tuple(blocks))


def _proofs(verdict: Verdict) -> Table:
    headers: tuple[str, ...] = ("site", "result", "computed by", "difference")
    rows: list[tuple[Cell, ...]] = [(each.site, _badge(each), each.where, each.detail) for each in verdict.proofs]
    if all(each.exact for each in verdict.proofs):
        headers, rows = headers[:-1], [row[:-1] for row in rows]
    return Table("Each rewritten deconv against the definition", headers, tuple(rows))


def _errors(caption: str, name: str, checks: tuple[OutputCheck, ...]) -> Table:
    rows = tuple(
        (
            each.name,
            f"{each.before:.1e}",
            f"{each.after:.1e}",
            f"{each.bound:.1e}",
            Badge("within the bound", "good") if each.passed else Badge("beyond the bound", "bad"),
            each.against,
        )
        for each in checks
    )
    headers = (name, "error before", "error after", "allowed", "result", "against")
    return Table(caption, headers, rows, ("Errors are relative to the largest value.",), "measured")
