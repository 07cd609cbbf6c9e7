"""Modelled processors as a target: times are cycles over the clock, estimated, never measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from splitdeconv.accelerator import lowered
from splitdeconv.accelerator.arch import Architecture, load_architecture
from splitdeconv.accelerator.counts import Counts, no_counts
from splitdeconv.accelerator.evaluate import evaluate_network
from splitdeconv.accelerator.model_work import model_works
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError
from splitdeconv.measuring.rounds import DROP_RATIO, Progress
from splitdeconv.results.record import Environment, versions
from splitdeconv.results.times import Measurement, Untimed
from splitdeconv.targets.target import Compiled, CompileError, Key, Target
from splitdeconv.workers.serve import one_line

DEFAULT = "dot-product-16x16"


@dataclass(frozen=True, slots=True, eq=False)
class EstimatedModel:
    """A model on a modelled processor.

    Attributes:
        model: what was compiled.
        counts: of the whole model, maps that stay on chip between its layers considered.
        milliseconds: cycles over the clock.
    """

    model: Compilable
    counts: Counts
    milliseconds: float

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the model computes, by its format's reference: a modelled processor has no arithmetic of its own."""
        if self.model.evaluate is None:
            raise CompileError("its format computes no models without a runtime")
        try:
            return self.model.evaluate(inputs)
        except Exception as error:  # the evaluators fail in many ways on what they do not know
            raise CompileError(f"its format's reference does not compute it ({one_line(error)})") from None


class Accelerator(Target):
    """``accelerator:NAME``, or ``accelerator:FILE.toml``; its hardware skips the zeros that it can."""

    formats = ("onnx", "tflite")
    kind = "estimated"
    gives_outputs = False

    def __init__(self, option: str = "", *, threads: int = 0) -> None:  # a processor has no threads
        self.arch: Architecture = load_architecture(option or DEFAULT)
        self.skip = Skip("activations" in self.arch.skips, "weights" in self.arch.skips)
        self.name = f"accelerator:{option or DEFAULT}"

    def environment(self) -> Environment:
        stated = {key: f"{each.text} ({each.source})" for key, each in self.arch.stated.items()}
        return Environment(self.name, {"splitdeconv": versions()["splitdeconv"]}, self.arch.title, 0, stated)

    def refuse(self, program: Program) -> str | None:
        return lowered.refuse(program, self.arch.deconv)

    def compile(self, model: Compilable, *, whole: bool = False) -> Compiled:
        try:
            operations = model.operations()
            if operations is None:
                raise CompileError("the layers of this model are not known")
            works = model_works(operations, self.arch.deconv)
        except (InputError, ValueError) as error:
            raise CompileError(str(error)) from error
        evaluations = evaluate_network(works, self.arch, self.skip)
        if not all(each.fits for each in evaluations):
            raise CompileError(f"no tile of some layer fits the buffers of {self.arch.name}")
        counts = sum((each.counts for each in evaluations), start=no_counts())
        return EstimatedModel(model, counts, float(counts.cycles / self.arch.clock_hz * 1e3))

    def measure(
        self,
        models: Mapping[Key, Compiled],
        inputs: Mapping[str, Array],  # an estimate needs neither values
        seconds: float,  # nor time
        *,
        progress: Progress | None = None,
        drop: float = DROP_RATIO,
    ) -> dict[Key, Measurement | Untimed]:
        found: dict[Key, Measurement | Untimed] = {}
        for key, compiled in models.items():
            assert isinstance(compiled, EstimatedModel), "only what this target compiled"
            time = compiled.milliseconds
            found[key] = Measurement(time, time, time, 0, self.kind)
        return found
