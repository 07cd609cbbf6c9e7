"""The phases brought to their places by a single copy of the output, for calls that nothing records.

Programs interleave and crop in steps that every format knows. PyTorch runs each step as a copy of the whole map, and
for large maps fresh memory costs more than the copy. Here the output is allocated once, and each part is written where
it belongs: same values, same places, one pass. Compiled code does without: there the compiler joins the steps itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from splitdeconv.deconv.ops import Concat, Conv, DepthToSpace, Reshape, Slice, Transpose, spatial_axes
from splitdeconv.deconv.program import Program
from splitdeconv.torch_modules.axes import to_nhwc
from splitdeconv.torch_modules.packed import as_wide

Values = Sequence[Tensor]

LARGE_BYTES = 512 * 1024  # maps from here on are transposed in blocks; smaller ones stay in the second-level cache


@dataclass(frozen=True, slots=True)
class Run:
    """Phases of one axis that lie side by side in the output.

    Attributes:
        first, end: the phases.
        to: the place in an output block where ``first`` goes.
        skip: how many of its outputs are cut off at the begin.
    """

    first: int
    end: int
    to: int
    skip: int


@dataclass(frozen=True, slots=True)
class Interleave:
    """From the channels of one map to space, and the crop, in one pass.

    Before: NCHW ``(N, C·S, *Q)``, in either memory format, or NHWC ``(N, *Q, S·C)``, with ``S = prod(strides)``.
    After: contiguous, ``(N, C, *sizes)`` or ``(N, *sizes, C)``; the sizes are multiples of the strides.

    Attributes:
        program: whose last steps these are.
        begin, end: outputs that are cut off on each axis.
    """

    program: Program
    begin: tuple[int, ...]
    end: tuple[int, ...]

    def __call__(self, values: Values) -> Tensor:
        """The output, from the one map."""
        (x,) = values
        strides, last = self.program.deconv.strides, self.program.layout == "NHWC"
        channels, rank = self.program.deconv.out_channels, len(strides)
        batch, *sizes = x.shape[:-1] if last else (x.shape[0], *x.shape[2:])
        cuts = zip(sizes, self.begin, self.end, strides, strict=True)
        blocks = [size - (begin + end) // stride for size, begin, end, stride in cuts]
        whole = [block * stride for block, stride in zip(blocks, strides, strict=True)]
        split = [each for pair in zip(blocks, strides, strict=True) for each in pair]
        if last:
            y = torch.empty(batch, *whole, channels, dtype=x.dtype)
            source = x.view(batch, *sizes, *strides, channels).permute(
                0, *_alternating(1, 1 + rank, rank), 1 + 2 * rank
            )
            self._write(y.view(batch, *split, channels), source, blocks, first=1)
        else:
            y = torch.empty(batch, channels, *whole, dtype=x.dtype)
            self._write(y.view(batch, channels, *split), _from_channels(x, channels, strides), blocks, first=2)
        return y

    def _write(self, target: Tensor, source: Tensor, blocks: Sequence[int], first: int) -> None:
        """Copy each combination of runs; ``first`` is the axis of the first blocks, their phases come behind it."""
        *outer, inner = [_runs(*each) for each in zip(self.program.deconv.strides, self.begin, strict=True)]
        at = first + 2 * len(outer)
        for runs in product(*outer):
            read, write = source, target
            for number, (run, block) in enumerate(zip(runs, blocks, strict=False)):
                read, write = _cut(read, write, first + 2 * number, run, block)
            pieces = [_cut(read, write, at, run, blocks[-1]) for run in inner]
            # columns that lie side by side in the source are copied so; others in pairs, if nothing comes behind them
            together = read.stride(at + 1) == 1 and len(pieces) < self.program.deconv.strides[-1]
            if together or at + 2 < target.dim() or self.program.deconv.strides[-1] % 2:
                for piece, place in pieces:
                    copy(place, piece)
            else:
                pairs(write, [column for piece, _ in pieces for column in piece.unbind(-1)])


def _from_channels(x: Tensor, channels: int, strides: Sequence[int]) -> Tensor:
    """A view ``(N, C, Q, s, …)`` of a map ``(N, C·S, *Q)``, whatever its memory format."""
    rank, (batch, _, *sizes) = len(strides), x.shape
    if x.is_contiguous():
        return x.view(batch, channels, *strides, *sizes).permute(0, 1, *_alternating(2 + rank, 2, rank))
    last = to_nhwc(x).reshape(batch, *sizes, channels, *strides)
    return last.permute(0, 1 + rank, *_alternating(1, 2 + rank, rank))


def _alternating(places: int, phases: int, rank: int) -> Iterator[int]:
    """Each axis of places before that of the phases that go between them; given is the first axis of both."""
    return (axis for number in range(rank) for axis in (places + number, phases + number))


def _runs(stride: int, cut: int) -> list[Run]:
    """The phases of an axis whose first ``cut`` outputs fall away, in runs that stay inside of one output block."""
    blocks, inside = divmod(cut, stride)
    late = Run(inside, stride, 0, blocks)
    return [late, Run(0, inside, stride - inside, blocks + 1)] if inside else [late]


def _cut(read: Tensor, write: Tensor, axis: int, run: Run, blocks: int) -> tuple[Tensor, Tensor]:
    count = run.end - run.first
    read = read.narrow(axis, run.skip, blocks).narrow(axis + 1, run.first, count)
    return read, write.narrow(axis + 1, run.to, count)


def copy(target: Tensor, source: Tensor) -> None:
    """Write ``source`` into the view ``target``; neighbours that stay neighbours are moved as one wide element."""
    wide = as_wide(target, source)
    wide[0].copy_(wide[1])


def from_channels_last(x: Tensor) -> Tensor:
    """A contiguous copy of ``x``, ``(N, C, *sizes)``, whose channels are innermost in memory."""
    last = to_nhwc(x)
    if x.is_contiguous() or not last.is_contiguous() or x.numel() * x.element_size() < LARGE_BYTES:
        return x.contiguous()
    batch, channels = x.shape[:2]
    y = torch.empty(x.shape, dtype=x.dtype)
    for source, place in zip(last.view(batch, -1, channels), y.view(batch, channels, -1), strict=True):
        place.copy_(source.t())  # PyTorch has a blocked kernel for the transpose of one matrix, and for no other
    return y


def pairs(target: Tensor, sources: Sequence[Tensor]) -> None:
    """Write an even number of maps side by side into ``target``, whose last axis holds them and is contiguous.

    Two float32 in one complex number: the one kernel of PyTorch that interleaves.
    """
    places = torch.view_as_complex(target.unflatten(-1, (-1, 2))).unbind(-1)
    for place, one, other in zip(places, sources[::2], sources[1::2], strict=True):
        torch.complex(one, other, out=place)


@dataclass(frozen=True, slots=True)
class Join:
    """Maps side by side along one axis: a :class:`Concat` with the concats that feed it.

    Attributes:
        axis: along which.
        inputs: numbers of values, or what is joined itself.
    """

    axis: int
    inputs: tuple[int | Join, ...]

    def values(self) -> tuple[int, ...]:
        """All values that are joined, in order."""
        return tuple(n for each in self.inputs for n in ((each,) if isinstance(each, int) else each.values()))


def joined(join: Join, values: Values) -> Tensor:
    """The whole, in memory of its own."""
    named = dict(zip(join.values(), values, strict=True))
    y = torch.empty(_shape(join, named), dtype=values[0].dtype)
    _fill(y, join, named)
    return y


def _shape(part: int | Join, named: dict[int, Tensor]) -> list[int]:
    if isinstance(part, int):
        return list(named[part].shape)
    shapes = [_shape(each, named) for each in part.inputs]
    shapes[0][part.axis] = sum(shape[part.axis] for shape in shapes)
    return shapes[0]


def _fill(target: Tensor, part: int | Join, named: dict[int, Tensor]) -> None:
    if isinstance(part, int):
        copy(target, named[part])
        return
    columns = [named[each] for each in part.inputs if isinstance(each, int) and named[each].shape[-1] == 1]
    innermost = part.axis == target.dim() - 1 and target.stride(-1) == 1 and len(columns) == len(part.inputs)
    if innermost and len(columns) % 2 == 0:
        pairs(target, [column.squeeze(-1) for column in columns])
        return
    start = 0
    for each in part.inputs:
        size = _shape(each, named)[part.axis]
        _fill(target.narrow(part.axis, start, size), each, named)
        start += size


def interleave_of(program: Program) -> Interleave | None:
    """The end of ``program`` in one pass, if it is a convolution, a rearrangement of its channels and maybe a crop."""
    steps = list(program.steps)
    crop = steps.pop().op if isinstance(steps[-1].op, Slice) else None
    kinds = tuple(type(step.op) for step in steps)
    if kinds[-3:] == (Reshape, Transpose, Reshape):
        moved = 3
    elif kinds[-1:] == (DepthToSpace,) and program.layout == "NCHW":
        moved = 1
    else:
        return None
    conv, axes = steps[-moved - 1].op, spatial_axes(program.layout, len(program.deconv.axes) + 2)
    if not isinstance(conv, Conv):
        return None
    wanted = "block_major" if program.layout == "NHWC" else "channel_major"
    if conv.order != wanted or (conv.groups > 1 and wanted == "block_major"):
        return None
    begin, end = (crop.begin, crop.end) if isinstance(crop, Slice) else ((0,) * (len(axes) + 2),) * 2
    cuts = [(begin[axis], end[axis]) for axis in axes]
    if any(sum(cut) % stride for cut, stride in zip(cuts, program.deconv.strides, strict=True)):
        return None  # the output is not made of whole blocks
    return Interleave(program, tuple(first for first, _ in cuts), tuple(last for _, last in cuts))


def joins(program: Program) -> dict[int, Join]:
    """For each value that concats make and no other concat reads: what it joins."""
    found: dict[int, Join] = {}
    for value, step in enumerate(program.steps, 1):
        if isinstance(step.op, Concat):
            found[value] = Join(step.op.axis, tuple(found.get(each, each) for each in step.inputs))
    inner = {each for step in program.steps if isinstance(step.op, Concat) for each in step.inputs}
    return {value: join for value, join in found.items() if value not in inner}
