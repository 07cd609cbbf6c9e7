"""Pages of invented content: well formed, whole in themselves, and nothing of what they hold is lost."""

from __future__ import annotations

import re
import struct
import sys
import zlib
from pathlib import Path

import pytest

from splitdeconv.errors import MissingExtraError, OutputError, UsageError
from splitdeconv.report import page, plots
from splitdeconv.report.page import (
    Badge,
    Code,
    Column,
    Columns,
    Details,
    Facts,
    Figure,
    Figures,
    Note,
    Page,
    Picture,
    Pictures,
    Plot,
    Section,
    Table,
)
from tests.pages import parsed, words

HOSTILE = "gen/<script>alert(1)</script>/\"quoted\" & 'more'"


def one_pixel() -> bytes:
    """A PNG file."""

    def chunk(kind: bytes, held: bytes) -> bytes:
        return struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\x7f")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def drawn(text: str) -> str:
    with plots.drawing(200) as figure:
        panel = figure.subplots()
        panel.barh([0, 1], [1, 2], **plots.bar_style(1), label=text)
        panel.legend()
    return plots.to_svg(figure, f"two bars of {text}")


def full_page() -> Page:
    rows: tuple[tuple[page.Cell, ...], ...] = (
        (HOSTILE, "256→128 5×5/2 @8×8", "1.23 ±3%", 52_430_000, Badge("bit-equal", "good")),
        ("second", Code("split:union"), "–", 1.23456, Badge("differs", "bad")),
    )
    table = Table("What each site got", ("site", "form", "ms", "MACs", "proof"), rows, ("A note.",), "measured")
    blocks = (
        table,
        Columns((Plot("Time", drawn("bars"), "estimated"), Plot("Time again", drawn(HOSTILE)))),
        Details("All forms", (table, Facts((("command", Code("splitdeconv convert a b")),)))),
        Pictures("Side by side", (Picture("ours", one_pixel()), Picture("theirs", one_pixel()))),
        Note("Beware of this", "warn"),
    )
    figures = Figures((Figure("exact?", "yes", "2 of 2", "good"), Figure("faster", "2.4×", kind="measured")))
    sections = (Section("Sites", "One.\n\nTwo.", blocks), Section("Sites", "", (Note("Same title."),)))
    return Page(f"Report on {HOSTILE}", "It was exact.", sections, (figures,))


def test_a_page_is_well_formed_and_holds_everything() -> None:
    tree = parsed(page.html(full_page()))
    read = words(tree)
    for wanted in (HOSTILE, "It was exact.", "One.", "Two.", "1.23 ±3%", "52\u202f430\u202f000", "1.235", "A note.",
                   "measured", "estimated", "✓ bit-equal", "✗ differs", "splitdeconv convert a b", "All forms",
                   "! Beware of this", "Same title.", "ours", "2.4×"):  # fmt: skip
        assert " ".join(wanted.split()) in read, wanted
    assert len(list(tree.iter("caption"))) == 2
    assert {each.attrib["scope"] for each in tree.iter("th")} == {"col", "row"}
    assert len(list(tree.iter("img"))) == 2


def test_the_same_page_is_the_same_text() -> None:
    assert page.html(full_page()) == page.html(full_page())


def test_columns_of_numbers_align_right() -> None:
    tree = parsed(page.html(full_page()))
    table = next(tree.iter("table"))
    assert [header.attrib.get("class") for header in table.iter("th")][:5] == [None, None, "number", "number", None]


def test_numbers_have_their_unit_on_the_page_and_all_digits_in_the_file() -> None:
    headers = ("name", Column("time", "ms", 1), Column("ratio", "×"), Column("count"))
    table = Table("A table", headers, (("a, b", 1.26, 2.0, 1000), ("c", None, None, None)))
    assert table.texts() == (("a, b", "1.3 ms", "2.00×", "1,000"), ("c", "–", "–", "–"))
    assert table.csv() == 'name,time [ms],ratio [×],count\n"a, b",1.26,2.0,1000\nc,,,\n'
    tree = parsed(page.html(Page("", "", (Section("", "", (table,)),))))
    shown = [cell.text for cell in tree.iter("td")]
    assert shown == ["1.3 ms", "2.00×", "1,000", "–", "–", "–"]
    assert [header.attrib.get("class") for header in tree.iter("th")][:4] == [None, "number", "number", "number"]


