"""The conversion between other passes of ``onnx_ir``, in one process and without files."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes import common

import splitdeconv
from splitdeconv.passes import SplitDeconvs
from tests.models import deconv_model, op_types


def model() -> ir.Model:
    return ir.from_proto(deconv_model((1, 4, 5, 6), strides=[2, 2], pads=[1, 1, 1, 1], then=("Relu",)))


def test_it_runs_between_other_passes() -> None:
    split = SplitDeconvs(target="generic")
    passes = ir.passes.Sequential(common.CheckerPass(), split, common.RemoveUnusedNodesPass(), common.CheckerPass())
    before = model()
    kept = ir.to_proto(before).SerializeToString()
    found = passes(before)
    assert found.modified
    assert "ConvTranspose" not in op_types(ir.to_proto(found.model))
    assert split.result.verdict.passed
    assert ir.to_proto(before).SerializeToString() == kept, "a functional pass leaves its input"


def test_a_model_without_deconvs_is_not_modified() -> None:
    plain = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 2])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    assert not SplitDeconvs(target="generic")(ir.from_proto(plain)).modified


def test_its_errors_are_those_of_passes() -> None:
    with pytest.raises(ir.passes.PreconditionError, match="no lowering is called 'fft'"):
        SplitDeconvs(lowering="fft")(model())


def test_what_is_not_equal_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise splitdeconv.VerificationError("the rewritten model is not equal")

    monkeypatch.setattr(splitdeconv, "convert", fails)
    with pytest.raises(ir.passes.PassError, match="is not equal"):
        SplitDeconvs()(model())
