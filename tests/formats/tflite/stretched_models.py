"""Small TFLite models of a convolution behind an upsampling, or inserted zeros, as exporters write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from splitdeconv.deconv.weights import Array
from tests.formats.tflite.stretched_front import DEFAULT_KERNEL, W_SCALE, X_UNIT, Front, Sizes
from tests.tflite_models import quant

CHANNELS, OUT_CHANNELS = 3, 4
SIZES = (5, 6)
Write = Callable[[Front], None]


def resize(rows: int = 2, columns: int = 2, **flags: bool) -> Write:
    """RESIZE_NEAREST_NEIGHBOR by whole factors."""

    def write(front: Front) -> None:
        batch, height, width, channels = front.shape
        sizes = (height * rows, width * columns)
        options = tfl.ResizeNearestNeighborOptionsT(**flags)
        version = 3 if flags else {"int8": 2, "int16": 4}.get(front.dtype, 1)
        front.op(
            "RESIZE_NEAREST_NEIGHBOR", (batch, *sizes, channels), front.ints(sizes), options=options, version=version
        )

    return write


def keras(rows: int = 2, columns: int = 2) -> Write:
    """Keras 3: RESHAPE–TILE–RESHAPE for each axis."""

    def write(front: Front) -> None:
        for axis, factor in ((1, rows), (2, columns)):
            shape = front.shape
            front.reshape(*shape[: axis + 1], 1, *shape[axis + 1 :])
            tiles = [factor if n == axis + 1 else 1 for n in range(5)]
            front.op("TILE", (*shape[: axis + 1], factor, *shape[axis + 1 :]), front.ints(tiles))
            front.reshape(*shape[:axis], shape[axis] * factor, *shape[axis + 1 :])

    return write


def keras_open(front: Front) -> None:
    """Keras 3 with an open batch: EXPAND_DIMS–TILE–RESHAPE to a computed shape for each axis."""
    for axis in (1, 2):
        shape = front.shape
        opened = (*shape[: axis + 1], 1, *shape[axis + 1 :])
        front.op("EXPAND_DIMS", opened, front.ints(axis + 1), options=tfl.ExpandDimsOptionsT())
        tiles = [2 if n == axis + 1 else 1 for n in range(5)]
        front.op("TILE", (*shape[: axis + 1], 2, *shape[axis + 1 :]), front.ints(tiles))
        front.reshape(*shape[:axis], shape[axis] * 2, *shape[axis + 1 :])


def gather_nd(front: Front) -> None:
    """litert-torch: GATHER_ND in NCHW, between TRANSPOSEs."""
    batch, height, width, channels = front.shape
    front.op("TRANSPOSE", (height, width, batch, channels), front.ints([1, 2, 0, 3]), options=tfl.TransposeOptionsT())
    places = np.stack(np.meshgrid(np.arange(2 * height) // 2, np.arange(2 * width) // 2, indexing="ij"), axis=-1)
    front.op("GATHER_ND", (2 * height, 2 * width, batch, channels), front.ints(places), options=tfl.GatherNdOptionsT())
    shape = (batch, 2 * height, 2 * width, channels)
    front.op("TRANSPOSE", shape, front.ints([2, 0, 1, 3]), options=tfl.TransposeOptionsT())


def lines(front: Front) -> None:
    """Keras 2: each line of an axis twice, one CONCATENATION."""
    for axis in (1, 2):
        shape, source = front.shape, front.value
        parts = []
        for line in range(shape[axis]):
            begin = [line if n == axis else 0 for n in range(4)]
            sizes = [1 if n == axis else size for n, size in enumerate(shape)]
            front.value, front.shape = source, shape
            front.op("SLICE", sizes, front.ints(begin), front.ints(sizes), options=tfl.SliceOptionsT())
            parts += [front.value, front.value]
        front.value = parts[0]
        grown = [size * 2 if n == axis else size for n, size in enumerate(shape)]
        front.op("CONCATENATION", grown, *parts[1:], options=tfl.ConcatenationOptionsT(axis=axis))


def keras_3d(front: Front) -> None:
    """RESHAPE–TILE–RESHAPE for each of three axes, the pixels before and behind as one axis each."""
    for axis in (1, 2, 3):
        shape = front.shape
        before, behind = (int(np.prod(part)) for part in (shape[: axis + 1], shape[axis + 1 :]))
        front.reshape(before, 1, behind)
        front.op("TILE", (before, 2, behind), front.ints([1, 2, 1]))
        front.reshape(*shape[:axis], shape[axis] * 2, *shape[axis + 1 :])


def line_of_pixels(front: Front) -> None:
    """A 1-D upsampling by GATHER_ND, then a height of 1."""
    batch, width, channels = front.shape
    front.op("TRANSPOSE", (width, batch, channels), front.ints([1, 0, 2]), options=tfl.TransposeOptionsT())
    places = np.arange(2 * width)[:, np.newaxis] // 2
    front.op("GATHER_ND", (2 * width, batch, channels), front.ints(places), options=tfl.GatherNdOptionsT())
    front.op("TRANSPOSE", (batch, 2 * width, channels), front.ints([1, 0, 2]), options=tfl.TransposeOptionsT())
    front.reshape(batch, 1, 2 * width, channels)


def line_of_columns(front: Front) -> None:
    """litert-torch's 1-D upsampling: NCW, GATHER_ND of the columns, then a height of 1 behind the channels."""
    batch, channels, width = front.shape
    front.op("TRANSPOSE", (width, batch, channels), front.ints([2, 0, 1]), options=tfl.TransposeOptionsT())
    places = np.arange(2 * width)[:, np.newaxis] // 2
    front.op("GATHER_ND", (2 * width, batch, channels), front.ints(places), options=tfl.GatherNdOptionsT())
    front.op("TRANSPOSE", (batch, channels, 2 * width), front.ints([1, 2, 0]), options=tfl.TransposeOptionsT())
    front.reshape(batch, channels, 1, 2 * width)
    shape = (batch, 1, 2 * width, channels)
    front.op("TRANSPOSE", shape, front.ints([0, 2, 3, 1]), options=tfl.TransposeOptionsT())


