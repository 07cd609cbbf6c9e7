"""Models that ONNX Runtime's own quantiser made: float ones quantised here, then rewritten."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof.sites import prove_site
from splitdeconv.targets import target
from tests.onnx_models import programs

quantization = pytest.importorskip("onnxruntime.quantization")

SHAPE = (1, 3, 10, 8)
STEP_SHARE = 0.01  # of the outputs that may fall to the other side of a tie


def float_model(path: Path) -> Path:
    """Conv, Relu, deconv, Relu, deconv (grouped), Relu: every map is quantised, two deconvs follow one another."""
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> Array:
        return rng.normal(0, 0.3, shape).astype(np.float32)

    weights = {
        "w0": drawn(8, 3, 3, 3),
        "b0": drawn(8),
        "w1": drawn(8, 6, 4, 3),
        "b1": drawn(6),
        "w2": drawn(6, 2, 2, 2),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], "relu0"),
        helper.make_node("ConvTranspose", ["r0", "w1", "b1"], ["d1"], "up1", strides=[2, 2], pads=[1, 1, 1, 0]),
        helper.make_node("Relu", ["d1"], ["r1"], "relu1"),
        helper.make_node("ConvTranspose", ["r1", "w2"], ["d2"], "up2", strides=[2, 2]),
        helper.make_node("Sigmoid", ["d2"], ["y"], "sigmoid"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 40, 32])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        self._inputs: Iterator[dict[str, Array]] = iter([{"x": sample(number)} for number in range(4)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._inputs, None)


def sample(seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 1, SHAPE).astype(np.float32)


def quantise(source: Path, activation: str, weight: str, per_channel: bool) -> Path:
    """ONNX Runtime's static quantiser, QDQ form; 7 bits so that no processor saturates."""
    logging.getLogger().setLevel(logging.ERROR)
    out = source.with_name("quantised.onnx")
    kinds = {"uint8": quantization.QuantType.QUInt8, "int8": quantization.QuantType.QInt8}
    quantization.quantize_static(
        str(source),
        str(out),
        Calibration(),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=kinds[activation],
        weight_type=kinds[weight],
        per_channel=per_channel,
        reduce_range=True,
    )
    return out


def run(model: OnnxModel) -> Array:
    compiled = target("onnxruntime", threads=1).compile(Compilable(ir.to_proto(model.ir).SerializeToString()))
    return compiled.run({"x": sample(99)})["y"]


def op_types(model: OnnxModel) -> list[str]:
    return [node.op_type for node in model.ir.graph]


def rewrite(model: OnnxModel, form: str) -> OnnxModel:
    """Every site in its first candidate of ``form``."""
    programs = {}
    for site in model.find().sites:
        first = next(each for each in candidates(site.deconv, "NCHW")[0] if each.quant == form)
        programs[site.id] = lower(site.deconv, "NCHW", first)
    return model.splice(programs)


@pytest.fixture(
    scope="module",
    params=[("uint8", "int8", True), ("uint8", "uint8", False), ("int8", "int8", False), ("int8", "int8", True)],
    ids=lambda param: "-".join(map(str, param)),
)
def model(request: Any, tmp_path_factory: pytest.TempPathFactory) -> OnnxModel:
    source = float_model(tmp_path_factory.mktemp("quantiser") / "float.onnx")
    return OnnxModel.load(quantise(source, *request.param))


def test_both_deconvs_are_found_as_quantised(model: OnnxModel) -> None:
    findings = model.find()
    assert not findings.skipped
    assert [site.deconv.quant is not None for site in findings.sites] == [True, True]
    assert all(site.weights.kernel.dtype.kind in "iu" for site in findings.sites)


@pytest.mark.parametrize("form", ["qdq", "qlinear"])
def test_the_whole_model_keeps_its_outputs(model: OnnxModel, form: str) -> None:
    rewritten = rewrite(model, form)
    assert "ConvTranspose" not in op_types(rewritten)
    onnx.checker.check_model(ir.to_proto(rewritten.ir), full_check=True)
    before, after = run(model), run(rewritten)
    step = np.diff(np.unique(before)).min()
    assert np.abs(after - before).max() <= 2.5 * step  # a tie in the first deconv may move two steps of the last
    assert np.count_nonzero(np.abs(after - before) > step / 2) <= STEP_SHARE * before.size


def test_every_site_is_proved_in_every_form(model: OnnxModel) -> None:
    runtime = target("onnxruntime", threads=1)
    for site in model.find().sites:
        for candidate, program in programs(model, site):
            if candidate.lowering in ("split", "split_rows"):
                assert prove_site(model, site, program, runtime).exact, candidate


def test_readers_of_a_moved_output_get_its_zero_point(model: OnnxModel) -> None:
    """No pair of nodes turns uint8 back to int8 where all readers are DequantizeLinear nodes."""
    rewritten = rewrite(model, "qlinear")
    quantisers = op_types(model).count("QuantizeLinear")
    sites = model.find().sites
    shifts = sum(site.deconv.quant is not None and site.deconv.quant.activation == "int8" for site in sites[:1])
    assert op_types(rewritten).count("QuantizeLinear") == quantisers - len(sites) + shifts


def test_splicing_leaves_the_original_alone(model: OnnxModel) -> None:
    before = ir.to_proto(model.ir).SerializeToString()
    rewrite(model, "qlinear")
    assert ir.to_proto(model.ir).SerializeToString() == before


def test_converting_before_quantising_gives_the_same_network(tmp_path: Path) -> None:
    """The other order: the quantiser sees convolutions, and calibrates every one of them for itself."""
    source = float_model(tmp_path / "float.onnx")
    plain = OnnxModel.load(source)
    rows = {
        site.id: lower(site.deconv, "NCHW", Candidate("split", "union", "depth_to_space"))
        for site in plain.find().sites
    }
    converted = tmp_path / "converted.onnx"
    plain.splice(rows).save(converted)
    first = run(OnnxModel.load(quantise(source, "uint8", "int8", True)))
    other = run(OnnxModel.load(quantise(converted, "uint8", "int8", True)))
    exact = run(plain)
    assert np.abs(first - exact).max() < 0.1
    assert np.abs(other - exact).max() < 0.1
