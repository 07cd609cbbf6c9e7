"""Random sound models of a convolution, mostly 1×1, behind a bilinear or cubic interpolation: ONNX and TFLite."""

from __future__ import annotations

from random import Random

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tfl

from tests.formats.onnx import stretched_models as in_onnx
from tests.formats.tflite import stretched_models as in_tflite
from tests.formats.tflite.stretched_front import Front

PLACES = ("half_pixel", "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
FACTORS = (1, 1.5, 2, 2, 2.5, 3)


def onnx_model(rng: Random) -> onnx.ModelProto:
    """Alone or beside the map before it, and an operator behind the convolution or none."""
    opset = rng.choice((11, 13, 17, 18, 21))
    stated = {"mode": rng.choice(("linear", "cubic")), "coordinate_transformation_mode": rng.choice(PLACES)}
    cubic = {"cubic_coeff_a": rng.choice((-0.75, -0.5)), "exclude_outside": rng.choice((0, 1))}
    stated |= cubic if stated["mode"] == "cubic" else {}
    if opset >= 18 and rng.random() < 0.2:
        stated["antialias"] = 1
    factors = [rng.choice(FACTORS) for _ in in_onnx.SIZES]
    front = in_onnx.resize((1, 1, *factors), **stated)
    channels = in_onnx.CHANNELS
    if rng.random() < 0.3:
        order = rng.choice((("v", "s"), ("s", "v")))
        grown = [int(size * factor) for size, factor in zip(in_onnx.SIZES, factors, strict=True)]
        front = in_onnx.beside(front, order, in_onnx.SIZES, grown)
        channels *= 2
    kernel = [1, 1] if rng.random() < 0.8 else [rng.choice((1, 2, 3)) for _ in range(2)]
    after = [in_onnx.node(rng.choice(("Relu", "Sigmoid", "Identity")), ["y"], "z")] if rng.random() < 0.5 else []
    real = np.random.default_rng(rng.getrandbits(20)).standard_normal((rng.choice((1, 2, 4)), channels, *kernel))
    return in_onnx.model_of(
        front,
        kernel=real.astype(np.float32),
        bias=rng.random() < 0.5,
        after=after,
        outputs={"z" if after else "y": [None] * 4},
        opset=opset,
        pads=[rng.randrange(0, size) for size in (*kernel, *kernel)],
        strides=[rng.choice((1, 1, 1, 2)) for _ in range(2)],
    )


def tflite_model(rng: Random) -> bytes:
    """RESIZE_BILINEAR by whole factors, with its corners or centres aligned or not."""
    factors = rng.choice((2, 2, 3)), rng.choice((1, 2, 3))
    corners, centres = rng.choice(((False, False), (False, True), (True, False)))

    def write(front: Front) -> None:
        batch, height, width, channels = front.shape
        sizes = (height * factors[0], width * factors[1])
        options = tfl.ResizeBilinearOptionsT(alignCorners=corners, halfPixelCenters=centres)
        front.op("RESIZE_BILINEAR", (batch, *sizes, channels), front.ints(sizes), options=options, version=3)

    beside = [in_tflite.beside(*rng.choice((("v", "s"), ("s", "v"))))] if rng.random() < 0.3 else []
    return in_tflite.model_of(
        write,
        *beside,
        kernel=(1, 1) if rng.random() < 0.8 else (rng.choice((1, 3)), rng.choice((1, 3))),
        outs=rng.choice((1, 2, 4)),
        same=rng.random() < 0.7,
        weights=rng.choice(("float32", "float32", "float16", "hybrid", "int8")),
        activation=rng.choice((0, 1, 3)),
        bias=rng.random() < 0.7,
        seed=rng.getrandbits(20),
    )
