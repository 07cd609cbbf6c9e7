"""Quantised ONNX deconvs: what is found, and every form of every candidate against the definition on integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from splitdeconv.choosing import planner
from splitdeconv.deconv import reference
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.model import Site
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.onnx.quantised_layer import qdq_model
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof.sites import fingerprint, prove_site, wrong_numbers
from splitdeconv.results.plan import Cost, Option
from splitdeconv.targets import target
from tests.examples import examples
from tests.lowerings.test_lowerings import swap_first_blocks
from tests.onnx_models import programs
from tests.onnx_quantised import random_input, random_weights
from tests.strategies import deconvs

LAYER = Deconv(
    (Axis(4, 2, 1, 1, 1, 0, 6), Axis(3, 2, 1, 1, 0, 0, 5)), 6, 4, has_bias=True, quant=Quant("uint8", "int8", True)
)
TYPES = [(activation, weight) for activation in ("uint8", "int8") for weight in ("int8", "uint8")]


def typed(activation: str, weight: str, per_channel: bool = True, layer: Deconv = LAYER) -> Deconv:
    return replace(layer, quant=Quant(activation, weight, per_channel))


def only_site(proto: Any) -> tuple[OnnxModel, Site]:
    model = OnnxModel(ir.from_proto(proto), None)
    findings = model.find()
    assert not findings.skipped
    (site,) = findings.sites
    return model, site


def run_all(proto: Any, x: Array, name: str = "onnxruntime") -> dict[str, Array]:
    """The stored output of every candidate that the front-end and the target take."""
    model, site = only_site(proto)
    runtime, found = target(name, threads=1), {}
    for candidate, program in programs(model, site):
        if runtime.refuse(program) is None:
            (found[str(candidate)],) = runtime.compile(model.emit(site, program)).run({"x": x}).values()
    assert len(found) > 1, "only native runs"
    return found


@st.composite
def quantised(draw: st.DrawFn) -> tuple[Deconv, Weights]:
    """A deconv of any geometry with any of the types, per tensor or channel, with or without a weight zero-point."""
    activation, weight = draw(st.sampled_from(TYPES))
    plain = draw(deconvs(negative_pads=False))
    deconv = replace(plain, quant=Quant(activation, weight, draw(st.booleans())))
    return deconv, random_weights(deconv, draw(st.integers(0, 2**32)), w_zero=draw(st.booleans()))


def assert_all_forms_equal_the_definition(drawn: tuple[Deconv, Weights]) -> None:
    deconv, weights = drawn
    x = random_input(deconv, seed=7)
    wanted = reference.quantised_deconv(x, weights, deconv)
    for name, y in run_all(qdq_model(deconv, weights), x).items():
        np.testing.assert_array_equal(y, wanted, name)
        assert y.dtype == wanted.dtype


@given(quantised())
@examples(5, 2_000)
def test_every_form_is_bit_equal_to_the_definition(drawn: tuple[Deconv, Weights]) -> None:
    assert_all_forms_equal_the_definition(drawn)


@pytest.mark.parametrize(("activation", "weight"), TYPES)
@pytest.mark.parametrize(
    "epilogue",
    [("Relu", "Clip"), ("Tanh",), *(pytest.param(each, marks=pytest.mark.long) for each in (("Relu",), ("Clip",)))],
)
def test_epilogues_are_taken_in_exactly(activation: str, weight: str, epilogue: tuple[str, ...]) -> None:
    deconv = typed(activation, weight)
    proto = qdq_model(deconv, random_weights(deconv, 3), epilogue=epilogue)
    found = run_all(proto, random_input(deconv, 4))
    native = found.pop("native")
    assert any("qlinear" in name for name in found) == ("Tanh" not in epilogue)
    assert len(np.unique(native)) > 4
    for name, y in found.items():
        np.testing.assert_array_equal(y, native, name)


def test_rounding_is_to_the_nearest_even_and_saturates() -> None:
    deconv = Deconv((Axis(1, in_size=5),), 1, 1, quant=Quant("uint8", "int8", False))
    weights = replace_scales(random_weights(deconv, 0), x_zero=10, y_zero=3, kernel=1)
    x = np.array([[[11, 13, 15, 0, 255]]], np.uint8)  # halves: 0.5, 1.5, 2.5, −5, 122.5
    np.testing.assert_array_equal(reference.quantised_deconv(x, weights, deconv), [[[3, 5, 5, 0, 125]]])


def replace_scales(weights: Weights, x_zero: int, y_zero: int, kernel: int) -> Weights:
    assert weights.quant is not None
    one = np.float32(1)
    quant = replace(
        weights.quant, x_scale=one, w_scale=np.asarray(one), y_scale=np.float32(2), x_zero=x_zero, y_zero=y_zero
    )
    return Weights(np.full_like(weights.kernel, kernel), None, quant)


def optimised(model: bytes, folder: Path) -> list[str]:
    """The operators that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_qlinear_runs_as_integer_kernels_and_moves_8_bit_values_only(tmp_path: Path) -> None:
    model, site = only_site(qdq_model(LAYER, random_weights(LAYER, 1)))
    tried = 0
    for candidate, program in programs(model, site):
        if candidate.quant.startswith("qlinear"):
            tried += 1
            found = optimised(model.emit(site, program).read(), tmp_path)
            assert "QLinearConv" in found, candidate
            assert not {"Conv", "DequantizeLinear", "QuantizeLinear", "ConvTranspose"} & set(found), candidate
    assert tried


