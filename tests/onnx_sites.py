"""One deconv with whole numbers, for models that hold it at various places, and the check that it is rewritten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from splitdeconv.deconv import reference
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from tests.onnx_models import (
    conversions,
    count,
    deconv_attributes,
    passes_check,
    run,
)
from tests.strategies import integer_tensors

DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 3), Axis(3, 3, 1, 0, 1, 1, 4)), 2, 2, has_bias=True)
MAP: list[None] = [None] * 4
X, WEIGHTS = integer_tensors(DECONV, 0, "float32")
ASSIGNED = {"w": WEIGHTS.kernel, "b": WEIGHTS.bias}
KNOWN: dict[str, Array] = {name: values for name, values in ASSIGNED.items() if values is not None}
WANTED = reference.deconv(X.astype(np.float64), WEIGHTS, DECONV)
SHAPE = X.shape


def deconv_node(inputs: Sequence[str], output: str, name: str = "site", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("ConvTranspose", inputs, [output], name=name, **deconv_attributes(DECONV), **attributes)


def assert_gone_and_equal(
    model: onnx.ModelProto, feeds: dict[str, Array] | None = None, original: Callable[..., dict[str, Array]] = run
) -> list[onnx.ModelProto]:
    """Every candidate rewrites every deconv, and all outputs stay the same bits under the same names."""
    assert passes_check(model)
    feeds = {"x": X} if feeds is None else feeds
    wanted = original(model, feeds)
    found = []
    for candidate, converted in conversions(model):
        if candidate.lowering != "native":
            result = run(converted, feeds)
            assert list(result) == list(wanted)
            for name, values in wanted.items():
                np.testing.assert_array_equal(result[name], values, f"{candidate} {name}")
            assert count(converted, "ConvTranspose") == 0
            found.append(converted)
    assert found
    return found
