"""The report of a run: CSV and SVG files of every table and chart, and one page with all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from splitdeconv.errors import InputError
from splitdeconv.files import make_folder, write_text
from splitdeconv.lab.paper.published import all_published
from splitdeconv.lab.paper.reproduce import Finished
from splitdeconv.report import bars, page, plots
from splitdeconv.report.numbers import NO_NUMBER

REPORT = "report.html"
TABLES, CHARTS = "tables", "charts"
TITLE = "Split deconvolution: the paper's tables and figures made again"


def check() -> None:
    """Before minutes of measuring, that the report can be written.

    Raises:
        MissingExtraError: a package of the extra ``report`` is missing.
    """
    plots.check()
    page.check()


def write(out: Path, finished: Sequence[Finished], *, quick: bool) -> Path:
    """Write everything; returns the page.

    Raises:
        OutputError: a file cannot be written.
        InputError: a picture of an earlier run is gone.
    """
    for folder in (out / TABLES, out / CHARTS):
        make_folder(folder)
    for part in finished:
        for name, table in {**part.result.tables, **part.result.files}.items():
            write_text(out / TABLES / f"{name}.csv", table.csv())
        for name, chart in part.result.charts.items():
            plots.save(bars.figure(chart.groups, chart.axis), out / CHARTS / f"{name}.svg")
    sections = (*(_section(out, part) for part in finished), _published())
    report = out / REPORT
    first = _first({name: table for part in finished for name, table in part.result.tables.items()})
    page.write_page(page.Page(TITLE, _lead(finished, quick=quick), sections, first), report)
    return report


def _lead(finished: Sequence[Finished], *, quick: bool) -> str:
    parts = ", ".join(each.part.name for each in finished)
    effort = "The run was quick: measured times have fewer rounds and forms than those of a full run. " if quick else ""
    return (
        "arXiv 1907.01773, Accelerating Generative Neural Networks on Unmodified Deep Learning Processors: ours beside "
        f"the paper's. {effort}Every table says whether its numbers were counted, estimated or measured; at the end of "
        f"each part stands what made them, and where. Parts: {parts}."
    )


def _first(tables: Mapping[str, page.Table]) -> tuple[page.Block, ...]:
    """The few figures that are looked for first, as far as they are there."""
    figures: list[page.Figure] = []
    if (ratios := tables.get("over-nzp")) is not None:
        (means,) = (row for row in ratios.texts() if row[0] == "geometric mean")
        detail = "chosen plan over NZP, deconv parts, geometric mean"
        for title, mean in list(zip(ratios.titles(), means, strict=True))[1:]:
            if mean != NO_NUMBER:
                figures.append(page.Figure(title, str(mean), detail, kind=ratios.kind))
    if (pictures := tables.get("ssim")) is not None:
        found = [row[2] for row in pictures.rows if row[1] == "SD" and isinstance(row[2], float)]
        if found:
            exact = "exactly 1" if min(found) == 1 else f"{min(found):.6f}"
            figures.append(page.Figure("SSIM of SD's pictures", exact, "in float64", kind=pictures.kind))
    return (page.Figures(tuple(figures)),) if figures else ()


def _section(out: Path, part: Finished) -> page.Section:
    found = part.result
    blocks: list[page.Block] = [
        replace(table, notes=(*table.notes, f"In full: {TABLES}/{name}.csv.")) for name, table in found.tables.items()
    ]
    drawn = [chart.plot() for chart in found.charts.values()]
    blocks += [page.Columns(tuple(drawn[n : n + 2])) for n in range(0, len(drawn), 2)]
    blocks += [_pictures(out, caption, files) for caption, files in found.pictures.items()]
    blocks += [page.Note(note) for note in found.notes]
    blocks += [page.Note(reason, "warn") for reason in part.left_out]
    if part.steps:
        blocks.append(_trace(part))
    return page.Section(part.part.title, part.part.text, tuple(blocks))


def _pictures(out: Path, caption: str, files: Mapping[str, str]) -> page.Pictures:
    pictures = []
    for label, file in files.items():
        try:
            pictures.append(page.Picture(label, (out / file).read_bytes()))
        except OSError as error:
            raise InputError(f"{out / file}: cannot be read ({error.strerror}); make it again with --fresh") from None
    return page.Pictures(caption, tuple(pictures))


def _trace(part: Finished) -> page.Details:
    """Which command, when, for how long, and in which environment."""
    rows = tuple(
        (
            step.step,
            step.kind,
            page.Code(step.command),
            step.started,
            f"{step.seconds:.1f} s",
            "quick" if step.quick else "full",
        )
        for step in part.steps
    )
    commands = page.Table(
        "What made these numbers", ("step", "kind", "the same by hand", "started (UTC)", "took", "effort"), rows
    )
    facts: dict[str, list[str]] = {}
    for step in part.steps:
        for name, text in step.environment.items():
            if text not in facts.setdefault(name, []):
                facts[name].append(text)
    environment = page.Facts(tuple((name, " / ".join(texts)) for name, texts in facts.items()))
    return page.Details("Commands and environment", (commands, environment))


def _published() -> page.Section:
    """Everything that the paper publishes and this report uses, with source and status."""
    rows = tuple(
        (
            figure.title,
            ", ".join(f"{key} {value:g}" for key, value in figure.values.items()) or "–",
            figure.unit,
            figure.status,
            figure.source,
        )
        for figure in all_published().values()
    )
    table = page.Table("The paper's and its authors' figures", ("figure", "values", "unit", "status", "source"), rows)
    text = (
        "Confirmed figures were read in their source. Recollected ones were not, and stand here as assumptions. "
        "Of unknown "
        "ones the value is not known here, so nothing stands beside ours."
    )
    return page.Section("Published figures", text, (page.Details("All figures with their sources", (table,)),))
