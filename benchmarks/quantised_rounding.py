"""How often quantised outputs differ from the definition on stored integers, and by how many steps.

Nothing is timed. For each runtime: its own deconv (computed in float between DequantizeLinear and QuantizeLinear) and
one candidate in each form, with scales as a quantiser gives them, over several layers.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import onnx_ir as ir
from benchmarks.quantised_layers import LAYERS

from splitdeconv.deconv import reference
from splitdeconv.deconv.layers import read_layers
from splitdeconv.deconv.spec import Deconv, Quant
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.onnx.quantised_layer import qdq_model, trained_like_weights
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof.draw import cut_down
from splitdeconv.targets import target
from splitdeconv.targets.target import CompileError

FORMS = ("native", "qdq", "qlinear", "qlinear_u8", "qdq_u8", "float")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", action="append", help="default: onnxruntime and openvino")
    parser.add_argument("--bits", type=int, choices=(7, 8), action="append", help="of the weights; default: both")
    parser.add_argument("--per-tensor", action="store_true")
    options = parser.parse_args()
    layers = [layer for layer in read_layers(LAYERS).deconvs if layer.set == "image"]
    print(f"{'target':<14}{'types':<16}{'bits':>5}  {'form':<12}{'outputs':>10}{'differ':>12}{'steps':>7}")
    for name in options.target or ["onnxruntime", "openvino"]:
        for activation in ("uint8", "int8"):
            for bits in options.bits or (7, 8):
                quant = Quant(activation, "int8", not options.per_tensor)
                for form in FORMS:
                    print_form(name, quant, bits, form, [layer.deconv for layer in layers])


def print_form(name: str, quant: Quant, bits: int, form: str, layers: list[Deconv]) -> None:
    runtime = target(name)
    outputs = differing = steps = 0
    for layer in layers:
        deconv = replace(cut_down(layer), quant=quant)
        weights = trained_like_weights(deconv, bits)
        model = OnnxModel(ir.from_proto(qdq_model(deconv, weights)), None)
        (site,) = model.find().sites
        assert site.deconv.quant is not None, "the model is quantised"
        if form not in ("native", *site.deconv.quant.forms):
            return
        candidate = Candidate("native") if form == "native" else Candidate("split", "union", "transpose", quant=form)
        program = lower(site.deconv, "NCHW", candidate)
        if reason := runtime.refuse(program):
            print(f"{name:<14}{quant.activation + ' × int8':<16}{bits:>5}  {form:<12}  {reason}")
            return
        limits = np.iinfo(quant.activation)
        shape = [1, deconv.in_channels, *(size or 1 for size in deconv.in_sizes)]
        x = np.random.default_rng(0).integers(limits.min, limits.max + 1, shape).astype(quant.activation)
        wanted = reference.quantised_deconv(x, weights, deconv).astype(np.int32)
        try:
            compiled = runtime.compile(model.emit(site, program))
            (found,) = compiled.run({"x": x}).values()
        except CompileError as error:
            print(f"{name:<14}{quant.activation + ' × int8':<16}{bits:>5}  {form:<12}  {error}")
            return
        off = np.abs(found.astype(np.int32) - wanted)
        outputs, differing, steps = outputs + off.size, differing + np.count_nonzero(off), max(steps, int(off.max()))
    share = f"{differing / outputs:.1e}" if differing else "0"
    print(
        f"{name:<14}{quant.activation + ' × int8':<16}{bits:>5}  {form:<12}{outputs:>10}{share:>12}{steps:>7}",
        flush=True,
    )


if __name__ == "__main__":
    main()