def to_channels_last(front: Front) -> None:
    batch, channels, height, width = front.shape
    shape = (batch, height, width, channels)
    front.op("TRANSPOSE", shape, front.ints([0, 2, 3, 1]), options=tfl.TransposeOptionsT())


def bilinear(front: Front) -> None:
    batch, height, width, channels = front.shape
    sizes = (2 * height, 2 * width)
    front.op("RESIZE_BILINEAR", (batch, *sizes, channels), front.ints(sizes), options=tfl.ResizeBilinearOptionsT())


def resized(factor: int) -> bytes:
    """RESIZE_NEAREST_NEIGHBOR alone, of five rows."""
    front = Front("float32", (1, 5, 1, 1), None)
    resize(factor, 1)(front)
    return front.tree.packed([front.x], [front.value])


def packed(front: Front) -> None:
    """PACK of a map with itself behind each axis."""
    for axis in (1, 2):
        shape = front.shape
        options = tfl.PackOptionsT(valuesCount=2, axis=axis + 1)
        front.op("PACK", (*shape[: axis + 1], 2, *shape[axis + 1 :]), front.value, options=options)
        front.reshape(*shape[:axis], shape[axis] * 2, *shape[axis + 1 :])


def channels_first(front: Front) -> None:
    """A source in NCHW, transposed behind the upsampling of its last two axes."""
    batch, channels, height, width = front.shape
    front.reshape(batch, channels, height, 1, width, 1)
    grown = (batch, channels, height, 2, width, 2)
    front.op("BROADCAST_TO", grown, front.ints(grown), version=2)
    front.reshape(batch, channels, 2 * height, 2 * width)
    shape = (batch, 2 * height, 2 * width, channels)
    front.op("TRANSPOSE", shape, front.ints([0, 2, 3, 1]), options=tfl.TransposeOptionsT())


