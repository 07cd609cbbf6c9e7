"""Times of several models on a target, without those that stop, or bring the runtime down, while they are timed."""

from __future__ import annotations

from collections.abc import Mapping

from splitdeconv.deconv.weights import Array
from splitdeconv.measuring.rounds import DROP_RATIO, Progress
from splitdeconv.results.times import Measurement, Untimed
from splitdeconv.targets.target import Compiled, CompileError, Key, Target


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
