"""Putting the phases back together: from channels, or from several maps, to the interleaved output.

``n`` spatial axes of sizes ``Q`` and strides ``s``; C output channels; values of a program under construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from splitdeconv.deconv.ops import Concat, DepthToSpace, Dim, Layout, Order, Part, Reshape, Transpose
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings.lowering import Builder


def has_two_steps(deconv: Deconv, layout: Layout) -> bool:
    """Whether columns and rows can be interleaved one after the other; in NHWC one transpose moves whole pixels."""
    *outer, last = deconv.strides
    return layout == "NCHW" and last > 1 and max(outer, default=1) > 1


def merged_forms(deconv: Deconv, layout: Layout) -> tuple[str, ...]:
    """Rearrangements for a map with all phases in its channels; the first is the default."""
    strides = deconv.strides
    square = len(strides) == 2 and strides[0] == strides[1] > 1
    forms = [("depth_to_space", square), ("transpose", True), ("two_steps", has_two_steps(deconv, layout))]
    return tuple(form for form, applies in forms if applies)


def split_forms(deconv: Deconv, layout: Layout) -> tuple[str, ...]:
    """As :func:`merged_forms`, and where nothing forbids it the channels cut into row phases."""
    rows = layout == "NHWC" and deconv.groups == 1 and max(deconv.strides) > 1
    return (*merged_forms(deconv, layout), "rows") if rows else merged_forms(deconv, layout)


def from_channels(build: Builder, value: int, order: Order, form: str) -> int:
    """Move all phases from the channels of one map to its spatial axes.

    Before: NCHW ``(N, S·C, *Q)`` or NHWC ``(N, *Q, S·C)`` with ``S = prod(s)``.
    After: ``(N, C, *(Q·s))`` or ``(N, *(Q·s), C)``.
    """
    strides = build.deconv.strides
    if prod(strides) == 1:
        return value
    if form == "depth_to_space":
        return build.add(DepthToSpace(strides[0], order, build.layout), value)
    if form == "rows":
        return from_rows(build, [[part] for part in _row_parts(build, value)])
    if form == "two_steps":
        return _by_two_steps(build, value)
    return _by_transpose(build, value, order)


def _by_transpose(build: Builder, value: int, order: Order) -> int:
    """Reshape, transpose, reshape. Axes of stride 1 are left out of it."""
    strides, channels, layout = build.deconv.strides, build.deconv.out_channels, build.layout
    rank = len(strides)
    striding = [number for number, stride in enumerate(strides) if stride > 1]
    depth = [Dim(strides[number]) for number in striding]
    depth.insert(0 if order == "channel_major" else len(depth), Dim(channels))
    first_size = 2 if layout == "NCHW" else 1
    sizes = [Dim(1, axis=first_size + number) for number in range(rank)]
    split = [Dim(1, axis=0), *depth, *sizes] if layout == "NCHW" else [Dim(1, axis=0), *sizes, *depth]
    depth_at = 1 if layout == "NCHW" else 1 + rank
    sizes_at = 1 + len(depth) if layout == "NCHW" else 1
    block_at = depth_at + (1 if order == "channel_major" else 0)
    channel_at = depth_at + (0 if order == "channel_major" else len(striding))
    spread: list[int] = []
    joined: list[Dim] = []
    for number, stride in enumerate(strides):
        spread.append(sizes_at + number)
        at = 2 + len(spread) - 1 if layout == "NCHW" else len(spread)
        joined.append(Dim(stride, axis=at))
        if stride > 1:
            spread.append(block_at + striding.index(number))
    perm = [0, channel_at, *spread] if layout == "NCHW" else [0, *spread, channel_at]
    whole = [Dim(1, axis=0), Dim(channels), *joined] if layout == "NCHW" else [Dim(1, axis=0), *joined, Dim(channels)]
    value = build.add(Reshape(tuple(split)), value)
    if perm != sorted(perm):
        value = build.add(Transpose(tuple(perm)), value)
    return build.add(Reshape(tuple(whole)), value)


def _row_parts(build: Builder, value: int) -> list[int]:
    """One channels-last map ``(N, *Q, s·C)`` for each row phase; the channels are ordered (row, column, channel)."""
    parts = prod(build.deconv.strides[:-1])
    if parts == 1:
        return [value]
    return [build.add(Part(build.channels, index, parts), value) for index in range(parts)]


def _by_two_steps(build: Builder, value: int) -> int:
    """The last axis' phases first, then those of the other axes, which only moves whole rows. NCHW, channel-major.

    Moving a single axis to the end is a transpose of matrices, and moving rows copies runs of memory: for both,
    runtimes have quicker code than for the transpose of everything at once.
    """
    *outer, last = build.deconv.strides
    rank = len(outer) + 1
    channels = build.deconv.out_channels * prod(outer)
    split = (Dim(1, axis=0), Dim(channels), Dim(last), *(Dim(1, axis=2 + number) for number in range(rank)))
    value = build.add(Reshape(split), value)
    value = build.add(Transpose((0, 1, *range(3, rank + 3), 2)), value)
    return _rows_from_channels(build, value)


def _rows_from_channels(build: Builder, value: int) -> int:
    """``(N, C·S, *Q, s)`` → ``(N, C, *(Q·s))``, with s the last stride and S the product of the others."""
    *outer, last = build.deconv.strides
    rank, channels = len(outer) + 1, build.deconv.out_channels
    striding = [number for number, stride in enumerate(outer) if stride > 1]
    depth = [Dim(outer[number]) for number in striding]
    sizes = [Dim(1, axis=2 + number) for number in range(rank - 1)]
    row = Dim(last, axis=rank + 1)
    value = build.add(Reshape((Dim(1, axis=0), Dim(channels), *depth, *sizes, row)), value)
    spread: list[int] = []
    joined: list[Dim] = []
    for number, stride in enumerate(outer):
        joined.append(Dim(stride, axis=2 + len(spread)))
        spread.append(2 + len(striding) + number)
        if stride > 1:
            spread.append(2 + striding.index(number))
    value = build.add(Transpose((0, 1, *spread, 2 + len(striding) + rank - 1)), value)
    whole = (Dim(1, axis=0), Dim(channels), *joined, Dim(1, axis=2 + len(spread)))
    return build.add(Reshape(whole), value)


def phase_forms(deconv: Deconv, layout: Layout) -> tuple[str, ...]:
    """Rearrangements for one map per phase; the first is the default."""
    merged = [form for form in merged_forms(deconv, layout) if form != "two_steps"]  # stack is this, for phases
    if layout == "NHWC":
        return (*merged, "rows")
    stack = ("stack",) if has_two_steps(deconv, layout) else ()
    return (*merged, "concat", "rows", *stack)


def from_phases(build: Builder, values: Sequence[int], form: str) -> int:
    """Interleave one map per phase, row-major: each ``(N, C, *Q)`` or ``(N, *Q, C)``."""
    if len(values) == 1:
        return values[0]
    last = build.deconv.strides[-1]
    runs = [values[n : n + last] for n in range(0, len(values), last)]
    if form == "rows":
        return from_rows(build, [[to_channels_last(build, value) for value in run] for run in runs])
    if form == "stack":
        joined = [build.add(Concat(build.channels), *run) for run in runs]
        return _stack_rows(build, [_columns_from_channels(build, value) for value in joined])
    if form == "concat":
        return _stack_rows(build, [_stack_columns(build, run) for run in runs])
    order: Order = "block_major"
    return from_channels(build, build.add(Concat(build.channels), *values), order, form)


def _columns_from_channels(build: Builder, value: int) -> int:
    """The column phases of one row phase to the end: ``(N, s·C, *Q)`` → ``(N, C, *Q, s)``."""
    last, channels = build.deconv.strides[-1], build.deconv.out_channels
    rank = build.rank(value)
    sizes = (Dim(1, axis=axis) for axis in range(2, rank))
    value = build.add(Reshape((Dim(1, axis=0), Dim(last), Dim(channels), *sizes)), value)
    return build.add(Transpose((0, *range(2, rank + 1), 1)), value)


def to_channels_last(build: Builder, value: int) -> int:
    """The same map as NHWC."""
    if build.layout == "NHWC":
        return value
    rank = build.rank(value)
    return build.add(Transpose((0, *range(2, rank), 1)), value)


def from_rows(build: Builder, rows: Sequence[Sequence[int]]) -> int:
    """Interleave channels-last maps: the column phases lie in the channels, the row phases in separate maps.

    Before: for each row phase (row-major over all axes but the last), maps ``(N, *Q, p·C)`` that together hold the
    column phases in order. In memory ``(N, *Q, s·C)`` is ``(N, …, s·Q, C)``.
    After: ``(N, *(Q·s), C)``, in the program's own layout.
    """
    rank = len(build.deconv.strides)
    joined = [run[0] if len(run) == 1 else build.add(Concat(rank + 1), *run) for run in rows]
    # ONNX Runtime moves a Transpose behind a Concat; a Reshape between them keeps it with the convolution, whose
    # blocked output it then writes channels-last at once.
    flat = len(joined) > 1 and build.layout == "NCHW" and build.deconv.quant is None
    if flat:
        joined = [_flatten_rows(build, value) for value in joined]
    whole = _concat_rows(build, joined, first=1)
    return _from_channels_last(build, _reshape_rows(build, whole, flat))


def _concat_rows(build: Builder, values: Sequence[int], first: int) -> int:
    """Interleave on every axis but the last by concatenating on the axis behind it; ``first`` is the outermost axis."""
    level = list(values)
    for number in reversed(range(len(build.deconv.strides) - 1)):
        stride = build.deconv.strides[number]
        runs = [level[n : n + stride] for n in range(0, len(level), stride)]
        level = [run[0] if stride == 1 else build.add(Concat(first + number + 1), *run) for run in runs]
    (value,) = level
    return value


def _row_dims(strides: Sequence[int], first: int) -> list[Dim]:
    """Sizes after :func:`_concat_rows`: each axis but the last holds the rows of the axis before it."""
    return [
        Dim(stride, axis=first + number, over=strides[number - 1] if number else 1)
        for number, stride in enumerate(strides)
    ]


def _flatten_rows(build: Builder, value: int) -> int:
    """``(N, …, Q, s·C)`` → ``(N, …, Q·s·C)``: a row of pixels as one run of memory."""
    rank, depth = len(build.deconv.strides), build.channel_count(value, last=True)
    dims = (*(Dim(1, axis=axis) for axis in range(rank)), Dim(depth, axis=rank))
    return build.add(Reshape(dims), value)


def _reshape_rows(build: Builder, value: int, flat: bool) -> int:
    *dims, last = _row_dims(build.deconv.strides, first=1)
    channels = build.deconv.out_channels
    if flat:  # the last axis holds the channels too, and they are counted in
        before = build.deconv.strides[-2]
        last = Dim(1, axis=len(build.deconv.strides), over=before * channels)
    return build.add(Reshape((Dim(1, axis=0), *dims, last, Dim(channels))), value)


def _from_channels_last(build: Builder, value: int) -> int:
    if build.layout == "NHWC":
        return value
    rank = build.rank(value)
    return build.add(Transpose((0, rank - 1, *range(1, rank - 1))), value)


def _stack_columns(build: Builder, run: Sequence[int]) -> int:
    """Column phases of one row phase side by side: ``(N, C, *Q)`` each → ``(N, C, *Q, s)``."""
    rank = build.rank(run[0])
    dims = (*(Dim(1, axis=axis) for axis in range(rank)), Dim(1))
    columns = [build.add(Reshape(dims), value) for value in run]
    return columns[0] if len(columns) == 1 else build.add(Concat(rank), *columns)


def _stack_rows(build: Builder, rows: Sequence[int]) -> int:
    """``(N, C, *Q, s)`` for each row phase → ``(N, C, *(Q·s))``."""
    value = _concat_rows(build, rows, first=2)
    dims = _row_dims(build.deconv.strides, first=2)
    return build.add(Reshape((Dim(1, axis=0), Dim(build.deconv.out_channels), *dims)), value)
