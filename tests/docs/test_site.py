"""The site that ``make docs`` builds: no broken link or reference, nothing from elsewhere, pictures as drawn."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; warnings, among them broken links, are errors."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--fail-on-warning", "--keep-going", "-d", str(folder / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(folder / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "html"


def test_every_page_is_built(site: Path) -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in ROOT.glob("docs/**/*.md")}
    assert not {page for page in pages if not (site / page).is_file()}


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r"""<(?:script|img|iframe|source|video)[^>]*\ssrc=["'](?:https?:)?//|<link[^>]*href=["'](?:https?:)?//"""
    )
    styles = re.compile(r"""url\(["']?(?:https?:)?//|@import""")
    assert not [page.name for page in site.rglob("*.html") if loads.search(page.read_text())]
    assert not [sheet.name for sheet in site.rglob("*.css") if styles.search(sheet.read_text())]


def test_pictures_follow_the_theme(site: Path) -> None:
    page = (site / "what-a-deconv-is.html").read_text()
    assert len(re.findall(r'class="only-light"', page)) == len(re.findall(r'class="only-dark"', page)) == 5


def test_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    drawn = version("matplotlib")
    if f"Matplotlib v{drawn}" not in (PICTURES / "spread.svg").read_text():
        pytest.skip(f"the pictures were drawn by another version than matplotlib {drawn}")
    subprocess.run([sys.executable, ROOT / "docs" / "draw_pictures.py", tmp_path], check=True, timeout=120)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in PICTURES.glob("*.svg")}
    assert not [path.name for path in tmp_path.iterdir() if path.read_text() != (PICTURES / path.name).read_text()]