def test_rows_keep_one_layout_change_at_either_end(tmp_path: Path) -> None:
    model, site = only_site(qdq_model(LAYER, random_weights(LAYER, 1)))
    program = lower(site.deconv, "NCHW", Candidate("split_rows", quant="qlinear"))
    found = optimised(model.emit(site, program).read(), tmp_path)
    assert found == ["Transpose", "QLinearConv", "QLinearConv", "Concat", "Reshape", "Transpose"]


def test_weights_are_copied_and_empty_places_hold_the_zero_point() -> None:
    deconv = typed("uint8", "uint8", per_channel=False)
    weights = random_weights(deconv, 5, w_zero=True)
    model, site = only_site(qdq_model(deconv, weights))
    program = lower(site.deconv, "NCHW", Candidate("split", "union", "depth_to_space", quant="qlinear"))
    emitted = onnx.load_from_string(model.emit(site, program).read())
    (conv,) = (node for node in emitted.graph.node if node.op_type == "QLinearConv")
    stored = {each.name: numpy_helper.to_array(each) for each in emitted.graph.initializer}[conv.input[3]]
    assert weights.quant is not None
    values, counts = np.unique(stored[stored != weights.quant.w_zero], return_counts=True)
    kept = weights.kernel[weights.kernel != weights.quant.w_zero]
    np.testing.assert_array_equal(np.repeat(values, counts), np.sort(kept))


@pytest.mark.parametrize("form", ["qdq", "qlinear"])
def test_openvino_computes_the_forms_it_takes_as_defined(form: str) -> None:
    deconv = typed("uint8", "int8", per_channel=form == "qdq")
    weights = random_weights(deconv, 6)
    x = random_input(deconv, 7)
    wanted = reference.quantised_deconv(x, weights, deconv).astype(np.int32)
    found = {
        name: y for name, y in run_all(qdq_model(deconv, weights), x, "openvino").items() if name.endswith(f":{form}")
    }
    assert found
    for name, y in found.items():
        assert np.abs(y.astype(np.int32) - wanted).max() <= 1, name
        assert np.count_nonzero(y != wanted) <= 0.01 * wanted.size, name


def test_openvino_refuses_qlinear_per_channel() -> None:
    reason = target("openvino").refuse(lower(LAYER, "NCHW", Candidate("split_rows", quant="qlinear")))
    assert reason is not None
    assert "per channel it fails or is wrong" in reason


def with_initializer(proto: Any, name: str, array: Array) -> Any:
    for initializer in proto.graph.initializer:
        if initializer.name == name:
            initializer.CopyFrom(numpy_helper.from_array(array, name))
    return proto


def test_qlinear_refuses_an_epilogue_that_is_no_clamp() -> None:
    model, site = only_site(qdq_model(LAYER, random_weights(LAYER, 1), epilogue=("Tanh",)))
    program = lower(site.deconv, "NCHW", Candidate("split_rows", quant="qlinear"))
    assert model.refuse(site, program) == "QLinearConv cannot take in Tanh: only clamps commute with rounding"
    assert model.refuse(site, replace(program, quant="qdq")) is None


