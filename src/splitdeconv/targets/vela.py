"""Arm's compiler for Ethos-U NPUs: its estimates, and what it leaves to the CPU in its own words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import ethosu.config_files  # a namespace of Vela's; its absence means that the extra is missing

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.ops import DepthToSpace
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.lowerings.candidate import RELAYOUT, Candidate
from splitdeconv.measuring.rounds import DROP_RATIO, Progress
from splitdeconv.results.record import Environment
from splitdeconv.results.times import Measurement, Untimed
from splitdeconv.targets.child import Child
from splitdeconv.targets.litert import LiteRtModel, interpreter
from splitdeconv.targets.target import Compiled, CompileError, Key, Target, kinds

DEFAULT = "internal-default"  # Vela's own word for its choice by accelerator
DEFAULT_ACCELERATOR = "ethos-u55-128"
ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)  # Source: Vela 5.2, --accelerator-config


@dataclass(frozen=True, slots=True)
class OpEstimate:
    """One operator of the compiled model.

    Attributes:
        name: of its output.
        operator: its kind, as Vela calls it.
        cycles: Vela's estimate.
        bound: what takes the cycles: ``MACs``, or a memory.
    """

    name: str
    operator: str
    cycles: int
    bound: str


@dataclass(frozen=True, slots=True)
class LeftToCpu:
    """An operator that stays on the CPU, and why, in Vela's words."""

    operator: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What Vela says of a compiled model. Everything here is an estimate, nothing was run.

    Attributes:
        cycles: of the whole inference; operators on the CPU are not counted.
        clock_hz: core clock of the system configuration.
        macs: multiply-accumulates, inserted zeros included.
        operators: in execution order.
        left_to_cpu: with Vela's reasons.
        cpu_operators: how many stay on the CPU.
    """

    cycles: int
    clock_hz: float
    macs: int
    operators: tuple[OpEstimate, ...]
    left_to_cpu: tuple[LeftToCpu, ...]
    cpu_operators: int

    @property
    def latency_ms(self) -> float:
        """Cycles at the configuration's clock."""
        return self.cycles / self.clock_hz * 1e3

    def why_cpu(self) -> str:
        """One line with what stays on the CPU."""
        return "; ".join(f"{each.operator} stays on the CPU: {each.reason}" for each in self.left_to_cpu)

    def time(self, fewest: int) -> Measurement | Untimed:
        """Its time beside models of which one leaves only ``fewest`` operators to the CPU."""
        if self.cpu_operators > fewest:
            return Untimed(f"{self.cpu_operators} of its operators stay on the CPU and are not counted, not {fewest}")
        if not self.cycles:
            return Untimed("nothing of it runs on the NPU")
        return Measurement(self.latency_ms, self.latency_ms, self.latency_ms, 1, "estimated")


