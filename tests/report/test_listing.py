"""Tables at any width: nothing is lost, and no name or number is broken."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from splitdeconv.report.listing import Listing, say, show

NAME = "model/decoder/conv2d_transpose_3/conv2d_transpose"
ROWS = (
    (NAME, "128→64 3×3/2 @32×32", "75.50 M", "", "native 1.2 ms; the best other form takes [1.3 ms]: no gain"),
    ("up", "8→1 1×1/1 @256×256", "524.29 k", "", "asked for by --layer"),
)
LISTING = Listing(("site", "deconv", "MACs", "then", "why"), ROWS, ("MACs",), "why")


def shown(width: int, *, terminal: bool = True, listing: Listing = LISTING) -> list[str]:
    file = io.StringIO()
    out = Console(file=file, width=width, force_terminal=terminal, no_color=True, highlight=False, color_system=None)
    show(out, listing)
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 50, 60, 80, 100, 120, 200])
def test_names_and_numbers_stay_whole(width: int) -> None:
    lines = shown(width)
    for cell in (NAME, "128→64 3×3/2 @32×32", "75.50 M", "524.29 k"):
        assert any(cell in line for line in lines), cell
    text = " ".join(" ".join(lines).split())
    assert all(word in text for word in ROWS[0][4].split())
    assert "then" not in text, "columns that say nothing are left out"


@pytest.mark.parametrize("width", [60, 80, 100, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in shown(width))


def test_layouts_change_with_the_width() -> None:
    assert len(shown(200)) == 3
    assert shown(120)[1].startswith(NAME + "  128→64"), "the text is folded"
    beneath = shown(70)
    assert beneath[1].split() == ["deconv", "MACs"]
    assert beneath[3] == "  128→64 3×3/2 @32×32   75.50 M", "numbers align right"
    assert beneath[6] == "  8→1 1×1/1 @256×256   524.29 k"
    assert shown(30)[1] == "  deconv 128→64 3×3/2 @32×32"


def test_without_a_terminal_each_row_is_one_line() -> None:
    lines = shown(20, terminal=False)
    assert len(lines) == 3
    assert "[1.3 ms]: no gain" in lines[1]


@pytest.mark.parametrize("width", range(20, 40))
def test_a_number_stays_with_its_unit(width: int) -> None:
    file = io.StringIO()
    say(Console(file=file, width=width, force_terminal=True), "3 deconvs: 85.34 k MACs; 11.62 M, 1.5 ms, 70 % of 3 MB")
    assert all(each in file.getvalue() for each in ("85.34 k", "11.62 M", "1.5 ms", "70 %", "3 MB"))


def test_lines_of_text_fold_between_words_on_a_terminal_only() -> None:
    for terminal, wanted in ((True, ["note: [one]", "two"]), (False, ["note: [one] two"])):
        file = io.StringIO()
        say(Console(file=file, width=12, force_terminal=terminal, color_system=None), "note: [one] two")
        assert [line.rstrip() for line in file.getvalue().splitlines()] == wanted
