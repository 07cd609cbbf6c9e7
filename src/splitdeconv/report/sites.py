"""Blocks about one deconv: its geometry, and every form of it with its cost, its time, or why it does not apply."""

from __future__ import annotations

from collections.abc import Sequence

from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings import LOWERINGS
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.report.numbers import NO_NUMBER, count, milliseconds, times_of
from splitdeconv.report.page import Badge, Block, Cell, Code, Details, Facts, Kind, Table
from splitdeconv.results import times
from splitdeconv.results.bench import NATIVE
from splitdeconv.results.plan import Option
from splitdeconv.results.times import Measurement

GEOMETRY = (
    "Geometry, for example “256→128 5×5/2 @8×8”: 256 input and 128 output channels, kernel 5×5, stride 2, input of "
    "8×8; “g4” is four groups, “d2×2” dilation, “?” a size that the model leaves open."
)
SPREAD = (
    "± is half of the distance between the quartiles over all rounds; speed is the median of before over after in the "
    "same round.",
)
_COUNTED = ("MACs", "moved", "convs")
_MOVED = "Moved are the elements that the rearrangement around the convolutions reads and writes."

_AXES: dict[int, tuple[str, ...]] = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def kind_of(options: Sequence[Option]) -> Kind | None:
    """Whether the times of a site are measured or estimated; None without times."""
    return next((option.time.kind for option in options if option.time is not None), None)


def time_of(options: Sequence[Option], candidate: Candidate) -> Measurement | None:
    """The time of one form, where it can be compared with others."""
    found = (option.time for option in options if option.candidate == candidate and option.time is not None)
    return next((time for time in found if times.is_settled(time)), None)


def every_form(
    name: str, deconv: Deconv, options: Sequence[Option], refusals: Sequence[Refusal], chosen: Candidate
) -> Details:
    """One deconv in full: geometry, all forms that apply, fastest first, and those that do not."""
    blocks: list[Block] = [Facts(geometry(deconv))]
    if options:
        blocks.append(_forms(options, chosen))
    if refusals:
        rows = tuple((Code(str(each.candidate)), each.reason) for each in refusals)
        blocks.append(Table("Forms that do not apply", ("form", "why not"), rows))
    return Details(f"{name} — {deconv.describe()} — {chosen}", tuple(blocks))


def geometry(deconv: Deconv) -> tuple[tuple[str, Cell], ...]:
    """The numbers of a deconv in words."""
    names = _AXES.get(len(deconv.axes), tuple(f"axis {number}" for number in range(len(deconv.axes))))
    rows: list[tuple[str, Cell]] = [
        (
            "channels",
            f"{deconv.in_channels} in, {deconv.out_channels} out, {deconv.groups} in groups"
            if deconv.groups > 1
            else f"{deconv.in_channels} in, {deconv.out_channels} out",
        ),
    ]
    for name, axis in zip(names, deconv.axes, strict=True):
        grown = "" if axis.out_size is None else f", output size {axis.out_size}"
        rows.append((name, axis.describe() + grown))
    batch = "open" if deconv.batch is None else str(deconv.batch)
    rows.append(("batch, type", f"{batch}, {deconv.dtype if deconv.quant is None else _quantised(deconv)}"))
    return tuple(rows)


def _quantised(deconv: Deconv) -> str:
    assert deconv.quant is not None, "asked for quantised deconvs only"
    scales = "one scale per channel" if deconv.quant.per_channel else "one scale"
    return f"{deconv.quant.activation} with {deconv.quant.weight} weights, {scales}"


def _forms(options: Sequence[Option], chosen: Candidate) -> Table:
    """Times and arithmetic of all forms, the fastest first."""
    kind = kind_of(options)
    ranked = sorted(options, key=lambda option: (option.time is None, option.time.median_ms if option.time else 0.0))
    marked = frozenset(number for number, option in enumerate(ranked) if option.candidate == chosen)
    native = time_of(options, NATIVE)
    timed: list[tuple[Cell, ...]] = [
        (milliseconds(each.time), times_of(gain(native, each.time)), each.time.rounds if each.time else NO_NUMBER)
        for each in ranked
    ]
    if kind == "estimated":
        timed = [times[:-1] for times in timed]
    rows = tuple(
        (
            Code(str(each.candidate)),
            Badge("chosen", "good") if each.candidate == chosen else _dropped(each.time),
            *(times if kind else ()),
            count(each.cost.macs),
            count(each.cost.moved),
            each.cost.convs,
        )
        for each, times in zip(ranked, timed, strict=True)
    )
    if kind is None:
        return Table("Every form that applies", ("form", "result", *_COUNTED), rows, (_MOVED,), "counted", marked)
    notes = (*(SPREAD if kind == "measured" else ()), f"MACs, moved and convs are counted. {_MOVED}")
    rounds = ("rounds",) if kind == "measured" else ()
    headers = ("form", "result", "ms", "speed", *rounds, *_COUNTED)
    return Table("Every form that applies, the fastest first", headers, rows, notes, kind, marked)


def gain(before: Measurement | None, after: Measurement | None) -> float | None:
    """How many times as fast ``after`` is, or None where one of them cannot be compared."""
    if before is None or after is None or not (times.is_settled(before) and times.is_settled(after)):
        return None
    return times.ratio(before, after)


def _dropped(time: Measurement | None) -> str:
    return "" if time is None or times.is_settled(time) else "dropped early"


def forms_in_words() -> Table:
    """What the names of the forms mean."""
    rows = tuple((Code(each.name), each.summary, each.source) for each in LOWERINGS.values())
    return Table("The forms", ("form", "what it does", "source"), rows)
