"""Random sound ONNX models of a deconv whose weights are an input, or are computed when the model runs."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.attack.onnx_models import Build, behind, geometry

KINDS = (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
STYLES = 4


class Computed:
    """A model that grows; what it reads beside ``x`` is an input of its own."""

    def __init__(self, rng: Random) -> None:
        self.build = Build(rng, rng.choice((11, 13, 16, 17, 18, 21)), rng.choice((1, 2, 2, 3)))
        self.kind = rng.choice(KINDS)
        self.dtype = helper.tensor_dtype_to_np_dtype(self.kind)
        self.others: list[onnx.ValueInfoProto] = []
        self.functions: list[onnx.FunctionProto] = []

    def given(self, name: str, shape: Any) -> str:
        """Another input."""
        self.others.append(helper.make_tensor_value_info(name, self.kind, shape))
        return name

    def drawn(self, *shape: int) -> str:
        """A constant."""
        return self.build.constant(self.build.values.standard_normal(shape).astype(self.dtype))

    def sizes(self, *sizes: int) -> str:
        """A constant shape."""
        return self.build.constant(np.array(sizes, np.int64))


def model(rng: Random) -> onnx.ModelProto:
    """Weights from one of several places, in images as groups too, and up to two operators behind the deconv."""
    growing = Computed(rng)
    build = growing.build
    channels, outs = rng.choice((1, 2, 3)), rng.choice((1, 2, 3))
    attributes = geometry(rng, build.rank)
    kernel = attributes.pop("kernel")
    sizes = [rng.randrange(1, 7) for _ in range(build.rank)]
    if rng.random() < 0.3:
        batch = rng.choice((1, 2, 3))
        _images_as_groups(growing, batch, channels, (outs, *kernel), sizes, attributes)
        shape: list[int | str] = [batch, channels, *sizes]
        channels = batch * outs
    else:
        source, start = rng.choice((_given, _negated, _scaled, _of_a_network)), build.last
        weight = source(growing, (channels, outs, *kernel))
        operands = [start, weight]
        if rng.random() < 0.5:
            operands.append(growing.given("b", [outs]) if rng.random() < 0.5 else growing.drawn(outs))
        _deconv(growing, operands, attributes)
        shape = [rng.choice((1, 2, "N")), channels, *sizes]
        channels = outs
    for _ in range(rng.randrange(3)):
        channels = behind(build, channels, growing.dtype)
    x = helper.make_tensor_value_info("x", growing.kind, shape)
    found = build.model(x, growing.kind, *growing.others)
    if growing.functions:
        found.functions.extend(growing.functions)
        found.opset_import.append(helper.make_opsetid("own", 1))
    return found


def _given(growing: Computed, shape: tuple[int, ...]) -> str:
    return growing.given("w", shape)


def _negated(growing: Computed, shape: tuple[int, ...]) -> str:
    return growing.build.add("Neg", growing.given("v", shape))


def _scaled(growing: Computed, shape: tuple[int, ...]) -> str:
    style = growing.given("s", [shape[0], *[1] * (len(shape) - 1)])
    return growing.build.add("Mul", growing.drawn(*shape), style)


def _of_a_network(growing: Computed, shape: tuple[int, ...]) -> str:
    flat = growing.build.add("MatMul", growing.given("s", [1, STYLES]), growing.drawn(STYLES, int(np.prod(shape))))
    return growing.build.add("Reshape", flat, growing.sizes(*shape))


def _images_as_groups(
    growing: Computed,
    batch: int,
    channels: int,
    kernel: tuple[int, ...],
    sizes: list[int],
    attributes: dict[str, Any],
) -> None:
    """As StyleGAN2 modulates: a group for each image, whose weights its style scales."""
    build = growing.build
    maps = build.add("Reshape", "x", growing.sizes(1, batch * channels, *sizes))
    style = growing.given("s", [batch, channels, *[1] * len(kernel)])
    scaled = build.add("Mul", growing.drawn(1, channels, *kernel), style)
    weight = build.add("Reshape", scaled, growing.sizes(batch * channels, *kernel))
    _deconv(growing, [maps, weight], {"group": batch, **attributes})


def _deconv(growing: Computed, operands: list[str], attributes: dict[str, Any]) -> None:
    """A ConvTranspose, in a function that is given its weights or not."""
    build = growing.build
    if build.rng.random() < 0.7:
        build.add("ConvTranspose", *operands, **attributes)
        return
    names = ["a", "w", "b"][: len(operands)]
    node = helper.make_node("ConvTranspose", names, ["c"], name="inner", **attributes)
    body = helper.make_function("own", "Up", names, ["c"], [node], [helper.make_opsetid("", build.opset)])
    growing.functions.append(body)
    build.add("Up", *operands, domain="own")
