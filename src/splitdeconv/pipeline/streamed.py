"""A model made one that works in chunks, and the proof of that, before its deconvs are rewritten."""

from __future__ import annotations

from collections.abc import Mapping

from splitdeconv.errors import CompileError, InputError, UsageError, VerificationError
from splitdeconv.formats.model import Model
from splitdeconv.pipeline.open import as_it_came, name_of, runner_for
from splitdeconv.pipeline.request import ConvertRequest
from splitdeconv.proof.streamed import check_streamed


def streamed(model: Model, request: ConvertRequest) -> tuple[Model, tuple[str, ...]]:
    """The model that takes chunks, and notes on how it is run and proved.

    Raises:
        UsageError: an operator needs the whole signal, or there is no such input or axis.
        VerificationError: it does not give what the whole model gives.
    """
    made, streaming = model.streamed(_axes(model, request.stream))
    if not request.verify:
        return made, (streaming.describe(),)
    runner = runner_for(model, None, request.options)
    request.progress("proving the chunks", 0.0)
    try:
        with as_it_came(model) as original, as_it_came(made) as compilable:
            same = {each.name: request.inputs[each.name] for each in model.inputs() if each.name in request.inputs}
            checks = check_streamed(model, streaming, original, (made, compilable), same, runner)
    except CompileError as error:
        raise InputError(f"{name_of(model)}: {runner.name} does not run the model as it is: {error}") from None
    if isinstance(checks, str):
        return made, (streaming.describe(), f"the chunks were not proved: {checks}")
    failed = [each for each in checks if not each.passed]
    if failed:
        errors = f"error {failed[0].after:.1e}, bound {failed[0].bound:.1e}"
        raise VerificationError(f"in chunks output '{failed[0].name}' differs: {errors}; nothing was written")
    worst = max(checks, key=lambda each: each.after / each.bound, default=None)
    proved = f", error {worst.after:.1e}, bound {worst.bound:.1e} (against {worst.against})" if worst else ""
    return made, (streaming.describe(), f"chunks of random sizes give what the whole model gives{proved}")


def _axes(model: Model, given: Mapping[str, int]) -> dict[str, int]:
    """The axes by input; an empty name stands for the only input.

    Raises:
        UsageError: there is no such input or axis.
    """
    inputs = {each.name: each for each in model.inputs()}
    axes = {}
    for name, axis in given.items():
        if not name and len(inputs) != 1:
            raise UsageError(f"--stream without a name: the model has {len(inputs)} inputs ({', '.join(inputs)})")
        found = inputs.get(name or next(iter(inputs)))
        if found is None:
            raise UsageError(f"--stream {name}: the model has no such input; it has {', '.join(inputs)}")
        rank = len(found.shape or ())
        if not 0 <= axis < rank:
            raise UsageError(f"--stream {axis}: input '{found.name}' has axes 0 to {rank - 1}")
        axes[found.name] = axis
    return axes