@pytest.mark.parametrize("groups", [1, 2])
def test_a_weight_scale_for_each_input_channel_is_computed_in_float(groups: int) -> None:
    """As PyTorch's quantisers choose the axis; every form against the definition, bit for bit."""
    deconv = replace(LAYER, groups=groups)
    given = random_weights(deconv, 6)
    assert given.quant is not None
    assert given.bias is not None
    scale = (2.0 ** np.random.default_rng(1).integers(-6, -4, deconv.in_channels)).astype(np.float32)
    quant = replace(given.quant, w_scale=scale, w_zero=np.zeros(scale.shape, np.int32), w_axis=0)
    weights = Weights(given.kernel, (given.bias / 2.0**12).astype(np.float32), quant)
    x = random_input(deconv, 7)
    wanted = reference.quantised_deconv(x, weights, deconv)
    assert len(np.unique(wanted)) > 50
    found = run_all(qdq_model(deconv, weights), x)
    assert len(found) > 10
    for name, y in found.items():
        assert name in ("native",) or name.endswith(":float")
        np.testing.assert_array_equal(y, wanted, name)


def test_the_generic_rule_takes_the_form_that_every_runtime_runs() -> None:
    _, site = only_site(qdq_model(LAYER, random_weights(LAYER, 1)))
    equal = [Option(each, Cost(1, 1, 1)) for each in candidates(site.deconv, "NCHW")[0]]
    for lowering in ("split", "split_phases", "split_rows"):
        options = [each for each in equal if each.candidate.lowering == lowering]
        best = min(options, key=lambda option: planner.generic_score(option, site.deconv))
        assert best.candidate.quant == "qdq"


def test_partial_sums_are_refused() -> None:
    _, site = only_site(qdq_model(LAYER, random_weights(LAYER, 1)))
    refusals = {refusal.candidate.lowering: refusal.reason for refusal in candidates(site.deconv, "NCHW")[1]}
    assert "would requantise twice" in refusals["col2im"]


def test_a_float_bias_is_kept_in_qdq_and_noted() -> None:
    weights = random_weights(LAYER, 1)
    _, site = only_site(qdq_model(LAYER, weights, float_bias=True))
    assert site.weights.bias is not None
    assert site.weights.bias.dtype == np.float32
    assert "rounded as ONNX Runtime does" in site.notes[0]
    x = random_input(LAYER, 2)
    wanted = reference.quantised_deconv(x, weights, LAYER)
    for name, y in run_all(qdq_model(LAYER, weights, float_bias=True), x).items():
        np.testing.assert_array_equal(y, wanted, name)


def test_a_bias_in_other_units_is_dequantised() -> None:
    proto = qdq_model(LAYER, random_weights(LAYER, 1))
    proto = with_initializer(proto, "b_scale", np.full(4, 0.125, np.float32))
    _, site = only_site(proto)
    assert site.weights.bias is not None
    assert site.weights.bias.dtype == np.float32


def test_weights_behind_a_quantize_linear_of_constants_are_read_as_integers() -> None:
    """As PyTorch and NNCF export them."""
    weights = random_weights(LAYER, 1)
    assert weights.quant is not None
    proto = qdq_model(LAYER, weights)
    real = (weights.kernel * weights.quant.w_scale.reshape(1, -1, 1, 1)).astype(np.float32)
    proto = with_initializer(proto, "w", real)
    proto.graph.node.insert(
        0, helper.make_node("QuantizeLinear", ["w", "w_scale", "w_zero"], ["w_stored"], "q_w", axis=1)
    )
    proto.graph.node[2].input[0] = "w_stored"
    model, site = only_site(proto)
    np.testing.assert_array_equal(site.weights.kernel, weights.kernel)
    assert site.deconv.quant == Quant("uint8", "int8", True, ("qdq", "qlinear", "qlinear_u8", "float"))
    rewritten = model.splice({site.id: lower(site.deconv, "NCHW", Candidate("split_rows", quant="qlinear"))})
    left = {node.op_type for node in rewritten.ir.graph}
    assert left == {"QLinearConv", "Transpose", "Concat", "Reshape"}