def test_plots_keep_their_text_and_follow_the_page() -> None:
    svg = drawn("bars")
    assert ">bars</text>" in svg
    assert "var(--series-2)" in svg
    assert "#d55e00" not in svg
    assert "<pattern" in svg, "told apart without colour"


@pytest.mark.parametrize("suffix", plots.KINDS)
def test_plots_are_also_files(suffix: str, tmp_path: Path) -> None:
    with plots.drawing(100) as figure:
        figure.subplots()
    plots.save(figure, tmp_path / f"plot{suffix}")
    assert (tmp_path / f"plot{suffix}").stat().st_size > 500
    with pytest.raises(OutputError, match="cannot be written"):
        plots.save(figure, tmp_path / "missing" / f"plot{suffix}")


def test_a_plot_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UsageError, match=r"wanted a plot file that ends in \.svg, \.png, \.pdf"):
        plots.check(Path("plot.gif"))


def test_a_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    page.write_page(full_page(), tmp_path / "report.html")
    assert parsed((tmp_path / "report.html").read_text(encoding="utf-8")) is not None
    with pytest.raises(OutputError, match="cannot be written"):
        page.write_page(full_page(), tmp_path / "missing" / "report.html")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["report.html"]


@pytest.mark.parametrize(("package", "ask"), [("jinja2", page.check), ("matplotlib", plots.check)])
def test_a_missing_package_is_one_clear_line(package: str, ask: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=r"needs .*: pip install 'splitdeconv\[report\]'"):
        ask()  # type: ignore[operator]


def test_long_names_are_shortened_in_the_middle() -> None:
    name = "generator/block7/upsample/ConvTranspose_12345"
    assert plots.shortened(name, 20) == "genera…anspose_12345"
    assert plots.shortened("short", 20) == "short"


def test_a_table_of_unequal_rows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"table 'Sizes': row \(1, 2\) has 2 cells, wanted 1"):
        Table("Sizes", ("a",), ((1,), (1, 2)))


def colours(part: str) -> dict[str, tuple[float, ...]]:
    """Names of colours and their red, green and blue in one part of the style sheet."""
    found = re.findall(r"--([\w-]+): #(\w{6})", part)
    return {name: tuple(int(value[at : at + 2], 16) / 255 for at in (0, 2, 4)) for name, value in found}


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """As WCAG 2.2 defines it."""

    def luminance(colour: tuple[float, ...]) -> float:
        linear = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour)
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "print"])
def test_words_and_bars_stand_out_from_what_is_behind_them(theme: str) -> None:
    style = page.html(Page("", "", ()))
    light, dark, printed = (colours(part) for part in re.split(r"@media \((?=prefers)|@media (?=print)", style))
    here = {"light": light, "dark": light | dark, "print": light | printed}[theme]
    for word in ("ink", "muted", "link", "good", "bad", "warn"):
        for behind in ("paper", "raised"):
            assert contrast(here[word], here[behind]) >= 4.5, (word, behind)
    for tone in ("good", "bad", "warn"):
        for word in ("ink", tone):
            assert contrast(here[word], here[f"{tone}-back"]) >= 4.5, (word, tone)
    for number in range(1, len(plots.SERIES) + 1):
        assert contrast(here[f"series-{number}"], here["paper"]) >= 3, number


def test_names_are_not_read_as_mathematics() -> None:
    with plots.drawing(100) as figure:
        figure.subplots().set_title("$w^{2}$ \\frac{")
        assert "$w^{2}$ \\frac{" in plots.to_svg(figure, "")


@pytest.mark.filterwarnings("error")
def test_names_in_plots_are_escaped_as_on_a_terminal() -> None:
    with plots.drawing(100) as figure:
        figure.subplots().set_title("a\nb\x1b[2J\u202e 上采样")
        svg = plots.to_svg(figure, "c\x1b")
    assert ">a\\nb\\x1b[2J\\u202e 上采样</text>" in svg
    assert ">c\\x1b</desc>" in svg
