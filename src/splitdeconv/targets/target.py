"""What a target does: run or judge models of the formats that it takes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar, cast

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.ops import Op
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import CompileError
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.measuring.rounds import DROP_RATIO, Progress, interleaved
from splitdeconv.results.record import Environment
from splitdeconv.results.times import NO_SECONDS, Measurement, Untimed
from splitdeconv.workers.serve import one_line

__all__ = ["KEEP_ALL", "CompileError", "Compiled", "Key", "MeasuredModel", "Measuring", "Target", "one_line"]

KEEP_ALL = math.inf
Key = TypeVar("Key")


class Compiled(Protocol):
    """A model that is ready to run on a target."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name.

        Raises:
            CompileError: the target stops at the inputs; some do so only when they see them.
        """
        ...


class MeasuredModel(Compiled, Protocol):
    """A compiled model that can be timed without the cost of handing arrays over."""

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        """A call that runs the model once on ``inputs``, which already lie where the target wants them.

        The call returns when the outputs are complete, and leaves them where they are. It holds until the next
        :meth:`run` or :meth:`prepare`.
        """
        ...


class Target(ABC):
    """A runtime, compiler or modelled processor.

    Attributes:
        name: as the command line takes it, options included (``onnxruntime:cpu``, ``vela:ethos-u55-128``).
        formats: the formats whose models it takes.
        kind: whether its times are measured or estimated.
        precisions: names for ``--precision``; a target that has some takes ``precision`` when it is made.
        gives_outputs: whether it runs models; the numbers of others come from the format's own runtime.
        reshape_is_free: whether a reshape inside a model costs nothing, because it shares its input's memory.
    """

    name: str
    formats: tuple[str, ...]
    kind: Literal["measured", "estimated"] = "measured"
    precisions: tuple[str, ...] = ()
    gives_outputs: bool = True
    reshape_is_free: bool = False

    @abstractmethod
    def environment(self) -> Environment:
        """Versions, processor, threads and options, for the record and the cache's key."""

    def refuse(self, program: Program) -> str | None:
        """Why the target does not run ``program`` well enough to try, or None; what does not compile needs no line."""
        return None

    def variants(self, candidate: Candidate) -> tuple[Candidate, ...]:
        """The ways to write ``candidate`` that may differ in speed here; without more knowledge, as it is."""
        return (candidate,)

    def in_full_precision(self) -> Target:
        """The same target without rounding to narrower types, for proofs: rounded sums have no equal bits."""
        return self

    @abstractmethod
    def compile(self, model: Compilable, *, whole: bool = False) -> Compiled:
        """Make a model ready to run.

        Args:
            model: its bytes, or its path where it is above 2 GB or has data in other files; and what it is made of.
            whole: it is the user's model, not a single site of it: what is refused in a site may be tolerated here.

        Raises:
            CompileError: the target does not take it.
        """

    def compile_plain(self, model: Compilable) -> Compiled | None:
        """The whole model with each operator computed as the file has it: nothing fused, nothing moved to other types.

        None where the target has no such mode.

        Raises:
            CompileError: the target does not take it.
        """
        return None

    def uncounted(self, model: Compiled) -> int:
        """How many operators the figure of a model leaves out, such as those that an NPU leaves to its CPU.

        Figures of models that leave out different numbers cannot be compared; what leaves out fewer is better.
        """
        return 0

    @abstractmethod
    def measure(
        self,
        models: Mapping[Key, Compiled],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        progress: Progress | None = None,
        drop: float = DROP_RATIO,
    ) -> dict[Key, Measurement | Untimed]:
        """Time several forms of the same work, interleaved round by round, within about ``seconds``.

        Args:
            models: what :meth:`compile` gave, under any keys: what the others must beat first, then the most promising.
            inputs: input name → array, the same for all.
            seconds: the budget.
            progress: called with the fraction done.
            drop: times the fastest one's median above which a model is given up; ``KEEP_ALL`` keeps all.

        Returns:
            Under each of the keys its time, as :func:`splitdeconv.measuring.rounds.interleaved` takes them, or why it
            has none: the budget left no seconds for its model, or that leaves out more than others
            (:meth:`uncounted`). A measuring target always times the first; with ``KEEP_ALL``, all.

        Raises:
            CompileError: one of the models does not run.
        """


class Measuring(Target):
    """A target that times its models in this process; its :meth:`compile` makes ``MeasuredModel``."""

    def measure(
        self,
        models: Mapping[Key, Compiled],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        progress: Progress | None = None,
        drop: float = DROP_RATIO,
    ) -> dict[Key, Measurement | Untimed]:
        """See :meth:`Target.measure`."""
        runs = {key: cast("MeasuredModel", compiled).prepare(inputs) for key, compiled in models.items()}
        return dict.fromkeys(models, NO_SECONDS) | interleaved(runs, seconds, progress=progress, drop=drop)


def measure_those_that_run(
    target: Target,
    models: Mapping[Key, Compiled],
    inputs: Mapping[str, Array],
    seconds: float,
    *,
    progress: Progress | None = None,
    drop: float = DROP_RATIO,
) -> dict[Key, Measurement | Untimed]:
    """Times as of :meth:`Target.measure`; models that do not run to the end have none.

    Where the models stop together, each is timed alone, which tells whose fault it is.
    """
    try:
        return target.measure(models, inputs, seconds, progress=progress, drop=drop)
    except CompileError as error:
        together = str(error)
    reasons = {key: reason for key, model in models.items() if (reason := _stops(target, model, inputs))}
    found: dict[Key, Measurement | Untimed] = {key: Untimed(reason, runs=False) for key, reason in reasons.items()}
    left = {key: model for key, model in models.items() if key not in reasons}
    if not left:
        return found
    try:
        return found | target.measure(left, inputs, seconds, progress=progress, drop=drop)
    except CompileError:
        stopped = Untimed(f"stops when it is timed beside others: {together}", runs=False)
        return found | dict.fromkeys(left, stopped)


def _stops(target: Target, model: Compiled, inputs: Mapping[str, Array]) -> str:
    """Why a model does not run to the end by itself, or nothing."""
    try:
        target.measure({"": model}, inputs, 0.0)
    except CompileError as error:
        return str(error)
    return ""


@dataclass(frozen=True, slots=True)
class Operator:
    """A kind of operation as a target meets it.

    Attributes:
        kind: the operation's class.
        dtype: NumPy name of the type that it computes in.
        rank: number of spatial axes of the deconv that it is a part of.
    """

    kind: type[Op]
    dtype: str
    rank: int


def operators(program: Program) -> frozenset[Operator]:
    """The operators of ``program``."""
    deconv = program.deconv
    return frozenset(Operator(kind, deconv.dtype, len(deconv.axes)) for kind in kinds(program))


def kinds(program: Program) -> frozenset[type[Op]]:
    """The classes of the operations of ``program``."""
    return frozenset(type(step.op) for step in program.steps)
