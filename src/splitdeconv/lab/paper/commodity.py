"""Today's processors: the six networks, whole and their deconvs alone, with NZP, native, SD and the chosen plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from splitdeconv import codec
from splitdeconv.lab.paper.networks import ARTGAN, NAMES, TITLES
from splitdeconv.lab.paper.part import PaperPart, PaperSetting, PaperStep, Progress
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Cell, Chart, Column, Result, Sheet, geometric
from splitdeconv.lab.paper.runtimes import RUNTIMES, PaperRuntime, export_of, time_network
from splitdeconv.lab.paper.times import Times
from splitdeconv.results.schema import Json
from splitdeconv.results.times import Measurement

Found = Mapping[str, Mapping[str, Times]]  # runtime → network → times


def _steps(setting: PaperSetting) -> Sequence[PaperStep]:
    return [_step(setting, runtime, name) for runtime in RUNTIMES for name in NAMES]


def _step(setting: PaperSetting, runtime: PaperRuntime, name: str) -> PaperStep:
    folder = setting.models

    def run(progress: Progress) -> Json:
        return codec.to_object(time_network(name, runtime, folder, progress, quick=setting.quick))

    return PaperStep(
        f"{runtime.name}.{name}",
        runtime.kind,
        _command(runtime, name),
        runtime.all_packages,
        run,
        effort=True,
        prepare=export_of(name, runtime, folder),
    )


def _command(runtime: PaperRuntime, name: str) -> str:
    """What measures the same by hand."""
    if not runtime.suffix:
        return f"splitdeconv.torch.bench(splitdeconv.lab.zoo.build('{name}'), (example,), '{runtime.target}')  # Python"
    model = f"{name}-{runtime.dtype}{runtime.suffix}"
    export = f"splitdeconv zoo export {name} {model} --dtype {runtime.dtype}"
    return f"{export} && splitdeconv bench {model} --target {runtime.target} --every"


def _result(found: Mapping[str, Json]) -> Result:
    times: dict[str, dict[str, Times]] = {}
    for step, values in found.items():
        runtime, _, name = step.partition(".")
        times.setdefault(runtime, {})[name] = codec.from_object(Times, values, step)
    known = [runtime for runtime in RUNTIMES if runtime.name in times]
    sheets = [_reached(times, whole=False), *(_sheet(each, times[each.name], whole=False) for each in known)]
    sheets += [_sheet(each, times[each.name], whole=True) for each in known]
    sheets += [_layers(each, times[each.name]) for each in known]
    charts = [_chart(each, times[each.name]) for each in known]
    return Result((*(sheet for sheet in sheets if sheet.rows), *_paper()), tuple(charts), notes=_notes(times))


def _reached(times: Found, *, whole: bool) -> Sheet:
    """The chosen plan over NZP on every measured runtime, with the geometric mean."""
    measured = [runtime for runtime in RUNTIMES if runtime.name in times and runtime.kind == "measured"]
    rows: list[tuple[Cell, ...]] = []
    for name in NAMES:
        ratios = [_ratio(times, runtime, name, "chosen", whole=whole) for runtime in measured]
        rows.append((TITLES[name], *ratios))
    columns = zip(*(row[1:] for row in rows), strict=True)
    numbers = [[each for each in column if isinstance(each, float)] for column in columns]
    rows.append(("geometric mean", *(geometric(each) for each in numbers)))
    rows.append(("least", *(min(each, default=None) for each in numbers)))
    low, high = (published("speed-up").values[key] for key in ("low", "high"))
    notes = (
        f"The paper's range for SD and its variants over NZP, on the arrays that it simulates: {low:g}–{high:g}×.",
        _reaching(f"The geometric mean lies above {high:g}× on", measured, rows[-2], high),
        _reaching(f"Every network that was timed reaches {low:g}× on", measured, rows[-1], low),
        "Sums over a network's deconvs, each timed as a model of its own, all its forms in the same rounds.",
    )
    heads = (Column("network"), *(Column(runtime.title, "×") for runtime in measured))
    return Sheet("over-nzp", "Chosen plan over NZP, deconv parts", "measured", heads, tuple(rows), notes)


def _reaching(text: str, runtimes: Sequence[PaperRuntime], row: tuple[Cell, ...], least: float) -> str:
    """The runtimes whose cell of ``row`` is at least so large, in a sentence."""
    cells = zip(runtimes, row[1:], strict=True)
    names = [runtime.title for runtime, cell in cells if isinstance(cell, float) and cell >= least]
    return f"{text}: {'; '.join(names) or 'none'}."


def _ratio(times: Found, runtime: PaperRuntime, name: str, fast: str, *, whole: bool) -> float | None:
    found = times[runtime.name].get(name)
    return None if found is None else found.ratio("zero_insert", fast, whole=whole)


def _sheet(runtime: PaperRuntime, of: Mapping[str, Times], *, whole: bool) -> Sheet:
    """Times and ratios of one runtime."""
    rows: list[tuple[Cell, ...]] = []
    for name in (name for name in NAMES if name in of):
        found = of[name]
        times = [found.of(form, whole=whole) for form in ("zero_insert", "native", "split", "chosen")]
        pairs = (("zero_insert", "split"), ("zero_insert", "chosen"), ("native", "chosen"))
        ratios = [found.ratio(*pair, whole=whole) for pair in pairs]
        rows.append((TITLES[name], *times, _spread(found, whole=whole), *ratios))
    columns = (
        Column("network"),
        *(Column(form, "ms", 3) for form in ("NZP", "native", "SD", "chosen plan")),
        Column("spread", "%", 0),
        Column("SD over NZP", "×"),
        Column("plan over NZP", "×"),
        Column("plan over native", "×"),
    )
    what = "whole networks" if whole else "deconv parts"
    key = "whole" if whole else "deconvs"
    return Sheet(
        f"{runtime.name}-{key}", f"{runtime.title}: {what}", runtime.kind, columns, tuple(rows), _own_notes(of)
    )


def _spread(found: Times, *, whole: bool) -> float | None:
    """Half of the interquartile range of the chosen plan, in percent; nothing for estimates."""
    if whole:
        time = found.whole.get("chosen")
        if time is None or time.kind == "estimated":
            return None
        return 50 * (time.high_ms - time.low_ms) / time.median_ms
    share = found.spread("chosen")
    return None if share is None or not _is_measured(found) else 100 * share


def _is_measured(found: Times) -> bool:
    times = (time for layer in found.layers for time in layer.times.values())
    return any(time is not None and time.kind == "measured" for time in times)


def _own_notes(of: Mapping[str, Times]) -> tuple[str, ...]:
    """What was noted for the networks of a runtime, each sentence once."""
    by_note: dict[str, list[str]] = {}
    for name, found in of.items():
        for note in found.notes:
            by_note.setdefault(note, []).append(TITLES[name])
    return tuple(
        f"{note}." if len(names) == len(of) else f"{', '.join(names)}: {note}." for note, names in by_note.items()
    )


def _layers(runtime: PaperRuntime, of: Mapping[str, Times]) -> Sheet:
    """Every deconv with every time, as CSV."""
    forms = ("zero_insert", "native", "split", "chosen")
    rows: list[tuple[Cell, ...]] = []
    for name, found in of.items():
        for layer in found.layers:
            cells: list[Cell] = []
            for form in forms:
                time = layer.times.get(form)
                cells += [None] * len(_KEYS) if time is None else _numbers(time)
            rows.append((TITLES[name], layer.name, layer.what, layer.plan, layer.split, *cells))
    heads = [Column(head) for head in ("network", "site", "deconv", "chosen plan", "SD")]
    for form in forms:
        heads += [Column(f"{form} {key}", unit) for key, unit in zip(_KEYS, _UNITS, strict=True)]
    caption = f"{runtime.title}: every deconv"
    return Sheet(f"{runtime.name}-layers", caption, runtime.kind, tuple(heads), tuple(rows), on_page=False)


def _numbers(time: Measurement) -> list[Cell]:
    return [time.median_ms, time.low_ms, time.high_ms, 0 if time.kind == "estimated" else time.rounds]


_KEYS, _UNITS = ("median", "lower quartile", "upper quartile", "rounds"), ("ms", "ms", "ms", "")


def _chart(runtime: PaperRuntime, of: Mapping[str, Times]) -> Chart:
    names = [name for name in NAMES if name in of]
    series = {
        label: tuple(of[name].ratio("zero_insert", form) for name in names)
        for label, form in {"native": "native", "SD": "split", "chosen plan": "chosen"}.items()
    }
    low, high = (published("speed-up").values[key] for key in ("low", "high"))
    marks = {"the paper, lowest": low, "the paper, highest": high}
    caption = f"{runtime.title}: speed of the deconv parts, NZP = 1"
    return Chart(
        f"{runtime.name}-over-nzp",
        caption,
        runtime.kind,
        "bars",
        tuple(TITLES[name] for name in names),
        series,
        "times NZP's speed",
        marks,
    )


def _paper() -> tuple[Sheet, ...]:
    """What the authors measured on their processors."""
    groups = {
        "Edge TPU, .tflite": ("edgetpu-tflite-nzp", "edgetpu-tflite-sd"),
        "Edge TPU, _edgetpu.tflite": ("edgetpu-compiled-nzp", "edgetpu-compiled-sd"),
        "NCS2 (native instead of NZP)": ("ncs2-native", "ncs2-sd"),
    }
    rows: list[tuple[Cell, ...]] = []
    for title, (slow, fast) in groups.items():
        pairs = [(published(slow).values[name], published(fast).values[name]) for name in NAMES]
        rows += [
            (f"{title}: NZP ms" if "NCS2" not in title else f"{title}: ms", *(pair[0] for pair in pairs)),
            (f"{title}: SD ms", *(pair[1] for pair in pairs)),
            (f"{title}: ratio", *(one / other for one, other in pairs)),
        ]
    columns = (Column("the authors' processors"), *(Column(TITLES[name]) for name in NAMES))
    source = f"Source: {published('ncs2-sd').source}."
    sheet = Sheet("published-processors", "What the authors measured", "measured", columns, tuple(rows), (source,))
    return (sheet,)


def _notes(times: Found) -> tuple[str, ...]:
    estimated = [runtime.title for runtime in RUNTIMES if runtime.name in times and runtime.kind == "estimated"]
    notes = [
        "The authors' Edge TPU and NCS2 are not the processors here, so only the ratios can be held against each "
        "other. Theirs do not contain the rearrangement of the output, which ran on the host; ours do.",
        "SD is the paper's: one convolution over the full window for every deconv, its outputs rearranged by "
        "depth-to-space or by a transpose. The chosen plan takes for each deconv what was fastest here, native "
        "included; where the whole network gains nothing by it, the whole's time is native's, as a conversion would "
        "leave it.",
        ARTGAN,
    ]
    if estimated:
        notes.append(
            "Vela computes a deconv by inserting zeros, so there NZP and native are the same; nothing was run on an "
            "NPU."
        )
    return tuple(notes)


PART = PaperPart(
    "commodity",
    "Commodity processors",
    "The six networks on today's runtimes, as the paper did it on the Edge TPU and the NCS2: once the deconvs "
    "alone, each as a model of its own, and once the whole networks. All forms of a deconv are timed in the same "
    "rounds.",
    _steps,
    _result,
)
