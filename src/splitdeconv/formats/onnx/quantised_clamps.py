"""The epilogue of a quantised deconv as clamps, which commute with rounding.

Rounding to the output's scale never reverses an order, so ``Q(clamp(v, a, b)) = clamp(Q(v), Q(a), Q(b))`` exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Quantisation
from splitdeconv.formats.onnx.epilogue import Stage

_CLAMPS = {"Relu": (0.0, None), "Clip": None, "Identity": (None, None)}

Bounds = tuple[float | None, float | None]


def clamps(stages: Sequence[Stage]) -> tuple[Bounds, ...] | str:
    """The epilogue as clamps, or the first operator that is none."""
    found: list[Bounds] = []
    for stage in stages:
        if stage.node.op_type not in _CLAMPS or stage.data_input != 0:
            return str(stage.node.op_type)
        found.append(_CLAMPS[stage.node.op_type] or _clip_bounds(stage))
    return tuple(found)


def _clip_bounds(stage: Stage) -> Bounds:
    """Bounds of a Clip: inputs from opset 11 on, attributes before."""
    bounds: list[float | None] = []
    for number, name in enumerate(("min", "max"), start=1):
        parameter = stage.parameters[number] if len(stage.parameters) > number else None
        attribute: Any = stage.node.attributes.get(name)
        if parameter is not None:
            bounds.append(float(parameter.values.reshape(())))
        else:
            bounds.append(None if attribute is None else float(attribute.as_float()))
    return bounds[0], bounds[1]


def stored_bounds(bounds: Bounds, quant: Quantisation) -> tuple[int, int]:
    """Bounds as stored values, as QuantizeLinear makes them."""
    limits = np.iinfo(quant.y_type)
    ends = (limits.min, limits.max)
    stored = [
        end if bound is None else int(np.clip(np.rint(np.float32(bound) / quant.y_scale) + quant.y_zero, *ends))
        for bound, end in zip(bounds, ends, strict=True)
    ]
    return stored[0], stored[1]


def narrows(bounds: Bounds, quant: Quantisation) -> bool:
    """Whether a clamp does more than the output's saturation."""
    limits = np.iinfo(quant.y_type)
    return stored_bounds(bounds, quant) != (limits.min, limits.max)
