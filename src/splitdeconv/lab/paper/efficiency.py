"""How well a convolution uses a processor, against the size of its map and of its filter: simulated and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splitdeconv import targets
from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.accelerator.layers import Network
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.deconv.layers import ConvAxis, PlainConv
from splitdeconv.deconv.network import Compilable, Layer
from splitdeconv.files import make_folder
from splitdeconv.lab.paper.child import in_child
from splitdeconv.lab.paper.models import digest
from splitdeconv.lab.paper.part import PaperPart, PaperSetting, PaperStep, Progress, needing
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Chart, Result, grouped
from splitdeconv.lab.paper.simulated import ARRAYS
from splitdeconv.lab.simulation.forms import ZERO_INSERT
from splitdeconv.lab.simulation.network import NetworkResult, simulate
from splitdeconv.report.page import Cell, Column, Header, Kind, Table
from splitdeconv.results.bench import NATIVE
from splitdeconv.results.times import Measurement, timed

INS, OUTS = 256, 128  # channels, as in the authors' study
MAPS, FILTER = (8, 16, 32, 64, 128), 3  # map sizes at one filter size ...
FILTERS, MAP = (2, 3, 4, 5), 128  # ... and filter sizes at one map size
QUICK_SECONDS, FULL_SECONDS = 0.5, 5.0  # for each convolution on each runtime; five rounds at least, however long
RUNTIMES = {"onnxruntime": ".onnx", "litert": ".tflite"}
_PACKAGES = {"onnxruntime": ("onnxruntime", "onnx"), "litert": ("ai-edge-litert", "litert-torch", "torch")}


@dataclass(frozen=True, slots=True)
class ConvTime:
    """The time of one convolution; ``size`` and ``kernel`` are those of its map and of its filter, on both axes."""

    size: int
    kernel: int
    time: Measurement

    @property
    def rate(self) -> float:
        """Multiply-accumulates per second."""
        return macs(self.size, self.kernel) / self.time.median_ms * 1e3


def points() -> tuple[tuple[int, int], ...]:
    """Map size and filter size of every convolution of the study."""
    return tuple(dict.fromkeys([*((size, FILTER) for size in MAPS), *((MAP, kernel) for kernel in FILTERS)]))


def macs(size: int, kernel: int) -> int:
    """Multiply-accumulates of one convolution whose output has the size of its input."""
    return size * size * kernel * kernel * INS * OUTS


def pads(kernel: int) -> tuple[int, int]:
    """SAME."""
    return (kernel - 1) // 2, kernel // 2


def simulated(array: str) -> tuple[ConvTime, ...]:
    """Every convolution on a modelled array."""
    arch = load_architecture(array)
    found = []
    for size, kernel in points():
        spec = PlainConv((ConvAxis(size, kernel, 1, 1, *pads(kernel)),) * 2, INS, OUTS)
        network = Network("conv", "", "", (Layer("conv", spec),))
        result = simulate(network, arch, load_energies(arch.energy), ZERO_INSERT, Skip())
        assert isinstance(result, NetworkResult), result
        ms = int(result.counts(deconvs_only=False).cycles) / float(arch.clock_hz) * 1e3
        found.append(ConvTime(size, kernel, Measurement(ms, ms, ms, 0, "estimated")))
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
        make_folder(self.folder)
        path = self.folder / f"conv{kernel}x{kernel}-{size}-{digest(_PACKAGES[self.runtime])}{suffix}"
        return path, *in_child(write_convolution, path, size, kernel, (INS, OUTS), pads(kernel))


def measured(convolutions: Convolutions, seconds: float, progress: Progress) -> tuple[ConvTime, ...]:
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
        time = timed(target.measure({NATIVE: target.compile(Compilable(path))}, {name: x}, seconds))[NATIVE]
        found.append(ConvTime(size, kernel, time))
    return tuple(found)


def _steps(setting: PaperSetting) -> Sequence[PaperStep]:
    command = f"splitdeconv reproduce {setting.out} --only efficiency"
    return [
        *(_step(array, "estimated", command, setting) for array in ARRAYS),
        *(_step(runtime, "measured", command, setting) for runtime in RUNTIMES),
    ]


def _step(name: str, kind: Kind, command: str, setting: PaperSetting) -> PaperStep:
    convolutions = Convolutions(name, setting.models) if kind == "measured" else None

    def run(progress: Progress) -> tuple[ConvTime, ...]:
        seconds = QUICK_SECONDS if setting.quick else FULL_SECONDS
        return simulated(name) if convolutions is None else measured(convolutions, seconds, progress)

    packages, holds = _PACKAGES.get(name, ()), tuple[ConvTime, ...]
    return PaperStep(name, kind, command, packages, run, holds, effort=convolutions is not None, prepare=convolutions)


def _result(found: Mapping[str, Sequence[ConvTime]]) -> Result:
    tables, charts = {}, {}
    kinds: dict[Kind, Mapping[str, str]] = {"estimated": ARRAYS, "measured": RUNTIMES}
    for kind, known in kinds.items():
        of = {name: times for name, times in found.items() if name in known}
        for which in ("maps", "filters") if of else ():
            tables[f"efficiency-{which}-{kind}"] = _table(kind, of, which)
            charts[f"efficiency-{which}-{kind}"] = _chart(kind, of, which)
    return Result(tables, charts, notes=_NOTES)


def _rates(found: Sequence[ConvTime], which: str) -> list[float]:
    """Of the convolutions of one of both studies, smallest first."""
    if which == "maps":
        return [each.rate for each in found if each.kernel == FILTER]
    return [each.rate for each in sorted((each for each in found if each.size == MAP), key=lambda each: each.kernel)]


def _sizes(which: str) -> tuple[int, ...]:
    return MAPS if which == "maps" else FILTERS


def _table(kind: Kind, of: Mapping[str, Sequence[ConvTime]], which: str) -> Table:
    theirs = published(f"efficiency-{which}")
    rows: list[tuple[Cell, ...]] = []
    for place, size in enumerate(_sizes(which)):
        cells: list[Cell] = []
        for times in of.values():
            rates = _rates(times, which)
            cells += [rates[place] / 1e9, rates[place] / rates[0]]
        rows.append((f"{size}×{size}", *cells, theirs.value(str(size))))
    heads: list[Header] = [which.removesuffix("s")]
    for name in of:
        heads += [Column(f"{name}, 10⁹ MAC/s"), Column(f"{name}, normalised", "×")]
    fixed = f"filters of {FILTER}×{FILTER}" if which == "maps" else f"maps of {MAP}×{MAP}"
    caption = f"Speed of a convolution {INS}→{OUTS} with {fixed}"
    note = (
        "float32, one convolution after the other; the smallest is 1." if kind == "measured" else "The smallest is 1."
    )
    columns = (*heads, Column("authors' Edge TPU, normalised", "×"))
    return Table(caption, columns, tuple(rows), (note,), kind)


def _chart(kind: Kind, of: Mapping[str, Sequence[ConvTime]], which: str) -> Chart:
    series: dict[str, Sequence[float | None]] = {}
    for name, times in of.items():
        rates = _rates(times, which)
        series[name] = [rate / rates[0] for rate in rates]
    theirs = published(f"efficiency-{which}")
    series["authors' Edge TPU"] = [theirs.value(str(size)) for size in _sizes(which)]
    groups = grouped([f"{size}×{size}" for size in _sizes(which)], series)
    caption = f"Speed against {which.removesuffix('s')} size, {kind}; the smallest is 1"
    return Chart(caption, kind, groups, "normalised speed")


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