def stablehlo_pad(rows: int = 2, columns: int = 2, edges: Sizes = (0, 0, 0, 0)) -> Write:
    """JAX's ``lax.pad`` with interior padding."""

    def write(front: Front) -> None:
        batch, height, width, channels = front.shape
        top, left, bottom, right = edges
        options = tfl.StablehloPadOptionsT(
            edgePaddingLow=np.array([0, top, left, 0], np.int64),
            edgePaddingHigh=np.array([0, bottom, right, 0], np.int64),
            interiorPadding=np.array([0, rows - 1, columns - 1, 0], np.int64),
        )
        sizes = ((height - 1) * rows + 1 + top + bottom, (width - 1) * columns + 1 + left + right)
        front.op("STABLEHLO_PAD", (batch, *sizes, channels), front.zero(), options=options)

    return write


def dilate(front: Front) -> None:
    batch, height, width, channels = front.shape
    sizes = ((height - 1) * 2 + 1, (width - 1) * 3 + 1)
    options = tfl.DilateOptionsT()
    front.op("DILATE", (batch, *sizes, channels), front.ints([1, 2, 3, 1]), front.zero(), options=options)


def one_tap(front: Front) -> None:
    """TRANSPOSE_CONV with a single 1 for each channel."""
    batch, height, width, channels = front.shape
    kernel = np.zeros((channels, 2, 2, channels), np.float32)
    kernel[np.arange(channels), 0, 0, np.arange(channels)] = 1
    sizes = (batch, 2 * height, 2 * width, channels)
    weights = front.tree.tensor("float32", kernel.shape, "one", values=kernel)
    options = tfl.TransposeConvOptionsT(padding=1, strideH=2, strideW=2)
    front.op("TRANSPOSE_CONV", sizes, front.ints(sizes), weights, options=options, at=2)


def padded_zeros(front: Front) -> None:
    """``upfirdn2d``: RESHAPE–PAD–RESHAPE."""
    batch, height, width, channels = front.shape
    front.reshape(batch, height, 1, width, channels)
    front.op("PAD", (batch, height, 2, width, channels), front.ints([[0, 0], [0, 0], [0, 1], [0, 0], [0, 0]]))
    front.reshape(batch, 2 * height, width, channels)
    front.reshape(batch, 2 * height, width, 1, channels)
    front.op("PAD", (batch, 2 * height, width, 2, channels), front.ints([[0, 0], [0, 0], [0, 0], [0, 1], [0, 0]]))
    front.reshape(batch, 2 * height, 2 * width, channels)


def torch_upfirdn2d(front: Front) -> None:
    """``upfirdn2d`` of NCHW as litert-torch writes pads: by STABLEHLO_PAD, here of six axes; then a TRANSPOSE."""

    def padded(low: Sizes, high: Sizes) -> None:
        counts = [np.array(each, np.int64) for each in (low, high, [0] * len(low))]
        options = tfl.StablehloPadOptionsT(*counts)
        shape = [size + sum(pair) for size, *pair in zip(front.shape, low, high, strict=True)]
        front.op("STABLEHLO_PAD", shape, front.zero(), options=options)

    batch, channels, height, width = front.shape
    front.reshape(batch, channels, height, 1, width, 1)
    padded([0] * 6, [0, 0, 0, 1, 0, 1])
    front.reshape(batch, channels, 2 * height, 2 * width)
    padded([0, 0, 2, 2], [0, 0, 1, 1])
    to_channels_last(front)


def pad(mode: str = "") -> Write:
    """One pixel around: zeros, or MIRROR_PAD."""

    def write(front: Front) -> None:
        batch, height, width, channels = front.shape
        counts = front.ints([[0, 0], [1, 1], [1, 1], [0, 0]])
        name = "MIRROR_PAD" if mode else "PAD"
        options = tfl.MirrorPadOptionsT(mode=getattr(tfl.MirrorPadMode, mode)) if mode else tfl.PadOptionsT()
        version = 2 if front.dtype == "int8" else 1
        front.op(name, (batch, height + 2, width + 2, channels), counts, options=options, version=version)

    return write


