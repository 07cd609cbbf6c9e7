"""What is new inside of a written model has types and sizes, and they are true."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.onnx.splice import is_native
from tests.models import deconv_model
from tests.onnx_models import programs

SIZES = {"N": 2, "height": 5}  # of the names


def stated(proto: onnx.ModelProto) -> dict[str, list[int | str]]:
    """The sizes of all values; 0 for one that is not stated."""
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in proto.graph.value_info
    }


def real(proto: onnx.ModelProto, names: list[str]) -> dict[str, list[int]]:
    """The sizes that a run has."""
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    x = np.zeros([SIZES.get(dim.dim_param, dim.dim_value) for dim in proto.graph.input[0].type.tensor_type.shape.dim])
    found = ReferenceEvaluator(proto).run(names, {"x": x.astype(np.float32)})
    return {name: list(np.shape(array)) for name, array in zip(names, found, strict=True)}


@pytest.mark.parametrize("shape", [(1, 4, 5, 6), ("N", 4, 5, 6), ("N", 4, "height", 6)], ids=str)
def test_every_new_map_is_stated_as_it_is(shape: tuple[int | str, ...]) -> None:
    model = OnnxModel.from_object(deconv_model(shape, strides=[2, 2], pads=[1, 1, 1, 1], then=("Relu",)))
    assert model is not None
    (site,) = model.find().sites
    for candidate, program in programs(model, site):
        if is_native(program):
            continue
        written = model.splice({"up": program}).to_object()
        onnx.checker.check_model(written, full_check=True)
        made, infos = [name for node in written.graph.node for name in node.output if name != "y"], stated(written)
        for name, sizes in real(written, made).items():
            assert len(infos[name]) == len(sizes), f"{candidate}: {name}"
            pairs = zip(infos[name], sizes, strict=True)
            assert all(SIZES.get(size, size) in (0, was) for size, was in pairs), f"{candidate}: {name}"
            assert shape[0] != 1 or 0 not in infos[name], f"{candidate}: {name} has a size that is known"