def test_the_proof_sees_a_misplaced_sub_filter() -> None:
    model, site = only_site(qdq_model(LAYER, random_weights(LAYER, 1), epilogue=("Relu",)))
    runtime = target("onnxruntime", threads=1)
    for form in ("qdq", "qlinear", "qlinear_u8"):
        program = lower(site.deconv, "NCHW", Candidate("split", "union", "transpose", quant=form))
        assert prove_site(model, site, program, runtime).exact, form
        broken = prove_site(model, site, swap_first_blocks(program), runtime)
        assert not broken.exact
        assert "stored outputs differ" in broken.detail


class Saturating:
    """A target whose results are a few steps off, as those of kernels that add products in 16 bits.

    With ``everywhere`` its own deconv is no better.
    """

    name = "saturating"

    def __init__(self, everywhere: bool) -> None:
        self._runtime = target("onnxruntime", threads=1)
        self._everywhere = everywhere

    def compile(self, model: Compilable) -> Saturating:
        self._compiled = self._runtime.compile(model)
        operators = {node.op_type for node in onnx.load_from_string(model.read()).graph.node}
        self._off = 3 if self._everywhere or "ConvTranspose" not in operators else 0
        return self

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        return {name: np.maximum(y, self._off) - self._off for name, y in self._compiled.run(inputs).items()}


def test_wrong_numbers_are_told_from_roundings() -> None:
    model, site = only_site(qdq_model(LAYER, random_weights(LAYER, 1, real_scales=True)))
    program = lower(site.deconv, "NCHW", Candidate("split_rows", quant="qlinear"))
    assert wrong_numbers(model, site, program, target("onnxruntime", threads=1)) is None
    reason = wrong_numbers(model, site, program, Saturating(False))  # type: ignore[arg-type]
    assert reason is not None
    assert "by up to 3 steps (0.0% and 0 for its own deconv): saturating saturates sums" in reason
    assert wrong_numbers(model, site, program, Saturating(True)) is None  # type: ignore[arg-type]


def test_layers_of_equal_shape_and_other_weights_do_not_share_what_was_found() -> None:
    _, one = only_site(qdq_model(LAYER, random_weights(LAYER, 1)))
    _, same = only_site(qdq_model(LAYER, random_weights(LAYER, 1)))
    _, other = only_site(qdq_model(LAYER, random_weights(LAYER, 2)))
    assert fingerprint(one) == fingerprint(same)
    assert fingerprint(one) != fingerprint(other)
    assert fingerprint(replace(one, weights=Weights(one.weights.kernel))) == ()


def test_the_plan_and_the_record_name_the_form() -> None:
    candidate = Candidate("split", "union", "transpose", quant="qlinear_u8")
    assert str(candidate) == "split:union:transpose:qlinear_u8"
    assert candidate.matches("split:qlinear_u8")
    assert not candidate.matches("split:qdq")


def test_a_channel_without_weights_may_have_a_float_bias_beyond_int32() -> None:
    """Its weight scale is tiny, and so is the unit of its sums."""
    kernel = np.ones(LAYER.kernel_shape, np.int8)
    kernel[:, 1] = 0
    scale = np.full(LAYER.out_channels, 0.01, np.float32)
    scale[1] = 1e-12
    weights = random_weights(LAYER, 0)
    assert weights.quant is not None
    drawn = replace(
        weights.quant, w_scale=scale, w_zero=np.zeros(LAYER.out_channels, np.int32), x_scale=np.float32(0.05)
    )
    bias = np.linspace(0.1, 0.4, LAYER.out_channels).astype(np.float32)
    with pytest.raises(ValueError, match="beyond int32"):
        drawn.int32_bias(bias)
    x = random_input(LAYER, 0)
    found = reference.quantised_deconv(x, Weights(kernel, bias, drawn), LAYER)[:, 1]
    expected = np.rint(bias[1] / drawn.y_scale) + drawn.y_zero
    limits = np.iinfo(drawn.y_type)
    np.testing.assert_array_equal(found, np.clip(expected, limits.min, limits.max))