def crop(front: Front) -> None:
    batch, height, width, channels = front.shape
    sizes = (batch, height - 2, width - 2, channels)
    front.op("SLICE", sizes, front.ints([0, 1, 1, 0]), front.ints(sizes), options=tfl.SliceOptionsT())


def unary(name: str) -> Write:
    return lambda front: front.op(name, front.shape, version=2 if front.dtype == "int8" else 1)


def beside(*order: str) -> Write:
    """CONCATENATION of the latest map ``v`` with ``s``, the input with zeros behind, and ``t``, twice that."""

    def write(front: Front) -> None:
        stretched, shape = front.value, front.shape
        front.value = front.x
        small = front.tree.graph.tensors[front.x].shape
        grown = [[0, large - int(size)] for large, size in zip(shape, small, strict=True)]
        front.op("PAD", shape, front.ints(grown), options=tfl.PadOptionsT(), version=2 if front.dtype == "int8" else 1)
        maps = {"v": stretched, "s": front.value}
        if "t" in order:
            constant("MUL", 2.0)(front)
            maps["t"] = front.value
        first, *others = (maps[name] for name in order)
        front.value = first
        options = tfl.ConcatenationOptionsT(axis=len(shape) - 1)
        together = (*shape[:-1], shape[-1] * len(order))
        front.op("CONCATENATION", together, *others, options=options, version=2 if front.dtype == "int8" else 1)

    return write


def constant(name: str, values: Any, *, first: bool = False) -> Write:
    """ADD, MUL or SUB with a constant."""

    def write(front: Front) -> None:
        other = front.tree.tensor("float32", np.shape(values), "constant", values=values)
        front.op(name, front.shape, other, options=getattr(tfl, f"{name.title()}OptionsT")(), at=int(first))

    return write


