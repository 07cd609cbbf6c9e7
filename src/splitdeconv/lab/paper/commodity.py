"""Today's processors: the six networks, whole and their deconvs alone, with NZP, native, SD and the chosen plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from splitdeconv.lab.paper.networks import ARTGAN, NAMES, TITLES
from splitdeconv.lab.paper.part import PaperPart, PaperSetting, PaperStep, Progress
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Chart, Result, geometric, grouped
from splitdeconv.lab.paper.runtimes import RUNTIMES, PaperRuntime, export_of, time_network
from splitdeconv.lab.paper.times import FORMS, PaperTimes
from splitdeconv.report.page import Cell, Column, Header, Table
from splitdeconv.results.bench import BenchRecord
from splitdeconv.results.times import Measurement

Found = Mapping[str, Mapping[str, PaperTimes]]  # runtime → network → times


def _steps(setting: PaperSetting) -> Sequence[PaperStep]:
    return [_step(setting, runtime, name) for runtime in RUNTIMES for name in NAMES]


def _step(setting: PaperSetting, runtime: PaperRuntime, name: str) -> PaperStep:
    folder = setting.models

    def run(progress: Progress) -> BenchRecord:
        return time_network(name, runtime, folder, progress, quick=setting.quick)

    return PaperStep(
        f"{runtime.name}.{name}",
        runtime.kind,
        _command(runtime, name),
        runtime.all_packages,
        run,
        BenchRecord,
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


def _result(found: Mapping[str, BenchRecord]) -> Result:
    inserts_zeros = {runtime.name: runtime.inserts_zeros for runtime in RUNTIMES}
    times: dict[str, dict[str, PaperTimes]] = {}
    for step, record in found.items():
        runtime, _, name = step.partition(".")
        times.setdefault(runtime, {})[name] = PaperTimes(record, inserts_zeros[runtime])
    known = {runtime: times[runtime.name] for runtime in RUNTIMES if runtime.name in times}
    tables = {
        "over-nzp": _reached(times),
        **{f"{each.name}-deconvs": _table(each, of, whole=False) for each, of in known.items()},
        **{f"{each.name}-whole": _table(each, of, whole=True) for each, of in known.items()},
        "published-processors": _paper(),
    }
    charts = {f"{each.name}-over-nzp": _chart(each, of) for each, of in known.items()}
    files = {f"{each.name}-layers": _layers(each, of) for each, of in known.items()}
    return Result(tables, charts, notes=_notes(times), files=files)


def _reached(times: Found) -> Table:
    """The chosen plan over NZP on every measured runtime, with the geometric mean."""
    measured = [runtime for runtime in RUNTIMES if runtime.name in times and runtime.kind == "measured"]
    rows: list[tuple[Cell, ...]] = []
    for name in NAMES:
        ratios = [_ratio(times, runtime, name) for runtime in measured]
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
    heads: tuple[Header, ...] = ("network", *(Column(runtime.title, "×") for runtime in measured))
    return Table("Chosen plan over NZP, deconv parts", heads, tuple(rows), notes, "measured")


def _reaching(text: str, runtimes: Sequence[PaperRuntime], row: tuple[Cell, ...], least: float) -> str:
    """The runtimes whose cell of ``row`` is at least so large, in a sentence."""
    cells = zip(runtimes, row[1:], strict=True)
    names = [runtime.title for runtime, cell in cells if isinstance(cell, float) and cell >= least]
    return f"{text}: {'; '.join(names) or 'none'}."


def _ratio(times: Found, runtime: PaperRuntime, name: str) -> float | None:
    found = times[runtime.name].get(name)
    return None if found is None else found.ratio("zero_insert", "converted")


def _table(runtime: PaperRuntime, of: Mapping[str, PaperTimes], *, whole: bool) -> Table:
    """Times and ratios of one runtime."""
    rows: list[tuple[Cell, ...]] = []
    for name in (name for name in NAMES if name in of):
        found = of[name]
        times = [found.ms(form, whole=whole) for form in FORMS]
        spread = found.spread("converted", whole=whole)
        pairs = (("zero_insert", "split"), ("zero_insert", "converted"), ("native", "converted"))
        ratios = [found.ratio(*pair, whole=whole) for pair in pairs]
        rows.append((TITLES[name], *times, None if spread is None else 100 * spread, *ratios))
    columns: tuple[Header, ...] = (
        "network",
        *(Column(title, "ms", 3) for title in FORMS.values()),
        Column("spread", "%", 0),
        Column("SD over NZP", "×"),
        Column("plan over NZP", "×"),
        Column("plan over native", "×"),
    )
    what = "whole networks" if whole else "deconv parts"
    return Table(f"{runtime.title}: {what}", columns, tuple(rows), _own_notes(of), runtime.kind)


def _own_notes(of: Mapping[str, PaperTimes]) -> tuple[str, ...]:
    """What was noted for the networks of a runtime, each sentence once."""
    by_note: dict[str, list[str]] = {}
    for name, found in of.items():
        for note in found.notes():
            by_note.setdefault(note, []).append(TITLES[name])
    return tuple(
        f"{note}." if len(names) == len(of) else f"{', '.join(names)}: {note}." for note, names in by_note.items()
    )


def _layers(runtime: PaperRuntime, of: Mapping[str, PaperTimes]) -> Table:
    """Every deconv with every time, as CSV."""
    rows: list[tuple[Cell, ...]] = []
    for name, found in of.items():
        for layer in found.record.layers:
            cells = [cell for form in FORMS for cell in _numbers(found.layer(layer, form))]
            split = found.candidate(layer, "split") or ""
            rows.append((TITLES[name], layer.name, layer.deconv.describe(), str(layer.chosen), str(split), *cells))
    heads: list[Header] = ["network", "site", "deconv", "chosen plan", "SD"]
    heads += [Column(f"{title} {key}", unit) for title in FORMS.values() for key, unit in _NUMBERS.items()]
    return Table(f"{runtime.title}: every deconv", tuple(heads), tuple(rows), kind=runtime.kind)


_NUMBERS = {"median": "ms", "lower quartile": "ms", "upper quartile": "ms", "rounds": ""}


def _numbers(time: Measurement | None) -> Sequence[Cell]:
    if time is None:
        return (None,) * len(_NUMBERS)
    return time.median_ms, time.low_ms, time.high_ms, 0 if time.kind == "estimated" else time.rounds


def _chart(runtime: PaperRuntime, of: Mapping[str, PaperTimes]) -> Chart:
    names = [name for name in NAMES if name in of]
    series = {
        title: [of[name].ratio("zero_insert", form) for name in names]
        for form, title in FORMS.items()
        if form != "zero_insert"
    }
    groups = grouped([TITLES[name] for name in names], series, published("speed-up").values)
    return Chart(f"{runtime.title}: speed of the deconv parts, NZP = 1", runtime.kind, groups, "times NZP's speed")


def _paper() -> Table:
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
    columns: tuple[Header, ...] = ("the authors' processors", *(Column(TITLES[name]) for name in NAMES))
    source = f"Source: {published('ncs2-sd').source}."
    return Table("What the authors measured", columns, tuple(rows), (source,), "measured")


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
