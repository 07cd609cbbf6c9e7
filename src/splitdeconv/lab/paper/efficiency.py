"""How well a convolution uses a processor, against the size of its map and of its filter: simulated and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from splitdeconv import targets
from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.accelerator.layers import Network
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.deconv.layers import ConvAxis, PlainConv
from splitdeconv.deconv.network import Compilable, Layer
from splitdeconv.lab.paper.child import in_child
from splitdeconv.lab.paper.models import digest, models_folder
from splitdeconv.lab.paper.part import PaperPart, PaperSetting, PaperStep, Progress, needing
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Cell, Chart, Column, Kind, Result, Sheet
from splitdeconv.lab.paper.simulated import ARRAYS
from splitdeconv.lab.simulation.forms import ZERO_INSERT
from splitdeconv.lab.simulation.network import NetworkResult, simulate
from splitdeconv.results.bench import NATIVE
from splitdeconv.results.schema import Json

INS, OUTS = 256, 128  # channels, as in the authors' study
MAPS, FILTER = (8, 16, 32, 64, 128), 3  # map sizes at one filter size ...
FILTERS, MAP = (2, 3, 4, 5), 128  # ... and filter sizes at one map size
QUICK_SECONDS, FULL_SECONDS = 0.5, 5.0  # for each convolution on each runtime; five rounds at least, however long
RUNTIMES = {"onnxruntime": ".onnx", "litert": ".tflite"}
_PACKAGES = {"onnxruntime": ("onnxruntime", "onnx"), "litert": ("ai-edge-litert", "litert-torch", "torch")}


@dataclass(frozen=True, slots=True)
class Rate:
    """One convolution on one processor.

    Attributes:
        size, kernel: of its map and of its filter, on both axes.
        rate: multiply-accumulates per second.
        low, high: the same at the quartiles of the time; of an estimate the same number.
        rounds: how many were timed; 0 for an estimate.
    """

    size: int
    kernel: int
    rate: float
    low: float
    high: float
    rounds: int = 0


def points() -> tuple[tuple[int, int], ...]:
    """Map size and filter size of every convolution of the study."""
    return tuple(dict.fromkeys([*((size, FILTER) for size in MAPS), *((MAP, kernel) for kernel in FILTERS)]))


def macs(size: int, kernel: int) -> int:
    """Multiply-accumulates of one convolution whose output has the size of its input."""
    return size * size * kernel * kernel * INS * OUTS


def pads(kernel: int) -> tuple[int, int]:
    """SAME."""
    return (kernel - 1) // 2, kernel // 2


def simulated(array: str) -> tuple[Rate, ...]:
    """Every convolution on a modelled array."""
    arch = load_architecture(array)
    found = []
    for size, kernel in points():
        spec = PlainConv((ConvAxis(size, kernel, 1, 1, *pads(kernel)),) * 2, INS, OUTS)
        network = Network("conv", "", "", (Layer("conv", spec),))
        result = simulate(network, arch, load_energies(arch.energy), ZERO_INSERT, Skip())
        assert isinstance(result, NetworkResult), result
        rate = macs(size, kernel) * float(arch.clock_hz) / int(result.counts(deconvs_only=False).cycles)
        found.append(Rate(size, kernel, rate, rate, rate))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Convolutions:
    """The convolutions as model files for one runtime, each made once for each set of exporter versions.

    Attributes:
        runtime: one of ``RUNTIMES``.
        folder: keeps the files from run to run.
    """

    runtime: str
    folder: Path

    def __call__(self, progress: Progress) -> None:
        """Make the files that are not there; errors as :meth:`made`."""
        for number, (size, kernel) in enumerate(points()):
            progress("exporting", number / len(points()))
            self.made(size, kernel)

    def made(self, size: int, kernel: int) -> tuple[Path, str, tuple[int, ...]]:
        """One file, made if it is not there, with its input's name and shape.

        Raises:
            OutputError: the folder cannot be made.
            MissingExtraError: ONNX is not installed.
            UsageError: the exporter is not installed.
        """
        with needing("an ONNX convolution", "onnx"):
            from splitdeconv.lab.paper.convolutions import write_convolution  # noqa: PLC0415
        suffix = RUNTIMES[self.runtime]
        path = models_folder(self.folder) / f"conv{kernel}x{kernel}-{size}-{digest(_PACKAGES[self.runtime])}{suffix}"
        return path, *in_child(write_convolution, path, size, kernel, (INS, OUTS), pads(kernel))


def measured(convolutions: Convolutions, seconds: float, progress: Progress) -> tuple[Rate, ...]:
    """Every convolution in float32 on a runtime.

    Raises:
        MissingExtraError: the runtime is not installed.
        UsageError: what writes its models is not installed.
    """
    target = targets.target(convolutions.runtime)
    found = []
    for number, (size, kernel) in enumerate(points()):
        progress(f"{kernel}×{kernel} at {size}×{size}", number / len(points()))
        path, name, shape = convolutions.made(size, kernel)
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        time = target.measure({NATIVE: target.compile(Compilable(path))}, {name: x}, seconds)[NATIVE]
        rate, low, high = (macs(size, kernel) / ms * 1e3 for ms in (time.median_ms, time.high_ms, time.low_ms))
        found.append(Rate(size, kernel, rate, low, high, time.rounds))
    return tuple(found)


def _steps(setting: PaperSetting) -> Sequence[PaperStep]:
    command = f"splitdeconv reproduce {setting.out} --only efficiency"
    return [
        *(_step(array, "estimated", command, setting) for array in ARRAYS),
        *(_step(runtime, "measured", command, setting) for runtime in RUNTIMES),
    ]


def _step(name: str, kind: Kind, command: str, setting: PaperSetting) -> PaperStep:
    convolutions = Convolutions(name, setting.models) if kind == "measured" else None

    def run(progress: Progress) -> Json:
        seconds = QUICK_SECONDS if setting.quick else FULL_SECONDS
        found = simulated(name) if convolutions is None else measured(convolutions, seconds, progress)
        return {"rates": [asdict(each) for each in found]}

    packages = _PACKAGES.get(name, ())
    return PaperStep(name, kind, command, packages, run, effort=kind == "measured", prepare=convolutions)


def _result(found: Mapping[str, Json]) -> Result:
    rates = {name: tuple(Rate(**each) for each in values["rates"]) for name, values in found.items()}
    kinds: dict[Kind, list[str]] = {
        "estimated": [name for name in rates if name in ARRAYS],
        "measured": [name for name in rates if name in RUNTIMES],
    }
    sheets = [
        _sheet(kind, names, rates, which) for kind, names in kinds.items() if names for which in ("maps", "filters")
    ]
    charts = [
        _chart(kind, names, rates, which) for kind, names in kinds.items() if names for which in ("maps", "filters")
    ]
    return Result(tuple(sheets), tuple(charts), notes=_NOTES)


def _series(found: Sequence[Rate], which: str) -> list[Rate]:
    """The convolutions of one of both studies, smallest first."""
    if which == "maps":
        return [each for each in found if each.kernel == FILTER]
    return sorted((each for each in found if each.size == MAP), key=lambda each: each.kernel)


def _sheet(kind: Kind, names: Sequence[str], rates: Mapping[str, Sequence[Rate]], which: str) -> Sheet:
    theirs = published(f"efficiency-{which}")
    rows: list[tuple[Cell, ...]] = []
    for place, size in enumerate(MAPS if which == "maps" else FILTERS):
        cells: list[Cell] = []
        for name in names:
            series = _series(rates[name], which)
            cells += [series[place].rate / 1e9, series[place].rate / series[0].rate]
        rows.append((f"{size}×{size}", *cells, theirs.value(str(size))))
    heads = [Column("map" if which == "maps" else "filter")]
    for name in names:
        heads += [Column(f"{name}, 10⁹ MAC/s"), Column(f"{name}, normalised", "×")]
    fixed = f"filters of {FILTER}×{FILTER}" if which == "maps" else f"maps of {MAP}×{MAP}"
    caption = f"Speed of a convolution {INS}→{OUTS} with {fixed}"
    note = (
        "float32, one convolution after the other; the smallest is 1." if kind == "measured" else "The smallest is 1."
    )
    columns = (*heads, Column("authors' Edge TPU, normalised", "×"))
    return Sheet(f"efficiency-{which}-{kind}", caption, kind, columns, tuple(rows), (note,))


def _chart(kind: Kind, names: Sequence[str], rates: Mapping[str, Sequence[Rate]], which: str) -> Chart:
    sizes = MAPS if which == "maps" else FILTERS
    series: dict[str, tuple[float | None, ...]] = {}
    for name in names:
        found = _series(rates[name], which)
        series[name] = tuple(each.rate / found[0].rate for each in found)
    series["authors' Edge TPU"] = tuple(published(f"efficiency-{which}").value(str(size)) for size in sizes)
    what = "map" if which == "maps" else "filter"
    ticks = tuple(f"{size}×{size}" for size in sizes)
    caption = f"Speed against {what} size, {kind}; the smallest is 1"
    return Chart(f"efficiency-{which}-{kind}", caption, kind, "lines", ticks, series, "normalised speed", {})


_NOTES = (
    "The authors found that their Edge TPU computes small maps and small filters less efficiently, which is one "
    "reason why "
    "split filters do not always win. Ours shows the same study on today's runtimes and on the modelled arrays.",
    "The dot-production array is as fast at every size, because 256 and 128 channels fill its 16×16 multipliers "
    "and nothing "
    "else limits it; the regular array is slow where a map leaves its PEs idle.",
    "Their gain with the filter size (5.22 at 5×5) means that the time hardly grew with it: the time was not "
    "that of the "
    "arithmetic. A runtime whose time is that of the arithmetic shows a flat line.",
)

PART = PaperPart(
    "efficiency",
    "Efficiency against map size and filter size",
    "One ordinary convolution of 256 to 128 channels: how many multiply-accumulates a processor does in a second.",
    _steps,
    _result,
)
