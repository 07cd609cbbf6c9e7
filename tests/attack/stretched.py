"""Random sound models of a convolution behind an upsampling or inserted zeros, and random sound TFLite deconvs."""

from __future__ import annotations

import itertools
from random import Random
from typing import Any

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as tfl
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tests import tflite_models
from tests.formats.onnx import stretched_models as in_onnx
from tests.formats.tflite import stretched_models as in_tflite

ONNX_FRONTS = (
    lambda rng: in_onnx.resize((1, 1, rng.choice((1, 2, 3)), rng.choice((2, 4)))),
    lambda rng: in_onnx.resize(mode=rng.choice(("nearest", "linear")), nearest_mode=rng.choice(("floor", "ceil"))),
    lambda rng: in_onnx.resize_by_sizes(*(size * rng.choice((1, 2, 3)) for size in in_onnx.SIZES)),
    lambda _: in_onnx.recomputed_scale(),
    lambda _: in_onnx.repeat_interleave(),
    lambda _: in_onnx.keras_tiles(),
    lambda _: in_onnx.gather_nd(),
    lambda _: in_onnx.lines(),
    lambda rng: in_onnx.ones(rng.choice((1, 2, 3))),
    lambda _: in_onnx.one_tap(),
    lambda rng: in_onnx.upfirdn2d((rng.randrange(4), rng.randrange(4))),
    lambda _: in_onnx.scatter_nd(),
    lambda _: in_onnx.concat_with_zeros(),
    lambda rng: in_onnx.skip(rng.choice((("v", "s"), ("s", "v"), ("t", "v", "s")))),
)
TFLITE_FRONTS = (
    lambda rng: in_tflite.resize(rng.choice((1, 2, 3)), rng.choice((2, 3))),
    lambda rng: in_tflite.keras(rng.choice((1, 2)), rng.choice((2, 3))),
    lambda _: in_tflite.gather_nd,
    lambda _: in_tflite.lines,
    lambda rng: in_tflite.stablehlo_pad(rng.choice((1, 2, 3)), 2, tuple(rng.randrange(3) for _ in range(4))),
    lambda _: in_tflite.dilate,
    lambda _: in_tflite.one_tap,
    lambda _: in_tflite.padded_zeros,
)


def onnx_model(rng: Random) -> onnx.ModelProto:
    """A stretched map, a convolution, and an operator behind it or none."""
    front = rng.choice(ONNX_FRONTS)(rng)
    last = front[0][-1]
    channels = in_onnx.CHANNELS * (len(last.input) if last.op_type == "Concat" else 1)
    kernel = [rng.choice((1, 2, 3, 4, 5)) for _ in range(2)]
    after = [in_onnx.node(rng.choice(("Relu", "Sigmoid", "Identity")), ["y"], "z")] if rng.random() < 0.5 else []
    return in_onnx.model_of(
        front,
        kernel=in_onnx.kernel_of((rng.choice((1, 2, 4)), channels, *kernel), rng.getrandbits(20)),
        bias=rng.random() < 0.5,
        after=after,
        outputs={"z" if after else "y": [None] * 4},
        opset=rng.choice((13, 13, 17, 18, 21)),
        pads=[rng.randrange(0, size) for size in (*kernel, *kernel)],
        dilations=[rng.choice((1, 1, 1, 2)) for _ in range(2)],
        strides=[rng.choice((1, 1, 1, 2)) for _ in range(2)],
    )


def tflite_model(rng: Random) -> bytes:
    """A deconv of any of the types, or a convolution of a stretched map."""
    if rng.random() < 0.4:
        return in_tflite.model_of(
            rng.choice(TFLITE_FRONTS)(rng),
            kernel=(rng.choice((1, 2, 3, 5)), rng.choice((1, 3, 4))),
            outs=rng.choice((1, 2, 4)),
            same=rng.random() < 0.7,
            weights=rng.choice(("float32", "float32", "float16", "hybrid", "int8")),
            bias=rng.random() < 0.7,
            seed=rng.getrandbits(20),
        )
    stride = (rng.choice((1, 2, 2, 3)), rng.choice((1, 2, 3, 4)))
    case = tflite_models.Case(
        kind=rng.choice(tflite_models.KINDS),
        batch=rng.choice((1, 1, 2)),
        in_sizes=(rng.randrange(1, 7), rng.randrange(1, 7)),
        kernel=(rng.choice((1, 2, 3, 4, 5)), rng.choice((1, 2, 3, 4, 5))),
        stride=stride,
        in_channels=rng.choice((1, 2, 3, 8)),
        out_channels=rng.choice((1, 2, 5)),
        same=rng.random() < 0.6,
        bias=rng.random() < 0.6,
        activation=rng.choice((0, 0, 1, 3)),
        seed=rng.getrandbits(20),
    )
    return tflite_models.build(case)


