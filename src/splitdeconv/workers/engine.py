"""A runtime in a process of its own: it compiles models, runs them and times them against each other.

Requests and answers are JSON; arrays lie in files that they name. ``docs/decisions/children.md`` lists them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

from splitdeconv.errors import CompileError
from splitdeconv.measuring.rounds import interleaved
from splitdeconv.workers import arrays
from splitdeconv.workers.serve import Tell, one_line, serve_with_news

Feeds = Mapping[str, npt.NDArray[Any]]


class Loaded(Protocol):
    """A model that is ready to run."""

    def run(self, inputs: Feeds) -> Iterable[tuple[str, object]]:
        """All outputs in the model's order, under the model's names."""
        ...

    def prepare(self, inputs: Feeds) -> Callable[[], object]:
        """A call that runs the model once on ``inputs``, which already lie where the runtime wants them."""
        ...


class Engine(Protocol):
    """A runtime. What it raises becomes the reason of a refusal."""

    def describe(self) -> Mapping[str, Any]:
        """Its version, and what it has on this machine."""
        ...

    def compile(self, model: bytes | str, options: Mapping[str, Any]) -> Loaded:
        """Make a model ready to run; a string is its path."""
        ...


def serve_engine(engine: Engine) -> None:
    """Answer for ``engine`` until standard input ends."""
    serve_with_news(_Clerk(engine).answer)


class _Clerk:
    """Answers requests, and keeps the models that were compiled."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._models: dict[int, Loaded] = {}

    def answer(self, request: bytes, tell: Tell) -> bytes:
        try:
            return json.dumps(self._answer(json.loads(request), tell)).encode()
        except (CompileError, MemoryError):
            raise
        except Exception as error:  # runtimes raise what they like
            raise CompileError(one_line(error)) from None

    def _answer(self, asked: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
        for number in asked["forget"]:
            self._models.pop(number, None)
        match asked["do"]:
            case "describe":
                return self._engine.describe()
            case "compile":
                model = Path(asked["path"]).read_bytes() if asked["content"] else asked["path"]
                self._models[asked["model"]] = self._engine.compile(model, asked["options"])
                return {}
            case "run":
                inputs = arrays.read(asked["arrays"], asked["inputs"])
                outputs = self._models[asked["model"]].run(inputs)
                named = [each for name, value in outputs for each in arrays.named(name, value)]
                return {"outputs": arrays.write(asked["arrays"], named)}
            case "measure":
                return {"times": self._measure(asked, tell)}
        raise ValueError(f"no request is called {asked['do']}")

    def _measure(self, asked: Mapping[str, Any], tell: Tell) -> list[Mapping[str, Any] | None]:
        inputs = arrays.read(asked["arrays"], asked["inputs"])
        runs = {number: self._models[number].prepare(inputs) for number in asked["models"]}
        drop = math.inf if asked["drop"] is None else asked["drop"]
        times = interleaved(runs, asked["seconds"], progress=lambda share: tell(str(share).encode()), drop=drop)
        return [asdict(times[number]) if number in times else None for number in asked["models"]]
