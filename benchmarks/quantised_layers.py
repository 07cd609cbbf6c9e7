"""Quantised layers: the runtime's own deconv in QDQ form against every candidate and the equal-work convolution.

The layers are those of layers.json. The equal-work convolution has the same useful multiply-accumulates and the same
types, and nothing is rearranged: the time that a rewritten layer should come near to.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.layers import ListedLayer, read_layers
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.formats.model import Site
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.onnx.quantised_layer import qdq_model, trained_like_weights
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.proof.sites import wrong_numbers
from splitdeconv.results.times import Measurement, timed
from splitdeconv.targets import Target, target
from splitdeconv.targets.target import Compiled, CompileError

LAYERS = Path(__file__).with_name("layers.json")
EQUAL_WORK = Candidate("equal_work")


@dataclass(frozen=True)
class Result:
    """Times of one layer in one run, and why candidates are missing."""

    times: dict[Candidate, Measurement]
    refused: dict[str, str]


def main() -> None:
    options = arguments()
    runtime = target(options.target, threads=options.threads)
    wanted = [layer for layer in read_layers(LAYERS).deconvs if layer.set in options.set]
    layers = [layer for layer in wanted if not options.layer or layer.name in options.layer]
    quant = Quant(options.activation, options.weight, not options.per_tensor)
    print(runtime.environment())
    print(
        f"{options.activation} × {options.weight}, weights of {options.bits} bits, {options.seconds:g} s for each layer"
    )
    print(f"{'layer':<16}{'native':>9}{'best':>9}{'limit':>9}{'ratio':>7}{'over':>6}  best candidate")
    ratios = []
    for layer in layers:
        result = measure(runtime, layer, quant, options)
        ratios.append(report(layer, result, options.verbose))
    print(f"geometric mean {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f}, smallest {min(ratios):.2f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--set", action="append", help="of layers.json; default: image")
    parser.add_argument("--layer", action="append", help="only these")
    parser.add_argument("--activation", choices=("uint8", "int8"), default="uint8")
    parser.add_argument("--weight", choices=("int8", "uint8"), default="int8")
    parser.add_argument("--per-tensor", action="store_true")
    parser.add_argument("--bits", type=int, choices=(7, 8), default=8, help="7 as with a quantiser's reduce_range")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each layer")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="every candidate, and why some are missing")
    found = parser.parse_args()
    found.set = found.set or ["image"]
    return found


def measure(runtime: Target, layer: ListedLayer, quant: Quant, options: argparse.Namespace) -> Result:
    """Compile what the target takes and computes right, and time it interleaved."""
    deconv = replace(layer.deconv, quant=quant)
    model, site = quantised_layer(deconv, layer.epilogue, options.bits)
    compiled, refused = {}, {}
    for candidate in candidates(site.deconv, "NCHW")[0]:
        program = lower(site.deconv, "NCHW", candidate)
        found = prepare(runtime, model, site, candidate, program)
        if isinstance(found, str):
            refused[str(candidate)] = found
        else:
            compiled[candidate] = found
    first, *others = compiled.items()
    shape = [deconv.batch or 1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes)]
    limits = np.iinfo(quant.activation)
    x = np.random.default_rng(0).integers(limits.min, limits.max + 1, shape).astype(quant.activation)
    everything = {first[0]: first[1], EQUAL_WORK: equal_work(runtime, deconv, options.bits), **dict(others)}
    return Result(timed(runtime.measure(everything, {"x": x}, options.seconds)), refused)


def quantised_layer(deconv: Deconv, epilogue: tuple[str, ...], bits: int) -> tuple[OnnxModel, Site]:
    """The layer as a QDQ model, and the site that the front-end finds in it."""
    proto = qdq_model(deconv, trained_like_weights(deconv, bits), epilogue=epilogue)
    model = OnnxModel(ir.from_proto(proto), None)
    (site,) = model.find().sites
    return model, site


def prepare(runtime: Target, model: OnnxModel, site: Site, candidate: Candidate, program: Program) -> Compiled | str:
    """The compiled candidate, or the reason why it is none."""
    reason = model.refuse(site, program) or runtime.refuse(program)
    if reason is None and candidate != NATIVE:
        reason = wrong_numbers(model, site, program, runtime)
    if reason is not None:
        return reason
    try:
        return runtime.compile(model.emit(site, program))
    except CompileError as error:
        return str(error)


def equal_work(runtime: Target, deconv: Deconv, bits: int) -> Compiled:
    """A stride-1 convolution over the same input with as many products as the deconv has."""
    kernel = [-(-axis.kernel // axis.stride) for axis in deconv.axes]
    taps = math.prod(axis.kernel for axis in deconv.axes)
    outputs = deconv.groups * max(1, round(taps * deconv.out_channels / deconv.groups / math.prod(kernel)))
    axes = tuple(
        Axis(size, pad_begin=(size - 1) // 2, pad_end=size // 2, in_size=axis.in_size)
        for size, axis in zip(kernel, deconv.axes, strict=True)
    )
    plain = replace(deconv, axes=axes, out_channels=outputs)
    model, site = quantised_layer(plain, ("Relu",), bits)
    reasons = []
    for form in ("qlinear", "qlinear_u8", "qdq", "float"):
        candidate = next((each for each in candidates(site.deconv, "NCHW")[0] if each.quant == form), None)
        if candidate is None:
            continue
        found = prepare(runtime, model, site, candidate, lower(site.deconv, "NCHW", candidate))
        if not isinstance(found, str):
            return found
        reasons.append(found)
    raise SystemExit(f"{deconv.describe()}: no form of a plain convolution is right here: {'; '.join(reasons)}")


def report(layer: ListedLayer, result: Result, verbose: bool) -> float:
    """One line of the table; the ratio of native to the best."""
    times = dict(result.times)
    limit, native = times.pop(EQUAL_WORK), times[NATIVE]
    best = min(times, key=lambda candidate: times[candidate].median_ms)
    ratio, over = native.median_ms / times[best].median_ms, times[best].median_ms / limit.median_ms
    figures = f"{native.median_ms:>9.3f}{times[best].median_ms:>9.3f}{limit.median_ms:>9.3f}{ratio:>7.2f}{over:>6.2f}"
    print(f"{layer.name:<16}{figures}  {best}", flush=True)
    if verbose:
        for candidate, time in sorted(times.items(), key=lambda pair: pair[1].median_ms):
            print(f"    {time.median_ms:>9.3f} ({time.low_ms:.3f}–{time.high_ms:.3f})  {candidate}")
        for reason in dict.fromkeys(result.refused.values()):
            names = [name for name, each in result.refused.items() if each == reason]
            print(f"    {'–':>9}  {len(names)} candidates ({names[0]} …): {reason}")
    return ratio


if __name__ == "__main__":
    main()
