"""What the user named, checked before anything takes time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from splitdeconv import formats, lowerings
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Model
from splitdeconv.pipeline.open import Shapes
from splitdeconv.pipeline.request import ConvertRequest
from splitdeconv.proof.inputs import check_inputs, check_shapes


def check_names(model: Model, out: Path | None, request: ConvertRequest, given: Sequence[Shapes]) -> None:
    """Check everything that a request names.

    Raises:
        UsageError: there is no such form, input or size, or no file of that name.
    """
    for name in (request.overrides.lowering, *request.overrides.layers.values()):
        if name:
            lowerings.find_lowering(name.split(":")[0])
    check_output(model, out)
    inputs = model.inputs()
    check_inputs(inputs, request.inputs)
    for shapes in given:
        check_shapes(inputs, shapes)
    if len(given) > 1 and (both := [name for name in given[0] if name in request.inputs]):
        raise UsageError(
            f"--input {both[0]}: has one size, and --input-shape gives it {len(given)}; wanted one of both"
        )


def check_output(model: Model, out: Path | None) -> None:
    """Check that ``out`` may be the name of a file of the model's format.

    Raises:
        UsageError: it may not.
    """
    if out is not None and not model.suffix:
        raise UsageError(f"{out}: no file holds such a model; leave the name out, and take the result")
    if out is not None and out.suffix != model.suffix and out.suffix in formats.SUFFIXES:
        raise UsageError(f"{out}: the model is {model.format} and stays so; wanted a name that ends in {model.suffix}")
