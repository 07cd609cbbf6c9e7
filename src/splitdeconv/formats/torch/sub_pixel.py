"""Convolutions whose channels become pixels in exported programs, found by where elements go, and as conv_transpose.

Before: conv → pixel_shuffle, or views and permutations. After: conv_transpose, and an addition where phases have biases
of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from splitdeconv.deconv.sub_pixel import COMPUTED_BIAS, LONGEST, OTHER_TYPE, SubPixel, finer, numbered
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Origin, SubPixelSite
from splitdeconv.formats.torch.constants import StoredTensors
from splitdeconv.formats.torch.fold import PARAMETERS
from splitdeconv.formats.torch.model import array_of
from splitdeconv.formats.torch.movement import name_of
from splitdeconv.formats.torch.sizes import Shape, Sizes
from splitdeconv.formats.torch.stretched import convolution_of, name_for
from splitdeconv.formats.torch.written import Written, write
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.results.plan import Skipped

_SHUFFLE = "pixel_shuffle"
_MOVES = frozenset(
    [
        *(_SHUFFLE, "_unsafe_view", "clone", "contiguous", "flatten", "permute", "reshape", "squeeze", "transpose"),
        *("unflatten", "unsqueeze", "view"),
    ]
)


def find_sub_pixels(program: ExportedProgram, sizes: Sizes) -> Iterator[SubPixelSite | Skipped]:
    """Convolutions whose channels become the pixels of a finer map; or why one is none that a deconv computes."""
    constants = StoredTensors(program)
    for node in program.graph.nodes:
        if (found := _read(node, sizes, constants)) is not None:
            yield found


def _read(node: fx.Node, sizes: Sizes, constants: StoredTensors) -> SubPixelSite | Skipped | None:
    call = convolution_of(node)
    if call is None or max(call[3].strides) > 1:
        return None
    x, weight, bias, geometry = call
    moves, channels, factors = _followed(node, sizes.of(node))
    if not factors:
        return None
    batch, in_channels, *in_sizes = sizes.of(x)
    spec = SubPixel(
        geometry.kernel, geometry.dilations, geometry.pads, factors, geometry.groups, in_channels or 0, channels
    )
    kernel, added = (None if each is None else constants.value(each) for each in (weight, bias))
    name, reason = name_for(node), spec.refuse()
    if kernel is None:
        return None  # computed from the model's inputs: nothing that a deconv could store
    if kernel.dtype != torch.float32:
        reason = OTHER_TYPE.format(str(kernel.dtype).removeprefix("torch."))
    elif (added is None) != (bias is None):
        reason = COMPUTED_BIAS
    if reason is not None:
        return Skipped(name, "graph", reason)
    operators = tuple(name_of(each) for each in (node, *moves))
    own = array_of(kernel), None if added is None else array_of(added)
    return SubPixelSite(name, spec, batch, tuple(in_sizes), *own, operators, "graph", Origin((node, moves)))


def _followed(node: fx.Node, shape: Shape) -> tuple[tuple[fx.Node, ...], tuple[int, ...], tuple[int, ...]]:
    """The nodes up to a finer map, and its channels and factors as of :class:`SubPixel`; all empty without one."""
    coarse, value, moves = numbered(shape), node, list[fx.Node]()
    index = None if coarse is None else torch.from_numpy(coarse)
    while coarse is not None and index is not None and len(value.users) == 1 and len(moves) < LONGEST:
        (reader,) = value.users
        if name_of(reader) not in _MOVES or reader.all_input_nodes != [value]:
            break
        if None in shape and name_of(reader) != _SHUFFLE:
            break
        try:
            index = reader.target(index, *reader.args[1:], **reader.kwargs)
        except (RuntimeError, TypeError):  # the sizes that open ones are taken to have do not fit
            break
        moves.append(reader)
        channels, factors = finer(index.numpy(), coarse.shape)
        if factors:
            return tuple(moves), channels, factors
        value = reader
    return (), (), ()


def write_sub_pixel(
    site: SubPixelSite, x: Tensor, kernel: Array, bias: Array | None, like: Tensor | None = None
) -> Written:
    """The graph of its deconv of the map ``x``; as of :func:`write`."""
    own, phases = site.spec.split_bias(bias)
    program = lower(replace(site.deconv, has_bias=own is not None), "NCHW", NATIVE)
    weight = torch.from_numpy(site.spec.deconv_kernel(kernel))
    more = () if phases is None else (_of_phases(phases),)
    behind = None if phases is None else _add_phases(site.spec)
    return write(program, [x], weight, None if own is None else torch.from_numpy(own), like, behind=behind, more=more)


def _of_phases(phases: Array) -> Tensor:
    """``(C, *factors)`` with an axis of 1 before each factor."""
    shape = [phases.shape[0], *(each for factor in phases.shape[1:] for each in (1, factor))]
    return torch.from_numpy(phases.reshape(shape).copy())


def _add_phases(spec: SubPixel) -> Callable[[Tensor, Tensor], Tensor]:
    """Adds them, by way of an axis for each."""

    def add(y: Tensor, phases: Tensor) -> Tensor:
        for number in reversed(range(len(spec.factors))):
            y = y.unflatten(2 + number, (-1, spec.factors[number]))
        y = y + phases
        for number in range(len(spec.factors)):
            y = y.flatten(2 + number, 3 + number)
        return y

    return add


class AsItIs(nn.Module):
    """The convolution and what moves its elements, with other weights."""

    def __init__(self, site: SubPixelSite, kernel: Array, bias: Array | None) -> None:
        super().__init__()
        conv, moves = site.origin.nodes
        numbers = {name: value for name, value in conv.kwargs.items() if name not in PARAMETERS}
        self.calls = [(conv.target, conv.args[3:], numbers)]
        self.calls += [(each.target, each.args[1:], each.kwargs) for each in moves]
        self.register_buffer("weight", torch.from_numpy(kernel))
        self.register_buffer("bias", None if bias is None else torch.from_numpy(bias))

    def forward(self, x: Tensor) -> Tensor:
        """The finer map."""
        (convolve, numbers, named), *moves = self.calls
        y: Tensor = convolve(x, self.weight, self.bias, *numbers, **named)
        for move, numbers, named in moves:
            y = move(y, *numbers, **named)
        return y