def whole_numbers(shape: Sizes, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(-4, 5, shape)


def model_of(
    *writes: Write,
    dims: Sizes = (1, *SIZES, CHANNELS),
    kernel: Sizes = DEFAULT_KERNEL,
    kind: str = "CONV_2D",
    outs: int = OUT_CHANNELS,
    groups: int = 1,
    same: bool = True,
    strides: int = 1,
    dilations: Sizes = (1, 1),
    activation: int = 0,
    weights: str = "float32",
    open_batch: bool = False,
    keep: bool = False,
    bias: bool = True,
    seed: int = 0,
) -> bytes:
    """Input ``x``, the operators of ``writes``, a convolution; its output ``y``, with ``keep`` also what it reads.

    Args:
        kind: the convolution's operator.
        outs: its output channels, for each input channel where it is depthwise.
        weights: ``float32``, ``float16`` or ``int8_opened`` behind a DEQUANTIZE, ``hybrid``, ``int8``.
    """
    dtype = "int8" if weights == "int8" else "float32"
    front = Front(dtype, dims, X_UNIT if dtype == "int8" else None, open_batch=open_batch)
    for write in writes:
        write(front)
    channels = front.shape[-1]
    shape = {
        "CONV_2D": (outs, *kernel, channels // groups),
        "CONV_3D": (*kernel, channels, outs),
        "DEPTHWISE_CONV_2D": (1, *kernel, channels * outs),
        "TRANSPOSE_CONV": (outs, *kernel, channels),
    }[kind]
    total = channels * outs if kind == "DEPTHWISE_CONV_2D" else outs
    operands = [front.value, _weights(front, kind, shape, total, weights, seed)]
    if bias:
        unit = None if dtype == "float32" else quant(X_UNIT.scale * np.full(total, W_SCALE))
        values = whole_numbers((total,), seed + 1)
        operands.append(front.tree.tensor("float32" if unit is None else "int32", (total,), "bias", unit, values))
    sizes = [
        -(-size // strides) if same else -(-(size - (k - 1) * d) // strides)
        for size, k, d in zip(front.shape[1:-1], kernel, dilations, strict=True)
    ]
    if kind == "TRANSPOSE_CONV" and not same:
        sizes = [size + k - 1 for size, k in zip(front.shape[1:-1], kernel, strict=True)]
    stretched = front.value
    y = front.tree.tensor(
        dtype, (front.shape[0], *sizes, total), "site;more", quant(8.0, -2) if dtype == "int8" else None
    )
    if open_batch:
        front.tree.graph.tensors[y].shapeSignature = np.asarray([-1, *sizes, total], np.int32)
    if kind == "TRANSPOSE_CONV":
        operands = [front.ints([front.shape[0], *sizes, total]), operands[1], operands[0], *operands[2:]]
    version = 3 if dtype == "int8" or kind == "TRANSPOSE_CONV" else 5 if weights == "hybrid" else 6 if groups > 1 else 1
    version = 2 if kind == "DEPTHWISE_CONV_2D" and version == 1 else version
    options = _options(kind, outs, same, strides, dilations, activation)
    front.tree.operator(kind, version, operands, y, options)
    return front.tree.packed([front.x], [y, stretched] if keep else [y])


def _weights(front: Front, kind: str, shape: Sizes, total: int, weights: str, seed: int) -> int:
    values = whole_numbers(shape, seed)
    if weights == "float32":
        return front.tree.tensor("float32", shape, "w", values=values)
    if weights in ("float16", "int8_opened"):
        unit = quant(0.5) if weights == "int8_opened" else None
        stored = front.tree.tensor(weights.removesuffix("_opened"), shape, "stored", unit, values)
        opened = front.tree.tensor("float32", shape, "w")
        front.tree.operator("DEQUANTIZE", 3, [stored], opened, tfl.DequantizeOptionsT())
        return opened
    unit = quant(np.full(total, W_SCALE))
    unit.quantizedDimension = 3 if kind == "DEPTHWISE_CONV_2D" else 0
    return front.tree.tensor("int8", shape, "w", unit, values * 9)


def _options(kind: str, outs: int, same: bool, strides: int, dilations: Sizes, activation: int) -> Any:
    padding = tfl.Padding.SAME if same else tfl.Padding.VALID
    if kind == "TRANSPOSE_CONV":
        return tfl.TransposeConvOptionsT(padding=padding, strideH=1, strideW=1, fusedActivationFunction=activation)
    options = {
        "CONV_2D": tfl.Conv2DOptionsT,
        "CONV_3D": tfl.Conv3DOptionsT,
        "DEPTHWISE_CONV_2D": lambda: tfl.DepthwiseConv2DOptionsT(depthMultiplier=outs),
    }[kind]()
    options.padding, options.fusedActivationFunction = padding, activation
    for end, dilation in zip(("D", "H", "W")[-len(dilations) :], dilations, strict=True):
        setattr(options, f"stride{end}", strides)
        setattr(options, f"dilation{end}Factor", dilation)
    return options


def two_readers() -> bytes:
    """Two convolutions of one upsampled map."""
    front = Front("float32", (1, *SIZES, CHANNELS), None)
    resize()(front)
    outputs = []
    for name, kernel in (("one", (3, 3)), ("two", (2, 5))):
        values = whole_numbers((OUT_CHANNELS, *kernel, CHANNELS))
        weights = front.tree.tensor("float32", values.shape, f"w_{name}", values=values)
        bias = front.tree.tensor("float32", (OUT_CHANNELS,), f"b_{name}", values=whole_numbers((OUT_CHANNELS,)))
        outputs.append(front.tree.tensor("float32", (*front.shape[:3], OUT_CHANNELS), name))
        options = _options("CONV_2D", OUT_CHANNELS, True, 1, (1, 1), 0)
        front.tree.operator("CONV_2D", 1, [front.value, weights, bias], outputs[-1], options)
    return front.tree.packed([front.x], outputs)
