"""Arithmetic of channels around a deconv of an exported program, which goes into its weights and bias.

Before: [mul, …] → conv_transpose → [batch_norm in evaluation, mul, add, sub, div, …]. After: conv_transpose.
The same for a convolution of a stretched map, of which only what follows is folded.
"""

from __future__ import annotations

import operator
from collections.abc import Set
from typing import Any

import numpy as np
from torch import Tensor, fx

from splitdeconv.deconv.folding import ChannelArithmetic, arithmetic_of, normalisation
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.folding import Around, FoldedStep, OwnValues, Surroundings
from splitdeconv.formats.model import Site
from splitdeconv.formats.torch.constants import StoredTensors
from splitdeconv.formats.torch.model import array_of
from splitdeconv.formats.torch.movement import name_of, viewed, works_in_place
from splitdeconv.formats.torch.stretched import StretchedConv
from splitdeconv.torch_modules.arithmetic import is_channel_wise
from splitdeconv.torch_modules.graphs import ATEN, Call

PARAMETERS = ("input", "weight", "bias")  # of a call, before its numbers
OTHER_TYPE = "has weights of {}, and folding is done in float32"
_PAIR = ATEN._native_batch_norm_legit_no_training.default  # its result is the first of three


class CallsAround(Surroundings[fx.Node]):
    """The nodes around sites.

    Args:
        constants: of the program.
    """

    def __init__(self, constants: StoredTensors) -> None:
        self._constants = constants

    def behind(self, site: Site) -> tuple[FoldedStep[fx.Node], ...]:
        found, value = list[FoldedStep[fx.Node]](), site.origin.nodes[0].node
        while len(value.users) == 1:
            (reader,) = value.users
            step = self._step(reader, value, site.deconv.out_channels, len(site.deconv.axes))
            if step is None:
                break
            found.append(step)
            value = result_of(reader)
        return tuple(found)

    def in_front(self, site: Site, taken: Set[fx.Node]) -> tuple[FoldedStep[fx.Node], ...]:
        found, reader = list[FoldedStep[fx.Node]](), site.origin.nodes[0].node
        value, channels, rank = reader.args[0], site.deconv.in_channels, len(site.deconv.axes)
        while len(value.users) == 1:
            node = value.args[0] if value.target is operator.getitem else value
            steps = (self._step(node, each, channels, rank) for each in node.all_input_nodes)
            step = next((each for each in steps if each is not None), None)
            if step is None or node in taken or _is_written(node.args[step.map_at]):
                break
            found.insert(0, step)
            value = node.args[step.map_at]
        return tuple(found)

    def refuse(self, site: Site, around: Around[fx.Node]) -> str | None:
        weight = self._constants.value(site.origin.nodes[0].weight)
        assert weight is not None, "only calls with stored weights are sites"
        name = str(weight.dtype).removeprefix("torch.")
        return None if name == "float32" else OTHER_TYPE.format(name)

    def values(self, site: Site) -> OwnValues:
        return own_values(site.origin.nodes[0], self._constants)

    def _step(self, node: fx.Node, source: fx.Node, channels: int, rank: int) -> FoldedStep[fx.Node] | None:
        """What a node computes of the map ``source`` and constants, or None where it is not linear."""
        given = list(node.args[:2])
        if node.op != "call_function" or given.count(source) != 1 or not _is_alike(result_of(node), source):
            return None
        map_at, name = given.index(source), name_of(node)
        number_first = (map_at == 1) != (name == "rsub")  # as 1 - x is exported
        name = name.replace("rsub", "sub")
        if name in ("batch_norm", "_native_batch_norm_legit_no_training"):
            arithmetic = self._normalised(node, channels)
        else:
            plain = len(node.args) == 2 and not node.kwargs
            number = self._number(given[1 - map_at], channels, rank) if plain else None
            arithmetic = None if number is None else arithmetic_of(name, number, channels, number_first=number_first)
        return None if arithmetic is None else FoldedStep(node, name, map_at, arithmetic)

    def _normalised(self, node: fx.Node, channels: int) -> ChannelArithmetic | None:
        """What a batch norm computes; None in training, or where what it has learnt is not stored."""
        if node.target != _PAIR and node.args[5]:
            return None
        epsilon: Any = node.args[6 if node.target == _PAIR else 7]
        given = [None if each is None else self._constants.value(each) for each in node.args[1:5]]
        gamma, beta, mean, variance = (None if each is None else array_of(each) for each in given)
        missing = any(stated is not None and value is None for stated, value in zip(node.args[1:5], given, strict=True))
        if missing or mean is None or variance is None:
            return None
        gamma = np.ones(channels) if gamma is None else gamma
        return normalisation(gamma, np.zeros(channels) if beta is None else beta, mean, variance, epsilon)

    def _number(self, given: Any, channels: int, rank: int) -> Array | None:
        """One number, or one for each channel; None where it is something else, or no constant."""
        if isinstance(given, int | float) and not isinstance(given, bool):
            return np.asarray(given, np.float64)
        value = self._constants.value(given) if isinstance(given, fx.Node) else None
        if value is None or not value.is_floating_point():
            return None
        return array_of(value) if is_channel_wise(value.shape, channels, rank) else None


def result_of(node: fx.Node) -> fx.Node:
    """What holds a node's map: the node, or what takes it out of several results, if that alone reads them."""
    (reader, *others) = node.users or (node,)
    first = node.target == _PAIR and not others and reader.target is operator.getitem and reader.args[1] == 0
    return reader if first else node


def own_values(call: Call | StretchedConv, constants: StoredTensors) -> OwnValues:
    """The parameters of a call."""
    weight = constants.value(call.weight)
    bias = None if call.bias is None else constants.value(call.bias)
    assert weight is not None, "only calls with stored weights are sites"
    return OwnValues(array_of(weight), None if bias is None else array_of(bias), isinstance(call, StretchedConv))


def _is_alike(node: fx.Node, source: fx.Node) -> bool:
    """Whether both hold maps of the same sizes and type."""
    found, wanted = node.meta.get("val"), source.meta.get("val")
    if not isinstance(found, Tensor) or not isinstance(wanted, Tensor) or found.dtype != wanted.dtype:
        return False
    return list(map(str, found.shape)) == list(map(str, wanted.shape))


def _is_written(source: fx.Node) -> bool:
    """Whether some node writes into the memory of a map, which is read later then than it was."""
    memory = viewed(source)
    return any(works_in_place(node) and viewed(node.args[0]) is memory for node in source.graph.nodes)


def with_parameters(node: fx.Node, x: fx.Node, weight: fx.Node, bias: fx.Node | None) -> None:
    """Give a call another map and other parameters; its numbers stay."""
    node.args = (x, weight, bias, *node.args[3:])
    node.kwargs = {name: value for name, value in node.kwargs.items() if name not in PARAMETERS}
