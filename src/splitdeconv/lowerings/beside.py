"""Maps beside a stretched one, which the model's convolution reads too: what their part of it adds to a program."""

from __future__ import annotations

from splitdeconv.deconv.ops import Add, AddBias, Concat
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.written import GroupRead, beside_pads, beside_shape, group_reads
from splitdeconv.lowerings.lowering import Builder
from splitdeconv.lowerings.native import own_windows


def with_beside(program: Program, deconv: Deconv) -> Program:
    """The program of the stretched map, and the convolution of the map beside it.

    Before: Conv of the concatenation of the stretched map and another, ``(N, beside, *sizes)``.
    After: the program; Conv of the other; Add, since a convolution is linear in its input channels. In groups, which
    read one map only, or both: Concat of the outputs of the former, and Add of the latter's.

    Args:
        program: of :func:`splitdeconv.deconv.written.without_beside`.
        deconv: with the map beside.
    """
    build = Builder(deconv, program.layout, [beside_shape(deconv, program.layout)])
    if deconv.groups > 1:
        return _in_groups(build, program)
    own = _continued(build, program, build.x)
    other = _convolved(build, build.inputs[0], deconv.in_channels, 1)
    return build.program(build.add(Add(), own, other))


def _in_groups(build: Builder, program: Program) -> Program:
    deconv = build.deconv
    before, own, behind = group_reads(deconv)
    values = [_continued(build, program, _filled(build, build.x, own))]
    first, rest = len(before.channels), len(behind.channels)
    shared: list[tuple[range, int]] = []
    for read, cut in ((before, (0, rest)), (behind, (first, 0))):
        if not read.channels:
            continue
        value = build.crop(build.inputs[0], [build.channels], [cut[0]], [cut[1]])
        made = _convolved(build, _filled(build, value, read), read.rows.start, len(read.groups))
        alone, both = _parted(build, made, read, own)
        values = [*values, *alone] if read is behind else [*alone, *values]
        shared += both
    total = values[0] if len(values) == 1 else build.add(Concat(build.channels), *values)
    for groups, value in shared:
        total = build.add(Add(), total, _widened(build, value, groups))
    return build.program(build.add(AddBias(build.layout), total) if deconv.has_bias else total)


def _continued(build: Builder, program: Program, x: int) -> int:
    """The steps of ``program`` on the map ``x``."""
    values = [x]
    for step in program.steps:
        values.append(build.add(step.op, *(values[value] for value in step.inputs)))
    return values[-1]


def _convolved(build: Builder, value: int, first_row: int, groups: int) -> int:
    """The model's own convolution of other maps."""
    written = build.deconv.written_out
    assert written is not None, "only stretched maps have others beside them"
    windows = own_windows(written, beside_pads(build.deconv))
    return build.convolve_by(value, windows, "block_major", bias=False, first_row=first_row, groups=groups)


def _filled(build: Builder, value: int, read: GroupRead) -> int:
    """A map with channels of zeros, so that it fills its groups."""
    before, behind = read.zeros
    return build.pad(value, [build.channels], [before], [behind])


def _parted(build: Builder, value: int, read: GroupRead, own: GroupRead) -> tuple[list[int], list[tuple[range, int]]]:
    """The outputs of groups that read only other maps, and those of a group that reads the stretched one too."""
    outs = build.deconv.out_channels // build.deconv.groups
    both = [group for group in read.groups if group in own.groups]
    if not both:
        return [value], []
    at_end, count = both[0] > read.groups.start, len(read.groups) - 1
    if not count:
        return [], [(read.groups, value)]
    cut, rest = ([0], [outs]) if at_end else ([outs], [0])
    alone = build.crop(value, [build.channels], cut, rest)
    cut, rest = ([count * outs], [0]) if at_end else ([0], [count * outs])
    return [alone], [(range(both[0], both[0] + 1), build.crop(value, [build.channels], cut, rest))]


def _widened(build: Builder, value: int, groups: range) -> int:
    """The outputs of some groups, with zeros for all others."""
    deconv = build.deconv
    outs = deconv.out_channels // deconv.groups
    return build.pad(value, [build.channels], [groups.start * outs], [(deconv.groups - groups.stop) * outs])
