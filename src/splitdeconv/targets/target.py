"""What a target does: run or judge models of the formats that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol, cast

from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.measuring.rounds import DROP_RATIO, Progress, interleaved
from splitdeconv.results.record import Environment
from splitdeconv.results.times import Measurement

KEEP_ALL = math.inf


class CompileError(Exception):
    """The target does not take a model; the message is the reason, in the target's own words where it has them."""


def one_line(error: BaseException, longest: int = 300) -> str:
    """The message of ``error`` without line breaks, cut at ``longest`` letters; for :class:`CompileError`."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= longest else text[: longest - 1] + "…"


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


class Target(Protocol):
    """A runtime, compiler or modelled processor.

    Attributes:
        name: as the command line takes it, options included (``onnxruntime:cpu``, ``vela:ethos-u55-128``).
        formats: the front-ends whose models it takes.
        kind: whether its times are measured or estimated.
    """

    name: str
    formats: tuple[str, ...]
    kind: Literal["measured", "estimated"]

    def environment(self) -> Environment:
        """Versions, processor, threads and options, for the record and the cache's key."""
        ...

    def refuse(self, deconv: Deconv, candidate: Candidate) -> str | None:
        """Why the target does not run ``candidate`` of ``deconv`` well enough to try, or None."""
        ...

    def compile(self, model: bytes | Path) -> Compiled:
        """Make a model ready to run; one above 2 GB, or with data in other files, is given by its path.

        Raises:
            CompileError: the target does not take it.
        """
        ...

    def measure(
        self,
        candidates: Mapping[Candidate, Compiled],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        progress: Progress | None = None,
        drop: float = DROP_RATIO,
    ) -> dict[Candidate, Measurement]:
        """Time several forms of the same work, interleaved round by round, within about ``seconds``.

        Args:
            candidates: what the others must beat first, then the most promising.
            inputs: input name → array, the same for all.
            seconds: the budget.
            progress: told the share that is done.
            drop: times the fastest one's median above which a candidate is given up; ``KEEP_ALL`` keeps all.

        Returns:
            The times, as :func:`splitdeconv.measuring.rounds.interleaved` takes them; what the budget left out is
            missing.
        """
        ...


class Measuring:
    """The half of a target that times its models in this process; :meth:`Target.compile` makes ``MeasuredModel``."""

    kind: Literal["measured", "estimated"] = "measured"

    def measure(
        self,
        candidates: Mapping[Candidate, Compiled],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        progress: Progress | None = None,
        drop: float = DROP_RATIO,
    ) -> dict[Candidate, Measurement]:
        """See :meth:`Target.measure`."""
        runs = {each: cast("MeasuredModel", compiled).prepare(inputs) for each, compiled in candidates.items()}
        return interleaved(runs, seconds, progress=progress, drop=drop)
