"""What a target does: run or judge models of the formats that it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol

from splitdeconv.results import Candidate, Environment, Measurement
from splitdeconv.spec import Deconv
from splitdeconv.weights import Array


class CompileError(Exception):
    """The target does not take a model; the message is the reason, in the target's own words where it has them."""


class Compiled(Protocol):
    """A model that is ready to run on a target."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name."""
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
        """Why the target does not run ``candidate`` well enough to try, or None."""
        ...

    def compile(self, model: bytes) -> Compiled:
        """Make a model ready to run.

        Raises:
            CompileError: the target does not take it.
        """
        ...

    def measure(
        self, candidates: Mapping[Candidate, Compiled], inputs: Mapping[str, Array], seconds: float
    ) -> dict[Candidate, Measurement]:
        """Time several forms of the same work, interleaved round by round, within about ``seconds``."""
        ...
