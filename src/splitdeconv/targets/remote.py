"""Targets whose runtime works in a process of its own, so that a model that brings it down is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast
from weakref import finalize

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import CompileError, UsageError
from splitdeconv.measuring.rounds import DROP_RATIO, Progress
from splitdeconv.results.times import NO_SECONDS, Measurement, Untimed
from splitdeconv.targets import processor
from splitdeconv.targets.child import Child, running
from splitdeconv.targets.target import Compiled, Key, Target
from splitdeconv.workers import arrays

MEMORY_SHARE = 0.8  # of the machine's memory, which a runtime may take


class Runtime:
    """One runtime in one child, which all targets of this process share.

    Args:
        child: speaks as ``workers.engine`` does.
    """

    def __init__(self, child: Child) -> None:
        self.child = child
        self._folder = TemporaryDirectory(prefix="splitdeconv-")
        self._numbers = count()
        self._forgotten: list[int] = []
        child.start()

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """The answer to a request; errors as of :meth:`Child.ask`."""
        return self._ask({"do": do, **what}, 1.0, None)

    def _ask(self, request: Mapping[str, Any], patience: float, progress: Progress | None) -> dict[str, Any]:
        forgotten, self._forgotten = self._forgotten, []
        heard = None if progress is None else lambda news: progress(float(news))
        asked = json.dumps({**request, "forget": forgotten}).encode()
        return cast("dict[str, Any]", json.loads(self.child.ask(asked, patience=patience, heard=heard)))

    def ask_with(
        self,
        inputs: Mapping[str, Array],
        do: str,
        *,
        patience: float = 1.0,
        progress: Progress | None = None,
        **what: Any,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """The answer to a request about ``inputs``, and the arrays that came with it."""
        _, path = self.new_file()
        try:
            listed = arrays.write(path, inputs.items())
            request = {"do": do, "arrays": str(path), "inputs": listed, **what}
            answer = self._ask(request, patience, progress)
            return answer, arrays.read(path, answer.get("outputs", ()))
        finally:
            path.unlink(missing_ok=True)

    def new_file(self) -> tuple[int, Path]:
        """A number that nothing else has, and the name of a file for it that goes away with this process."""
        number = next(self._numbers)
        return number, Path(self._folder.name, str(number))

    def forget(self, number: int, path: Path | None) -> None:
        """A model is no longer needed."""
        self._forgotten.append(number)
        if path is not None:
            path.unlink(missing_ok=True)

    @cached_property
    def described(self) -> dict[str, Any]:
        """What the runtime says of itself.

        Raises:
            UsageError: it does not start.
        """
        try:
            return self.ask("describe")
        except CompileError as error:
            raise UsageError(f"the runtime does not start: it {error}") from None


@cache
def runtime_in(module: str) -> Runtime:
    """The runtime that ``main()`` of a module serves."""
    return Runtime(Child(running(module), memory_bytes=int(MEMORY_SHARE * processor.memory_bytes())))


class Remote(Target):
    """A target that compiles, runs and times its models in a child.

    Args:
        runtime: what does it.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def _options(self, *, plain: bool = False) -> dict[str, Any]:
        """How to compile, in the words of the child."""
        return {}

    def compile(self, model: Compilable, *, whole: bool = False) -> RemoteModel:
        return RemoteModel(self._runtime, model.content, self._options())

    def measure(
        self,
        models: Mapping[Key, Compiled],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        progress: Progress | None = None,
        drop: float = DROP_RATIO,
    ) -> dict[Key, Measurement | Untimed]:
        """See :meth:`Target.measure`. All rounds are in the child.

        Raises:
            CompileError: one of the models does not run.
        """
        remote = [cast("RemoteModel", model) for model in models.values()]
        numbers = [model.number_in_child() for model in remote]
        limit = None if math.isinf(drop) else drop
        # Between two signs of life every model runs.
        answer, _ = self._runtime.ask_with(
            inputs,
            "measure",
            patience=len(models) + 1,
            progress=progress,
            models=numbers,
            seconds=seconds,
            drop=limit,
        )
        return {key: _outcome(time) for key, time in zip(models, answer["times"], strict=True)}


class RemoteModel:
    """A model in the child; compiled anew where the child has died since.

    Args:
        runtime: whose child it is in.
        model: its bytes, or its path.
        options: how to compile it.
    """

    def __init__(self, runtime: Runtime, model: bytes | Path, options: Mapping[str, Any]) -> None:
        self._runtime = runtime
        self._number, path = runtime.new_file()
        if isinstance(model, bytes):
            path.write_bytes(model)
        is_content, at = isinstance(model, bytes), model.absolute() if isinstance(model, Path) else path
        self._asked = {"model": self._number, "content": is_content, "path": str(at), "options": dict(options)}
        self._compiled_at = 0
        finalize(self, runtime.forget, self._number, path if is_content else None)
        self.number_in_child()

    def number_in_child(self) -> int:
        """The number under which the child knows the model now.

        Raises:
            CompileError: the runtime does not take it.
        """
        self._runtime.child.start()
        if self._compiled_at != self._runtime.child.starts:
            self._runtime.ask("compile", **self._asked)
            self._compiled_at = self._runtime.child.starts
        return self._number

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs by name; see :meth:`Compiled.run`."""
        return self._runtime.ask_with(inputs, "run", model=self.number_in_child())[1]


def _outcome(time: dict[str, Any] | None) -> Measurement | Untimed:
    if time is None:
        return NO_SECONDS
    return Measurement(**{**time, "rounds_ms": tuple(time["rounds_ms"]), "sizes_ms": ()})  # of one run, so of one size