def open_tflite_model(rng: Random) -> tuple[bytes, tuple[int, ...]]:
    """A deconv whose output shape is computed from that of its open input, and sizes for it."""
    channels = rng.choice((1, 3, 8))
    case = tflite_models.Case(
        kind=rng.choice(tflite_models.KINDS),
        kernel=(rng.choice((1, 2, 3, 5)), rng.choice((1, 2, 4))),
        stride=(rng.choice((1, 2, 3)), rng.choice((1, 2, 4))),
        in_channels=channels,
        out_channels=channels,
        same=rng.random() < 0.6,
        bias=rng.random() < 0.6,
        activation=rng.choice((0, 0, 1, 3)),
        seed=rng.getrandbits(20),
    )
    root = tflite_models.loaded(tflite_models.build(case)).root
    tree = tflite_models.Tree(root, root.subgraphs[0])
    graph, before = tree.graph, len(tree.graph.operators)
    (deconv,) = (each for each in graph.operators if each.builtinOptionsType == tfl.BuiltinOptions.TransposeConvOptions)
    x, y = int(graph.inputs[0]), int(graph.outputs[0])
    beyond = [0 if case.same else size - step for size, step in zip(case.kernel, case.stride, strict=True)]
    shape, grown, sizes = (tree.tensor("int32", (4,), f"sizes{number}") for number in range(3))
    factors = tree.tensor("int32", (4,), "factors", values=[1, *case.stride, 1])
    more = tree.tensor("int32", (4,), "more", values=[0, *beyond, 0])
    tree.operator("SHAPE", 1, [x], shape, tfl.ShapeOptionsT(outType=tflite_models.TYPES["int32"]))
    tree.operator("MUL", 1, [shape, factors], grown, tfl.MulOptionsT())
    tree.operator("ADD", 1, [grown, more], sizes, tfl.AddOptionsT())
    graph.operators = [*graph.operators[before:], *graph.operators[:before]]
    deconv.inputs = np.array([sizes, *deconv.inputs[1:]], np.int32)
    for tensor in (x, y):
        graph.tensors[tensor].shapeSignature = np.array([-1, -1, -1, channels], np.int32)
    return tree.packed([x], [y]), (rng.choice((1, 2)), rng.randrange(1, 7), rng.randrange(1, 7), channels)


def tflite_outputs(content: bytes, sizes: tuple[int, ...] = ()) -> list[Any] | None:
    """What LiteRT's own kernels make of a model on fixed inputs, or None where they do not run it.

    Args:
        content: of its file.
        sizes: of its input, where it leaves them open.
    """
    try:
        runtime = Interpreter(
            model_content=content,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        if sizes:
            runtime.resize_tensor_input(runtime.get_input_details()[0]["index"], sizes)
        runtime.allocate_tensors()
        rng = np.random.default_rng(0)
        for each in runtime.get_input_details():
            drawn = rng.standard_normal(each["shape"]) * (1 if each["dtype"](0).dtype.kind == "f" else 40)
            runtime.set_tensor(each["index"], drawn.astype(each["dtype"]))
        runtime.invoke()
        return [runtime.get_tensor(each["index"]) for each in runtime.get_output_details()]
    except (RuntimeError, ValueError):
        return None


def pairs(before: list[Any], after: list[Any]) -> list[tuple[Any, Any]]:
    """Outputs side by side; a missing one stands beside an empty array."""
    return list(itertools.zip_longest(before, after, fillvalue=np.zeros(0)))
