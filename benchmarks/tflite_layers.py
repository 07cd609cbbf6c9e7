"""Nine deconvs in TFLite: native against every lowering, on LiteRT (measured) or on Ethos-U (Vela's estimates).

    python -m benchmarks.tflite_layers --target litert --kind int8_per_channel
    python -m benchmarks.tflite_layers --target litert --kind float32
    python -m benchmarks.tflite_layers --target litert --kind int8_per_channel --keras
    python -m benchmarks.tflite_layers --target vela

Every layer has a bias and a RELU fused; with ``--keras`` an ADD and a rescaling RELU of their own follow it instead,
and the rewritten form folds them (``--numerics fused``). Measured times need an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path

from tests.tflite_models import Case, build, loaded, random_input

from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.results.times import Measurement, timed
from splitdeconv.targets import CompileError, target
from splitdeconv.targets.target import Compiled, Target

# Channels in and out, kernel, stride, input size; all axes alike, SAME.
LAYERS = {
    "dcgan2": (128, 64, 5, 2, 16),
    "sngan2": (256, 128, 4, 2, 8),
    "sngan3": (128, 64, 4, 2, 16),
    "fst1": (128, 64, 3, 2, 64),
    "mde4": (256, 128, 3, 2, 24),
    "unet": (512, 256, 2, 2, 32),
    "pose": (256, 256, 4, 2, 32),
    "sr": (56, 1, 9, 3, 85),
    "fcn": (21, 21, 16, 8, 32),
}
KERAS_LAYERS = {
    "dcgan1": (256, 128, 5, 2, 8),
    "sngan1": (512, 256, 4, 2, 4),
    **{name: LAYERS[name] for name in ("dcgan2", "sngan2", "sngan3", "fst1", "mde4", "unet", "pose")},
}
VELA = {
    "U55-128": "vela:ethos-u55-128",
    "U65-512 shared": "vela:ethos-u65-512,memory-mode=Shared_Sram",
    "U65-512 DRAM": "vela:ethos-u65-512",
    "U85-1024 DRAM": "vela:ethos-u85-1024",
    "U85-1024 flash/shared": "vela:ethos-u85-1024,system-config=Ethos_U85_SYS_Flash_High,memory-mode=Shared_Sram",
}
NATIVE = (Candidate("native"), Candidate("native", after="relayout"))
EQUAL_WORK = Candidate("equal_work")  # the limit: a plain convolution with the same useful multiply-accumulates
PLAIN = Candidate("split", "union", "transpose")  # of a deconv of stride 1: a single CONV_2D


def case_of(layer: tuple[int, int, int, int, int], kind: str, keras: bool) -> Case:
    in_channels, out_channels, kernel, stride, size = layer
    return Case(
        kind=kind,
        in_sizes=(size, size),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        in_channels=in_channels,
        out_channels=out_channels,
        bias=not keras,
        activation=0 if keras else 1,
        after=("ADD", "RELU*") if keras else (),
    )


def times(
    case: Case, where: Target, numerics: str, seconds: float
) -> tuple[dict[Candidate, Measurement], dict[Candidate, Compiled]]:
    model = loaded(build(case), numerics)
    (site,) = model.find().sites
    variants = getattr(where, "variants", lambda candidate: (candidate,))
    ready: dict[Candidate, Compiled] = {}
    for candidate in (each for found in candidates(site.deconv, "NHWC")[0] for each in variants(found)):
        program = lower(site.deconv, "NHWC", candidate)
        if where.refuse(program) or model.refuse(site, program):
            continue
        try:
            ready[candidate] = where.compile(model.emit(site, program))
        except CompileError as error:
            if candidate in NATIVE:
                print(f"    {candidate}: {error}")
    if where.kind == "measured":
        ready[EQUAL_WORK] = equal_work(case, where, numerics)
    return timed(where.measure(ready, {"x": random_input(case, 1)}, seconds)), ready


def equal_work(case: Case, where: Target, numerics: str) -> Compiled:
    """One CONV_2D on the same input: ``ceil(K/s)`` taps on each axis, and as many outputs as make the work equal."""
    taps = -(-case.kernel[0] // case.stride[0]), -(-case.kernel[1] // case.stride[1])
    outputs = max(1, round(case.out_channels * math.prod(case.kernel) / math.prod(taps)))
    model = loaded(build(replace(case, kernel=taps, stride=(1, 1), out_channels=outputs)), numerics)
    (site,) = model.find().sites
    return where.compile(model.emit(site, lower(site.deconv, "NHWC", PLAIN)))


def bounds(compiled: Compiled) -> str:
    """What takes the cycles by Vela's estimate, the largest share first."""
    estimate = getattr(compiled, "estimate", None)
    if estimate is None:
        return ""
    shares: dict[str, int] = {}
    for operator in estimate.operators:
        what = "moving data" if operator.operator in ("MemoryCopy", "Transpose", "MaxPool") else operator.bound
        shares[what] = shares.get(what, 0) + operator.cycles
    ranked = sorted(((cycles, what) for what, cycles in shares.items() if cycles), reverse=True)
    return "bound by " + ", ".join(f"{what} {cycles / estimate.cycles:.0%}" for cycles, what in ranked)


def row(name: str, found: dict[Candidate, Measurement], ready: dict[Candidate, Compiled]) -> dict[str, object]:
    native = min((found[each].median_ms for each in NATIVE if each in found), default=None)
    limit = found.get(EQUAL_WORK)
    others = {each: time.median_ms for each, time in found.items() if each not in (*NATIVE, EQUAL_WORK)}
    best = min(others, key=lambda each: others[each])
    ratio = native / others[best] if native else None
    print(
        f"{name:10} native {'CPU' if native is None else f'{native:9.4f}'} ms   best {others[best]:9.4f} ms  "
        f"{'' if ratio is None else f'{ratio:6.2f}×'}  "
        f"{'' if limit is None else f'{others[best] / limit.median_ms:5.2f} of equal work  '}"
        f"{best}  {bounds(ready[best])}"
    )
    all_times = {str(each): time.median_ms for each, time in found.items()}
    return {"layer": name, "native_ms": native, "best": str(best), "ratio": ratio, "median_ms": all_times}


def table(title: str, where: Target, kind: str, keras: bool, seconds: float) -> dict[str, object]:
    print(f"\n{title}, {kind}{', Keras pattern' if keras else ''} ({where.kind} on {where.name})")
    numerics = "fused" if keras else "exact"
    layers = KERAS_LAYERS if keras else LAYERS
    found = {name: times(case_of(layer, kind, keras), where, numerics, seconds) for name, layer in layers.items()}
    rows = [row(name, *each) for name, each in found.items()]
    kept = [max(1.0, float(str(each["ratio"]))) for each in rows if each["ratio"] is not None]
    mean = math.exp(sum(map(math.log, kept)) / len(kept))
    print(f"geometric mean over {len(kept)} layers, native kept where it is faster: {mean:.2f}×")
    return {"title": title, "kind": kind, "geometric_mean": mean, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--target", default="litert", help="litert, litert:reference, vela, or one vela:… configuration"
    )
    parser.add_argument("--kind", default="int8_per_channel")
    parser.add_argument("--keras", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each layer")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    wanted = VELA if asked.target == "vela" else {asked.target: asked.target}
    results = [
        table(title, target(name, threads=asked.threads), asked.kind, asked.keras, asked.seconds)
        for title, name in wanted.items()
    ]
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
