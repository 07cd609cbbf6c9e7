"""Phases of one axis, and windows that hold several of them.

A phase is an ordinary stride-1 convolution of the unexpanded input (:mod:`splitdeconv.deconv.spec`). Phases that read
overlapping stretches of the input can be computed together, as a window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

Tap = int | range | None  # one tap of a filter; several whose sum it is; or none, which is zero
Taps = tuple[Tap, ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """The outputs ``q·stride + offset`` of one axis, as a stride-1 convolution over the input.

    Attributes:
        offset: which remainder of the output index modulo the stride this phase holds.
        taps: numbers of the original taps, in the order in which the convolution reads the input; may be empty.
        dilation: distance between two taps on the input.
        pad_begin, pad_end: zeros to add to the input; negative means that the input is cropped.
    """

    offset: int
    taps: tuple[int, ...]
    dilation: int
    pad_begin: int
    pad_end: int

    @property
    def first(self) -> int:
        """Input index, relative to the output's ``q``, that the first tap reads."""
        return -self.pad_begin

    @property
    def positions(self) -> range:
        """Input indices relative to ``q`` that the taps read; empty for a phase without taps."""
        return range(self.first, self.first + len(self.taps) * self.dilation, self.dilation)


@dataclass(frozen=True, slots=True)
class Window:
    """One or several phases of an axis, computed over the same stretch of the input.

    Attributes:
        taps: for each phase, the original tap at each place of the window, or None where the phase has none there.
        dilation, pad_begin, pad_end: as in :class:`Phase`.
    """

    taps: tuple[Taps, ...]
    dilation: int
    pad_begin: int
    pad_end: int

    @property
    def size(self) -> int:
        """Number of places, which is the kernel size of the convolution on this axis."""
        return len(self.taps[0])


def merge(phases: Sequence[Phase]) -> Window:
    """The smallest window in which all ``phases`` of one axis (same input, same number of outputs) can be computed.

    Phases without taps take no part in it; if no phase has one, the window is a single place without a tap.
    """
    rows = phases[0].pad_end - _reach(phases[0])
    positions = sorted({position for phase in phases for position in phase.positions})
    if not positions:
        return Window(((None,),) * len(phases), 1, 0, rows)
    first, last = positions[0], positions[-1]
    dilation = math.gcd(*(position - first for position in positions)) or 1
    places = range(first, last + 1, dilation)
    taps = []
    for phase in phases:
        found = dict(zip(phase.positions, phase.taps, strict=True))
        taps.append(tuple(found.get(place) for place in places))
    return Window(tuple(taps), dilation, -first, rows + last)


def narrowest_shift(phases: Sequence[Phase]) -> int:
    """The shift of all outputs of an axis, below its stride, with which the common window of its phases is smallest.

    With a shift of ``n`` the phases without one come in another order, the last ``n`` of them read one place earlier,
    and all else stays. So the windows of all shifts follow from those of the first and of the last phases.

    Args:
        phases: of the axis without a shift, one for each remainder.
    """
    spans = [_span(phase) for phase in phases]
    first = list(accumulate([None, *spans], _join))
    last = list(accumulate([None, *map(_earlier, reversed(spans))], _join))
    return min(range(len(phases)), key=lambda shift: _places(_join(first[len(phases) - shift], last[shift])))


def _reach(phase: Phase) -> int:
    """Input index relative to ``q`` that the last tap reads (0 for a phase without taps)."""
    return phase.positions[-1] if phase.taps else 0


@dataclass(frozen=True, slots=True)
class _Span:
    """Places of the input that phases read: ``first`` to ``last`` in steps of ``step``, which is 0 for one place."""

    first: int
    last: int
    step: int


def _span(phase: Phase) -> _Span | None:
    """What one phase reads; None without taps."""
    return _Span(phase.first, _reach(phase), phase.dilation if len(phase.taps) > 1 else 0) if phase.taps else None


def _earlier(span: _Span | None) -> _Span | None:
    """The same one place earlier."""
    return span and _Span(span.first - 1, span.last - 1, span.step)


def _join(one: _Span | None, other: _Span | None) -> _Span | None:
    """The smallest span that holds both."""
    if one is None or other is None:
        return one or other
    step = math.gcd(one.step, other.step, one.first - other.first)
    return _Span(min(one.first, other.first), max(one.last, other.last), step)


def _places(span: _Span | None) -> int:
    """Size of the window that holds a span, as :func:`merge` makes it."""
    return (span.last - span.first) // (span.step or 1) + 1 if span else 1
