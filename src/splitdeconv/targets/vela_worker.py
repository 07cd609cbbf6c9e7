"""The child process in which Vela compiles: a model comes in, its summary, layers and warnings go out as JSON."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ethosu.vela import vela

from splitdeconv.errors import CompileError
from splitdeconv.workers.serve import serve

_WARNING = re.compile(
    r"^Warning \([^)]*\) operator: (\S+), ofm: '(.*)'\nReason: (.*(?:\n(?!\n|Warning).+)*)", re.MULTILINE
)
_CPU_COUNT = re.compile(r"^CPU operators = (\d+)", re.MULTILINE)


def main() -> None:
    """Serve compilations until standard input ends."""
    accelerator, system_config, memory_mode = sys.argv[1:4]
    options = ["--accelerator-config", accelerator, "--verbose-performance", "--show-cpu-operations"]
    options += ["--system-config", system_config, "--memory-mode", memory_mode]

    def compile_one(model: bytes) -> bytes:
        with tempfile.TemporaryDirectory(prefix="splitdeconv-vela-") as name:
            return json.dumps(_compile(Path(name), model, options)).encode()

    serve(compile_one)


def _compile(folder: Path, model: bytes, options: list[str]) -> dict[str, object]:
    source, printed = folder / "model.tflite", folder / "printed"
    source.write_bytes(model)
    problem = ""
    with _standard_output_in(printed):
        try:
            code = vela.main([str(source), "--output-dir", str(folder), *options])
            problem = f"code {code}" if code else ""
        except SystemExit as stop:
            problem = f"code {stop.code}"
        except Exception as error:  # Vela raises what it likes; its words are the reason
            problem = " ".join(str(error).split()) or type(error).__name__
    text = printed.read_text("utf-8", "replace")
    summaries = sorted(folder.glob("*_summary_*.csv"))
    if problem or not summaries:
        raise CompileError(f"Vela: {problem or _last_line(text)}")
    layers = sorted(folder.glob("*_per-layer.csv"))
    count = _CPU_COUNT.search(text)
    return {
        "summary": _rows(summaries[0])[-1],
        "layers": [row for path in layers for row in _rows(path)],
        "cpu_operators": int(count.group(1)) if count else 0,
        "left_to_cpu": [
            {"operator": kind, "name": name, "reason": ", ".join(reason.split("\n"))}
            for kind, name, reason in _WARNING.findall(text)
        ],
    }


@contextmanager
def _standard_output_in(path: Path) -> Iterator[None]:
    """Everything printed goes into ``path``, from native code too."""
    sys.stdout.flush()
    kept = os.dup(1)
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            os.close(kept)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, skipinitialspace=True))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was compiled"


if __name__ == "__main__":
    main()