class Vela(Target):
    """An NPU as Arm's compiler sees it.

    ``vela:ethos-u65-512,system-config=Ethos_U65_High_End,memory-mode=Shared_Sram``; what is left out is Vela's default.
    """

    formats = ("tflite",)
    kind = "estimated"
    gives_outputs = False

    def __init__(self, option: str = "", *, threads: int = 0) -> None:  # a compiler has no threads
        accelerator, *settings = (option or DEFAULT_ACCELERATOR).split(",")
        if accelerator not in ACCELERATORS:
            raise UsageError(f"target 'vela' has no accelerator '{accelerator}'; there are {', '.join(ACCELERATORS)}")
        chosen = _settings(settings)
        self.accelerator = accelerator
        self.system_config, self.memory_mode = chosen["system-config"], chosen["memory-mode"]
        self.name = ",".join([f"vela:{accelerator}", *settings])
        arguments = ["-m", "splitdeconv.targets.vela_worker", accelerator, self.system_config, self.memory_mode]
        self._child = Child(arguments)

    def environment(self) -> Environment:
        options = {"system-config": self.system_config, "memory-mode": self.memory_mode}
        return Environment(self.name, {"ethos-u-vela": version("ethos-u-vela")}, self.accelerator, 0, options)

    def refuse(self, program: Program) -> str | None:
        quant = program.deconv.quant
        if quant is None or quant.activation == "float32":
            return "Ethos-U computes in int8, uint8 and int16 only: quantise the model first"
        if DepthToSpace in kinds(program):
            return "Vela has no DEPTH_TO_SPACE"
        if program.inserts_zeros:
            return "Vela's own TRANSPOSE_CONV already inserts the zeros"
        return None

    def variants(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The candidate as it is, and with an operation behind it that lets Vela choose its output's layout."""
        return (candidate, replace(candidate, after=RELAYOUT))

    def compile(self, model: Compilable, *, whole: bool = False) -> VelaModel:
        """A whole model may leave operators to the CPU; a single site that does is refused."""
        content = model.read()
        found = self.estimate(content)
        if not whole and found.cpu_operators:
            raise CompileError(found.why_cpu() or f"{found.cpu_operators} of its operators stay on the CPU")
        return VelaModel(content, found)

    def estimate(self, model: bytes) -> Estimate:
        """Compile a model.

        Raises:
            CompileError: Vela does not take it, in its own words.
        """
        return _read(json.loads(self._child.ask(model)))

    def uncounted(self, model: Compiled) -> int:
        """Operators that stay on the CPU."""
        return cast("VelaModel", model).estimate.cpu_operators

    def measure(
        self,
        models: Mapping[Key, Compiled],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        progress: Progress | None = None,
        drop: float = DROP_RATIO,
    ) -> dict[Key, Measurement | Untimed]:
        """Vela's estimates. Models that leave more operators to the CPU than others have no comparable estimate."""
        estimates = {key: cast("VelaModel", model).estimate for key, model in models.items()}
        fewest = min((found.cpu_operators for found in estimates.values()), default=0)
        return {key: found.time(fewest) for key, found in estimates.items()}


@dataclass(frozen=True, slots=True)
class VelaModel:
    """A compiled model. Vela judges and does not run: LiteRT's interpreter gives the numbers, as on an NPU's CPU."""

    content: bytes
    estimate: Estimate

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        return LiteRtModel(interpreter(self.content, "xnnpack", 1)).run(inputs)


def configurations() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the system configurations and of the memory modes that Vela's own file defines."""
    parser = ConfigParser()
    folder = Path(next(iter(ethosu.config_files.__path__)))
    parser.read(folder / "Arm" / "vela.ini", encoding="utf-8")
    sections = [section.split(".", 1) for section in parser.sections() if "." in section]
    names = {
        kind: tuple(name for group, name in sections if group == kind) for kind in ("System_Config", "Memory_Mode")
    }
    return names["System_Config"], names["Memory_Mode"]


def _settings(settings: list[str]) -> dict[str, str]:
    known = dict(zip(("system-config", "memory-mode"), configurations(), strict=True))
    chosen = dict.fromkeys(known, DEFAULT)
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in known:
            raise UsageError(f"target 'vela' has no setting '{key}'; there are {', '.join(known)}")
        if value not in known[key]:
            raise UsageError(f"target 'vela' has no {key} '{value}'; there are {', '.join(known[key])}")
        chosen[key] = value
    return chosen


def _read(found: dict[str, Any]) -> Estimate:
    """The worker's answer."""
    summary, layers = found["summary"], found["layers"]
    operators = tuple(_operator(layer) for layer in layers)
    left = tuple(LeftToCpu(**each) for each in found["left_to_cpu"])

    def number(key: str) -> float:
        return float(summary.get(key) or 0)

    return Estimate(
        cycles=int(number("cycles_total")),
        clock_hz=number("core_clock"),
        macs=int(number("nn_macs")),
        operators=operators,
        left_to_cpu=left,
        cpu_operators=found["cpu_operators"],
    )


_BOUNDS = {
    "NPU": "MACs",
    "SRAM AC": "SRAM",
    "DRAM AC": "DRAM",
    "OnFlash AC": "on-chip flash",
    "OffFlash AC": "off-chip flash",
}


def _operator(layer: dict[str, str]) -> OpEstimate:
    cycles = {bound: float(layer.get(column) or 0) for column, bound in _BOUNDS.items()}
    bound = max(cycles, key=lambda name: cycles[name])
    total = int(float(layer["Op Cycles"]))
    return OpEstimate(layer["Name"], layer["NNG Operator"], total, bound if total else "")
