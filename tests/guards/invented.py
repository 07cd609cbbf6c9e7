"""What measuring commands decide from invented times: choices, records, budgets, the guard, and the second run's cache.

PYTHONPATH=…/src python -m tests.guards.invented OUT_DIR     # with the package that PYTHONPATH chooses
python -m tests.guards.invented --compare BEFORE AFTER       # unified diffs; exit code 1 if there are any
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial

from tests.guards import snapshots
from tests.guards.golden import SHARED
from tests.guards.snapshots import Case
from tests.guards.terminal import transcript, workplace

MODELS = (
    "plane",
    "line",
    "volume",
    "groups",
    "depthwise",
    "uneven",
    "large",
    "crop",
    "bilinear",
    "chain",
    "shared_weights",
    "if_body",
    "function",
    "float16",
    "qdq_per_tensor",
    "qdq_per_channel",
    "qdq_int8",
    "open_sizes",
)
CONVERT = "convert {} out.onnx --target invented --json run.json --save-plan plan.json --budget 600"
BENCH = "bench {} --target invented --json run.json --budget 600 --every"
REAL = "phasenet_1d.onnx"

# Name of the case, models that are used, commands that share a cache. {} is the first model, {1} the second.
SEQUENCES: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    *((f"{name}.convert", (name,), (CONVERT, CONVERT)) for name in MODELS),
    *((f"{name}.bench", (name,), (BENCH,)) for name in MODELS),
    *(
        (f"chain.{option.replace(':', '_')}", ("chain",), (f"convert {{}} out.onnx --target invented:{option}",) * 2)
        for option in ("estimated", "slow", "no:DepthToSpace", "no:ConvTranspose", "no:Conv", "wrong:Concat")
    ),
    ("groups.wrong", ("groups",), ("bench {} --target invented:wrong:Reshape --every",)),
    ("plane.native_does_not_run", ("plane",), ("bench {} --target invented:no:ConvTranspose --every",)),
    ("open_sizes.given", ("open_sizes",), (f"{CONVERT} --input-shape x=2,4,6,7", BENCH + " --input-shape x=2,4,6,7")),
    ("chain.no_cache", ("chain",), (f"{CONVERT} --no-cache",) * 2),
    (
        "chain.larger_budget",
        ("chain",),
        tuple(f"convert {{}} out.onnx --target invented --budget {n}" for n in (2, 60)),
    ),
    (
        "chain.smaller_budget",
        ("chain",),
        tuple(f"convert {{}} out.onnx --target invented --budget {n}" for n in (60, 2)),
    ),
    ("chain.short", ("chain",), tuple(f"convert {{}} out.onnx --target invented --budget {n}" for n in (0.1, 0.4, 1))),
    ("chain.short_slow", ("chain",), ("convert {} out.onnx --target invented:slow --budget 1.5",)),
    ("chain.short_bench", ("chain",), ("bench {} --target invented --budget 0.5",)),
    ("cache.other_type", ("plane", "float16"), (CONVERT, CONVERT.replace("{}", "{1}"))),
    ("cache.other_epilogue", ("plane", "relu"), (CONVERT, CONVERT.replace("{}", "{1}"))),
    ("cache.other_bias", ("plane", "no_bias"), (CONVERT, CONVERT.replace("{}", "{1}"))),
    ("cache.other_weights", ("qdq_per_tensor", "qdq_other_weights"), (CONVERT, CONVERT.replace("{}", "{1}"))),
    ("cache.other_threads", ("plane",), (CONVERT, f"{CONVERT} --threads 2")),
    *(
        (f"chain.{name}", ("chain",), (f"{CONVERT} {option}",))
        for name, option in (
            ("layer", "--layer first=split"),
            ("layers", "--layer first=split_phases:concat --layer second=zero_insert"),
            ("only", "--only sec*"),
            ("skip", "--skip sec*"),
            ("lowering", "--lowering split_phases"),
            ("native", "--lowering native"),
        )
    ),
    ("chain.plan", ("chain",), ("convert {} out.onnx --target invented --plan {plan}",)),
    ("chain.bench_only", ("chain",), (BENCH + " --only sec*",)),
)


def cases() -> Iterator[Case]:
    """All cases; a real model comes last where there is one."""
    for name, models, commands in SEQUENCES:
        yield name, partial(_sequence, models, commands)
    yield "layers.bench", _layers
    if (SHARED / REAL).exists():
        yield "real.convert", partial(_sequence, (REAL,), (CONVERT, CONVERT))
        yield "real.estimated", partial(_sequence, (REAL,), (CONVERT.replace("invented", "invented:estimated"),))
        yield "real.bench", partial(_sequence, (REAL,), (BENCH,))


def _sequence(models: Sequence[str], commands: Sequence[str]) -> str:
    """Commands one after the other with one cache, each with what was timed for it."""
    with workplace() as folder:
        for number, name in enumerate(models):
            (folder / f"in{number}.onnx").write_bytes(_content(name))
        (folder / "wanted.json").write_text(_PLAN)
        names = [f"in{number}.onnx" for number in range(len(models))]
        return "\n".join(_timed(each.replace("{}", "{0}").format(*names, plan="wanted.json")) for each in commands)


def _content(name: str) -> bytes:
    from tests.guards import onnx_corpus  # noqa: PLC0415  # not needed to compare

    return (SHARED / name).read_bytes() if name == REAL else onnx_corpus.MODELS[name]().SerializeToString()


_PLAN = json.dumps({"schema": 1, "target": "invented", "sites": {"second": "split:full:depth_to_space"}})


def _timed(command: str) -> str:
    """A command, and what was timed with how many seconds left."""
    from tests.guards.invented_target import registered  # noqa: PLC0415  # not needed to compare

    with registered() as log:
        text = transcript(command.split())
        return "\n".join([text.rstrip(), "[timed]", *log]) + "\n"


def _layers() -> str:
    """A list of layers in each type."""
    layer = {"in_channels": 4, "out_channels": 3, "kernel": 4, "stride": 2, "in_size": [5, 6], "epilogue": ["Relu"]}
    line = {"name": "line", "in_channels": 2, "out_channels": 2, "kernel": 5, "stride": 3, "in_size": [9], "groups": 2}
    with workplace() as folder:
        (folder / "layers.json").write_text(json.dumps([{"name": "plane", "pad_begin": 1, **layer}, line]))
        command = "bench --layers layers.json --target invented --budget 600 --every"
        return "\n".join(_timed(f"{command} --dtype {dtype}") for dtype in ("float32", "float16", "int8"))


if __name__ == "__main__":
    sys.exit(snapshots.main(str(__doc__).splitlines()[0], cases))
