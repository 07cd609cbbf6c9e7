"""What a converted file holds of the model that it was made from, so that it can be turned back.

A file holds one text for each conversion, under ``KEY``: a :class:`Rewriting` as JSON. It has the operators that are
gone, as the format writes them, with their small constants; the kernels are not there, because the filters of the new
convolutions hold them: :class:`KeptKernel` says where.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np

from splitdeconv.deconv.ops import Conv, NativeDeconv, Order
from splitdeconv.deconv.phases import Taps
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.structure import dense_of
from splitdeconv.deconv.weights import Array, kernel_parts, swapped_channels
from splitdeconv.deconv.written import original_taps
from splitdeconv.errors import InputError
from splitdeconv.results.plan import Skipped

KEY = "splitdeconv.original"
VERSION = 1
SMALL = 2**17  # bytes; a kernel up to here is kept itself where the filters do not hold it
PartT = TypeVar("PartT")  # of a rewriting, as the format reads it
Stayed = tuple[Skipped, ...]
FOLDED, TURNED = "folded", "to_deconv"  # forms of sites that are still transposed convolutions
SAME_SITE = (FOLDED, TURNED)
_NOWHERE = -1  # in place of a tap: none, or a sum of several
SUMMED = "the new filters hold sums of its weights, and the file does not hold the weights themselves"
MOVED = "its weights were not stored as it read them, and the file does not hold them so any more"
CHANGED = "the file was changed since it was converted"


@dataclass(frozen=True, slots=True)
class KeptFilter:
    """A filter of a converted model, in which weights of the original stand.

    Attributes:
        made: what the convolution that reads it makes: the name of a value, or the number of a tensor.
        blocks: for each block of output channels and each spatial axis, the original tap at each place, or −1.
        order: of the output channels, as in ``ops.Conv``; empty for a kernel of a deconv, IOHW.
    """

    made: str
    blocks: tuple[tuple[tuple[int, ...], ...], ...]
    order: str


@dataclass(frozen=True, slots=True)
class KeptKernel:
    """Where the weights of a site are.

    Attributes:
        name: of the original's constant: of a value, or the number of a tensor.
        shape: IOHW, of the site's own kernel.
        out_channels, groups: of the deconv.
        filters: that hold its taps.
        form: what the original stores: ``deconv`` (IOHW), ``conv`` (OIHW), ``turned`` (IOHW, its taps turned round),
            or ``dense`` (with zeros between channels, which the site's own kernel lacks).
        zero: what stands for 0 in a dense kernel, for each output channel.
        moved: what was added to each stored number.
        axes: the order in which the format stores the axes; empty for that of ``form``.
        lost: why it cannot be put together again; empty where it can, or where it is kept itself.
    """

    name: str
    shape: tuple[int, ...]
    out_channels: int
    groups: int
    filters: tuple[KeptFilter, ...]
    form: str = "deconv"
    zero: tuple[int, ...] = ()
    moved: int = 0
    axes: tuple[int, ...] = ()
    lost: str = ""


@dataclass(frozen=True, slots=True)
class RewrittenSite:
    """One site of a conversion.

    Attributes:
        site: its name in the original.
        where: graph or function that holds it.
        in_function: whether a function holds it, at any depth.
        lowering: the form that it has now.
        part: number of the part of :attr:`Rewriting.parts` that has its operators.
        new: names of the operators, or numbers of the tensors that operators make, which are new.
        results: what the original makes at its end, under the same name in both.
        kernel: its weights; None where the original's constant is still there.
    """

    site: str
    where: str
    in_function: bool
    lowering: str
    part: int
    new: tuple[str, ...]
    results: tuple[str, ...]
    kernel: KeptKernel | None = None


@dataclass(frozen=True, slots=True)
class Rewriting:
    """One conversion.

    Attributes:
        sites: in the order in which they were rewritten.
        parts: operators that are gone, as the format writes them, in base 64.
    """

    sites: tuple[RewrittenSite, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WayBack:
    """What a file holds.

    Attributes:
        version: of this description.
        conversions: that it went through, the latest last.
    """

    version: int
    conversions: tuple[Rewriting, ...]


def with_conversion(text: str, last: Rewriting) -> str:
    """The text of a file, empty where it has none, with one more conversion."""
    earlier = []
    if text:
        with suppress(ValueError, TypeError, KeyError):  # what is damaged cannot be turned back anyway
            earlier = list(json.loads(text)["conversions"])
    return _text([*earlier, asdict(last)])


def undo_all(way_back: WayBack, undo: Callable[[Rewriting], Sequence[Skipped]]) -> tuple[str, tuple[Skipped, ...]]:
    """Turn all conversions back, the latest first.

    Args:
        way_back: what the file holds.
        undo: turns one back as far as it goes, and says which sites stay and why.

    Returns:
        What the file is to hold from now on, and all sites that stay.
    """
    kept: list[Rewriting] = []
    stayed: list[Skipped] = []
    for conversion in reversed(way_back.conversions):
        left = undo(conversion)
        names = {(each.site, each.where) for each in left}
        if sites := tuple(site for site in conversion.sites if (site.site, site.where) in names):
            kept.insert(0, Rewriting(sites, conversion.parts))
        stayed = [*left, *stayed]
    return _text([asdict(each) for each in kept]) if kept else "", tuple(stayed)


def undo_sites(last: Rewriting, read: Callable[[str], PartT], undo: Callable[[RewrittenSite, PartT], None]) -> Stayed:
    """Turn one conversion back as far as it goes, its last site first.

    Args:
        last: the conversion.
        read: a part of it; raises InputError where it is damaged.
        undo: turns one site back; raises InputError with the reason, or another error where the model was changed.

    Returns:
        The sites that stay.
    """
    parts, left = [read(text) for text in last.parts], []
    for site in reversed(last.sites):
        why = "" if site.kernel is None else site.kernel.lost
        try:
            if not why:
                undo(site, parts[site.part])
        except (InputError, IndexError, ValueError) as reason:
            why = str(reason) if isinstance(reason, InputError) else CHANGED
        if why:
            left.append(Skipped(site.site, site.where, why))
    return tuple(reversed(left))


def _text(conversions: list[Any]) -> str:
    return json.dumps({"version": VERSION, "conversions": conversions}, separators=(",", ":"))


def kept_kernel(program: Program, name: str, made: Sequence[str], form: str, **more: Any) -> KeptKernel:
    """Where the weights of a site are in the new filters; lost where these hold sums of them.

    Args:
        program: of the site.
        name: of the original's constant.
        made: what the new convolutions make, in order.
        form, more: as in :class:`KeptKernel`.
    """
    deconv, convs = program.deconv, [step.op for step in program.steps if isinstance(step.op, Conv | NativeDeconv)]
    has_skip = deconv.written_out is not None and deconv.written_out.beside > 0
    filters = _filters_of(zip(convs, made, strict=True)) if len(convs) == len(made) and not has_skip else ()
    kept = KeptKernel(name, deconv.weights_shape, deconv.out_channels, deconv.groups, filters, form, **more)
    return kept if _is_complete(kept) else replace(kept, lost=SUMMED)


def _filters_of(steps: Iterable[tuple[Conv | NativeDeconv, str]]) -> tuple[KeptFilter, ...]:
    """What convolutions hold of their site's kernel, by what they make."""
    found = []
    for op, made in steps:
        if isinstance(op, NativeDeconv):
            every = (tuple(range(axis.kernel)) for axis in op.deconv.axes)
            taps = tuple(_alone(original_taps(op.deconv, number, row)) for number, row in enumerate(every))
            found.append(KeptFilter(made, (taps,), ""))
        else:
            found.append(KeptFilter(made, tuple(tuple(map(_alone, block)) for block in op.blocks), op.order))
    return tuple(found)


def _alone(taps: Taps) -> tuple[int, ...]:
    return tuple(tap if isinstance(tap, int) else _NOWHERE for tap in taps)


def _is_complete(kernel: KeptKernel) -> bool:
    """Whether every tap stands alone in some filter."""
    found = np.zeros(kernel.shape[2:], bool)
    for each in kernel.filters:
        for block in each.blocks:
            taps, _ = _places(block)
            found[np.ix_(*taps)] = True
    return bool(found.all())


def _places(block: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[list[int]]]:
    """The original taps of each axis that a block holds, and where it has them."""
    pairs = [[(tap, place) for place, tap in enumerate(taps) if tap != _NOWHERE] for taps in block]
    return [[tap for tap, _ in row] for row in pairs], [[place for _, place in row] for row in pairs]


def put_together(kernel: KeptKernel, filter_of: Callable[[KeptFilter], Array | None]) -> Array:
    """The original's constant, out of the filters of the converted model.

    Args:
        kernel: says where its weights are.
        filter_of: a filter, OIHW (IOHW of a deconv), in its stored type; None where there is none.

    Raises:
        InputError: a filter is gone, or has another shape.
    """
    channels = [range(size) for size in kernel.shape[:2]]
    own: Array | None = None
    try:
        for each in kernel.filters:
            filled = filter_of(each)
            if filled is None:
                raise InputError(CHANGED)
            own = np.zeros(kernel.shape, filled.dtype) if own is None else own
            for block, part in zip(each.blocks, _parts(kernel, each, filled), strict=True):
                taps, places = _places(block)
                own[np.ix_(*channels, *taps)] = part[np.ix_(*channels, *places)]
        if own is None or not _is_complete(kernel):
            raise InputError(CHANGED)
        stored = _as_stored(kernel, _unmoved(own, kernel.moved))
        return np.ascontiguousarray(stored.transpose(kernel.axes)) if kernel.axes else stored
    except (ValueError, IndexError, ZeroDivisionError):  # numbers that fit no filter
        raise InputError(CHANGED) from None


def _parts(kernel: KeptKernel, kept: KeptFilter, filled: Array) -> list[Array]:
    sizes = tuple(len(taps) for taps in kept.blocks[0])
    if not kept.order:
        whole = (*kernel.shape[:2], *sizes)
        parts = [filled]
    else:
        blocks = tuple(tuple(tuple(taps) for taps in block) for block in kept.blocks)
        nothing = (0,) * len(sizes)
        order: Order = "block_major" if kept.order == "block_major" else "channel_major"
        conv = Conv(
            "NCHW", blocks, order, kernel.shape[0], kernel.out_channels, kernel.groups, False, nothing, nothing, nothing
        )
        whole = conv.filter_shape
        parts = kernel_parts(filled, conv) if filled.size == math.prod(whole) else []
    if filled.shape != whole:
        raise InputError(CHANGED)
    return parts


def _unmoved(own: Array, moved: int) -> Array:
    """Numbers of 8 bits that were moved from int8 to uint8, as they were."""
    return (own.astype(np.int16) - moved).astype(np.int8) if moved else own


def _as_stored(kernel: KeptKernel, own: Array) -> Array:
    if kernel.form == "dense":
        zero = np.asarray(kernel.zero or (0,), own.dtype).reshape(1, -1, *(1,) * (own.ndim - 2))
        return dense_of(own, zero)
    if kernel.form == "turned":
        return np.ascontiguousarray(np.flip(own, axis=tuple(range(2, own.ndim))))
    return swapped_channels(own, kernel.groups) if kernel.form == "conv" else own
