"""The examples of the documentation do what the pages say: Python blocks run, shell blocks print what is shown.

``console`` blocks hold commands behind ``$`` and their whole output, in which ``...`` stands for any text; ``sh``
blocks hold commands that only have to succeed. Figures of a measured run are the machine's own: of a console block
behind ``<!--- measured -->`` only exit codes and last lines are compared, and so behind ``<!--- figures of PACKAGE
VERSION -->`` where another version is installed. Blocks of one page share a folder and their
variables. What is needed to begin with is made in blocks that the reader does not see (``<!--- invisible-code-block:
python``). Where outputs change on purpose, ``REWRITE_DOCUMENTATION=1 pytest tests/docs/test_examples.py`` writes the
new ones.
"""

from __future__ import annotations

import doctest
import io
import os
import re
import shlex
import subprocess
import sys
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

import splitdeconv
from splitdeconv.cli import main

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
REWRITE = bool(os.environ.get("REWRITE_DOCUMENTATION"))
NEEDS = {
    "start-pytorch": ("torch", "onnxscript"),
    "pytorch": ("torch", "onnxscript"),
    "streaming": ("torch",),
    "resize-convolutions": ("torch",),
}
SECONDS = 120
# Measured runs take seconds here, not the default minutes: what they print is not compared.
QUICK_SECONDS = 0.5
QUICK_LAYER_SECONDS = 0.1  # each layer of a module has its own
BUDGET = ("--budget", str(QUICK_SECONDS))
TIMED = ("convert", "bench")
# Which check is the worst, and errors of real values, which differ between processors.
ROUNDING = re.compile(r"(?<=; worst: ).*|\d\.\de[+-]\d\d")
MEASURED = "<!--- measured -->"
OF_VERSION = re.compile(r"<!--- figures of (\S+) (\S+) -->$")
CHATTER = "INFO: Created TensorFlow Lite"  # LiteRT's own line, once in a process


def ran(command: str, *, quick: bool = False) -> tuple[int, str]:
    """Exit code and output, both streams in order, of a command; ``splitdeconv`` runs in this process."""
    words = shlex.split(command.replace("\\\n", " "), comments=True)
    if words[:1] != ["splitdeconv"] or set(command) & set("|<>;&$"):
        return shell(command)
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        code = main([*words[1:], *(BUDGET if quick and not REWRITE and words[1] in TIMED else ())])
    return code, trimmed(output.getvalue())


def shell(command: str) -> tuple[int, str]:
    """The same of any command, with this environment's programs first."""
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PATH": folders, "PYTHONPATH": code, "PYTHONUTF8": "1"}
    done = subprocess.run(
        ["bash", "-c", command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        env=environment, timeout=SECONDS, check=False,
    )  # fmt: skip
    return done.returncode, trimmed(done.stdout)


def trimmed(output: str) -> str:
    """Without what the page does not show."""
    lines = [line.rstrip() for line in output.splitlines() if not line.startswith(CHATTER)]
    return "".join(f"{line}\n" for line in lines)


def sessions(text: str) -> list[tuple[str, str]]:
    """Commands of a ``console`` block with their outputs."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)
    assert not parts[0].strip(), "a console block begins with a command"
    found = [re.match(r"((?:[^\n]*\\\n)*[^\n]*\n)(.*)", part, re.DOTALL) for part in parts[1:]]
    return [(each[1], each[2]) for each in found if each]


def console(example: Example) -> str | None:
    """Run a ``console`` block; the difference, or None."""
    shown = str(example.parsed)
    measured = has_figures_of_its_own(example.document.text[: example.region.start].rstrip())
    real, differences = "", []
    for command, wanted in sessions(shown):
        code, output = ran(command, quick=measured)
        same = code == 0 and last(output) == last(wanted) if measured else agrees(wanted, output)
        real += f"$ {command}{wanted if same else output}"
        differences.extend([] if same else [f"$ {command}wanted:\n{wanted}\nfound:\n{output}"])
    if differences and REWRITE:
        page = Path(example.path)
        page.write_text(page.read_text("utf-8").replace(shown, real, 1), "utf-8")
        return None
    return "\n".join(differences) or None


def has_figures_of_its_own(before: str) -> bool:
    """Whether what comes behind this text shows figures of this machine, or of another version of a package."""
    stated = OF_VERSION.search(before)
    return before.endswith(MEASURED) or (stated is not None and version(stated[1]) != stated[2])


def succeeds(example: Example) -> str | None:
    """Run the commands of an ``sh`` block; the output of the first that fails."""
    for command in re.findall(r"(?:[^\n]*\\\n)*[^\n]+\n?", str(example.parsed)):
        code, output = ran(command, quick=True)
        if code:
            return f"{command}exit code {code}:\n{output}"
    return None


def agrees(wanted: str, found: str) -> bool:
    """Whether an output is the one shown, but for rounding."""
    texts = (ROUNDING.sub("#", text.rstrip()) + "\n" for text in (wanted, found))
    return doctest.OutputChecker().check_output(*texts, doctest.ELLIPSIS)


def last(output: str) -> str:
    """The last line."""
    return output.rstrip().rpartition("\n")[2]


EXAMPLES = Sybil(
    parsers=[
        SkipParser(),
        PythonCodeBlockParser(),
        CodeBlockParser("console", console),
        CodeBlockParser("sh", succeeds),
    ],
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in NEEDS.get(page.stem, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", ".cache")  # times of this page only
    if not REWRITE:
        for name in ("convert", "bench"):
            monkeypatch.setattr(splitdeconv, name, partial(getattr(splitdeconv, name), budget=QUICK_SECONDS))
        if "torch" in NEEDS.get(page.stem, ()):
            module = import_module("splitdeconv.torch")
            monkeypatch.setattr(module, "convert", partial(module.convert, seconds=QUICK_LAYER_SECONDS))
    for example in EXAMPLES.parse(page).examples():
        example.evaluate()


@pytest.mark.skipif(REWRITE, reason="outputs are written, not compared")
@pytest.mark.parametrize(("command", "good"), [("echo 7 ms; echo done", 1), ("echo 7 ms", 0), ("echo done; false", 0)])
def test_a_measured_run_is_compared_by_its_end(command: str, good: int, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{MEASURED}\n```console\n$ {command}\n5 ms\ndone\n```\n")
    (example,) = EXAMPLES.parse(page).examples()
    with nullcontext() if good else pytest.raises(Exception, match="wanted"):
        example.evaluate()


@pytest.mark.skipif(REWRITE, reason="outputs are written, not compared")
def test_a_wrong_output_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one two; false\none ...\n$ echo three\nfour\n```\n")
    (example,) = EXAMPLES.parse(page).examples()
    with pytest.raises(Exception, match=r"\$ echo three\nwanted:\nfour\n\nfound:\nthree"):
        example.evaluate()


def test_figures_of_another_version_are_not_compared() -> None:
    assert has_figures_of_its_own("<!--- figures of pytest 0.1 -->")
    assert not has_figures_of_its_own(f"<!--- figures of pytest {version('pytest')} -->")
