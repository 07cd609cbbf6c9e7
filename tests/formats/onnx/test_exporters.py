"""Quantised models as real tools write them: ONNX Runtime's quantiser (run here), NNCF and PyTorch (stored).

What ``find`` sees in them, the proof of every site in every form, what ONNX Runtime makes of the result, and the whole
model against the original with ONNX Runtime's own rewriting switched off, where both are what ONNX defines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from splitdeconv.cli import main
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Site
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof.sites import prove_site
from splitdeconv.targets import target
from tests.onnx_models import RUNTIME_OPSETS
from tests.onnx_models import programs as offered_programs
from tests.quantised_network import KERNELS, network, sample

quantization = pytest.importorskip("onnxruntime.quantization")
pytestmark = pytest.mark.skipif(
    RUNTIME_OPSETS[-1] < 22, reason="needs a quantiser of 4 bits and integer kernels of DepthToSpace, which came later"
)

STORED = Path(__file__).parents[2] / "fixtures" / "quantised"
TYPE = quantization.QuantType
QDQ, QOPERATOR = quantization.QuantFormat.QDQ, quantization.QuantFormat.QOperator
FLOAT_ROUNDING = 1e-5  # sums of some hundred products in float32, in another order

# Options of the quantiser → activation, weight and granularity that must be found at all five deconvs.
OPTIONS: dict[str, tuple[dict[str, Any], tuple[str, str, bool]]] = {
    "uint8 uint8": ({"activation": "QUInt8", "weight": "QUInt8"}, ("uint8", "uint8", False)),
    "uint8 int8 per channel": (
        {"activation": "QUInt8", "weight": "QInt8", "per_channel": True},
        ("uint8", "int8", True),
    ),
    "int8 symmetric, 7 bits": (
        {
            "activation": "QInt8",
            "weight": "QInt8",
            "per_channel": True,
            "reduce_range": True,
            "ActivationSymmetric": True,
        },
        ("int8", "int8", True),
    ),
    "asymmetric weights": (
        {"activation": "QInt8", "weight": "QInt8", "WeightSymmetric": False},
        ("int8", "int8", False),
    ),
    "asymmetric weights per channel": (
        {"activation": "QUInt8", "weight": "QUInt8", "WeightSymmetric": False, "per_channel": True},
        ("uint8", "uint8", True),
    ),
    "a pair for each reader": (
        {"activation": "QUInt8", "weight": "QInt8", "DedicatedQDQPair": True},
        ("uint8", "int8", False),
    ),
    "float weights behind a pair": (
        {"activation": "QUInt8", "weight": "QInt8", "AddQDQPairToWeight": True, "per_channel": True},
        ("uint8", "int8", True),
    ),
    "float bias": ({"activation": "QUInt8", "weight": "QInt8", "QuantizeBias": False}, ("uint8", "int8", False)),
    "no bias": ({"activation": "QUInt8", "weight": "QInt8", "bias": False}, ("uint8", "int8", False)),
    "opset 11": ({"activation": "QUInt8", "weight": "QInt8", "opset": 11}, ("uint8", "int8", False)),
    "opset 13": (
        {"activation": "QUInt8", "weight": "QInt8", "opset": 13, "per_channel": True},
        ("uint8", "int8", True),
    ),
    "opset 21": ({"activation": "QInt8", "weight": "QInt8", "opset": 21}, ("int8", "int8", False)),
    "contrib operators": (
        {"activation": "QUInt8", "weight": "QUInt8", "UseQDQContribOps": True},
        ("uint8", "uint8", False),
    ),
    "int4": ({"activation": "QUInt8", "weight": "QInt4", "opset": 21}, ("uint8", "int8", False)),
    "uint4": ({"activation": "QUInt8", "weight": "QUInt4", "opset": 21}, ("uint8", "uint8", False)),
    "uint16": ({"activation": "QUInt16", "weight": "QInt8", "opset": 21}, ("uint16", "int8", False)),
    "int16 per channel": (
        {"activation": "QInt16", "weight": "QInt8", "opset": 21, "per_channel": True},
        ("int16", "int8", True),
    ),
    "int16 int16": ({"activation": "QInt16", "weight": "QInt16", "opset": 21}, ("int16", "int16", False)),
    "uint16, contrib operators": (
        {"activation": "QUInt16", "weight": "QUInt8", "opset": 17},
        ("uint16", "uint8", False),
    ),
}
OFTEN = {  # one of each kind, in every run
    "uint8 int8 per channel",
    "int8 symmetric, 7 bits",
    "asymmetric weights per channel",
    "float weights behind a pair",
    "float bias",
    "opset 11",
    "contrib operators",
    "int4",
    "int16 per channel",
}
_OF_QUANTISE_STATIC = ("per_channel", "reduce_range")


class Calibration(quantization.CalibrationDataReader):  # type: ignore[misc,name-defined]
    def __init__(self) -> None:
        self._inputs: Iterator[dict[str, Array]] = iter([{"x": sample(number)} for number in range(4)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self._inputs, None)


def quantise(folder: Path, options: dict[str, Any], quant_format: Any = QDQ) -> OnnxModel:
    logging.getLogger().setLevel(logging.ERROR)
    source, out = folder / "float.onnx", folder / "quantised.onnx"
    left = dict(options)
    onnx.save(network(left.pop("opset", 17), bias=left.pop("bias", True)), source)
    kinds = {"activation_type": TYPE[left.pop("activation")], "weight_type": TYPE[left.pop("weight")]}
    given = {name: left.pop(name) for name in _OF_QUANTISE_STATIC if name in left}
    quantization.quantize_static(
        str(source), str(out), Calibration(), quant_format=quant_format, extra_options=left, **kinds, **given
    )
    return OnnxModel.load(out)


def sites(model: OnnxModel) -> dict[str, Site]:
    findings = model.find()
    assert not findings.skipped
    return {site.id: site for site in findings.sites}


def kind(site: Site) -> tuple[str, str, bool] | None:
    quant = site.deconv.quant
    return None if quant is None else (quant.activation, quant.weight, quant.per_channel)


def run(model: OnnxModel, *, rewriting: bool = False) -> Array:
    """The output, by default of what the file says and not of what ONNX Runtime makes of it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not rewriting:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(ir.to_proto(model.ir).SerializeToString(), options)
    (y,) = session.run(None, {session.get_inputs()[0].name: sample(99)})
    return np.asarray(y)


def optimised(model: OnnxModel, folder: Path) -> list[str]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(ir.to_proto(model.ir).SerializeToString(), options)
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def rewrite(model: OnnxModel, form: str) -> OnnxModel:
    """Every quantised site in ``form``, where that can be written; each other one in its first form."""
    programs = {}
    for site in sites(model).values():
        wanted = form if site.deconv.quant is not None else ""
        found = [
            each for each in candidates(site.deconv, "NCHW")[0] if each.quant == wanted and each.lowering[:5] == "split"
        ]
        written = [lower(site.deconv, "NCHW", each) for each in found]
        taken = next((each for each in written if model.refuse(site, each) is None), None)
        if taken is not None:
            programs[site.id] = taken
    assert programs
    rewritten = model.splice(programs)
    onnx.checker.check_model(ir.to_proto(rewritten.ir), full_check=True)
    return rewritten


def forms(model: OnnxModel) -> set[str]:
    return {form for site in sites(model).values() if site.deconv.quant for form in site.deconv.quant.forms}


def assert_every_form_is_proved(model: OnnxModel) -> None:
    runtime = target("onnxruntime", threads=1)
    for site in sites(model).values():
        for candidate, program in offered_programs(model, site):
            if candidate.lowering == "split_phases" and candidate.form in ("concat", "rows", "transpose"):
                assert prove_site(model, site, program, runtime).exact, candidate


def assert_whole_model_is_kept(model: OnnxModel, form: str) -> None:
    """Bit for bit but for what float sums and a rounded float bias move: that may cross a step here and there.

    ``qlinear`` is left out: with weights of 8 bits it saturates on x86 processors without VNNI.
    """
    before, after = run(model), run(rewrite(model, form))
    moved = np.abs(after - before)
    assert np.mean(moved > np.ptp(before) / 255) < 0.05  # steps of the output
    if "qlinear" not in form:
        assert np.mean(moved > FLOAT_ROUNDING) < 0.02


MOST = [
    pytest.param(name, marks=() if name in OFTEN else pytest.mark.long, id=name.replace(" ", "-")) for name in OPTIONS
]


@pytest.fixture(scope="module", params=MOST)
def made(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[OnnxModel, tuple[str, str, bool]]:
    options, wanted = OPTIONS[request.param]
    return quantise(tmp_path_factory.mktemp("quantised"), options), wanted


def test_all_deconvs_are_found_as_the_quantiser_made_them(made: tuple[OnnxModel, tuple[str, str, bool]]) -> None:
    model, wanted = made
    assert {name: kind(site) for name, site in sites(model).items()} == dict.fromkeys(KERNELS, wanted)


def test_every_site_is_proved_in_every_form(made: tuple[OnnxModel, Any]) -> None:
    assert_every_form_is_proved(made[0])


def test_the_whole_model_is_kept(made: tuple[OnnxModel, Any]) -> None:
    for form in forms(made[0]) - {"qlinear"}:
        assert_whole_model_is_kept(made[0], form)


def test_integer_forms_run_as_integer_kernels(made: tuple[OnnxModel, Any], tmp_path: Path) -> None:
    model, (activation, _, _) = made
    integer = "16" not in activation
    found = optimised(rewrite(model, "qlinear" if integer else "float"), tmp_path)
    assert "ConvTranspose" not in found
    assert ("QLinearConv" in found) == integer


def test_weights_that_two_deconvs_share_stay_shared(tmp_path: Path) -> None:
    model = quantise(tmp_path, {"activation": "QUInt8", "weight": "QInt8"})
    rewritten = ir.to_proto(rewrite(model, "qdq").ir)
    sizes = [int(np.prod(each.dims)) for each in rewritten.graph.initializer if each.data_type == onnx.TensorProto.INT8]
    taps = sum(int(np.prod(kernel)) for name, kernel in KERNELS.items() if name != "up_plain") + 8 * 3 * 3 * 3
    assert sum(sizes) < 1.7 * taps  # window of the union holds empty taps


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (
            "nncf_mixed",
            {
                "up_relu": ("uint8", "int8", True),
                "up_plain": ("uint8", "int8", True),
                "up_skip": None,  # a concat of real numbers in front, Tanh and two readers behind
                "up_residual": ("int8", "int8", True),
                "up_out": None,  # the network's output is not quantised
            },
        ),
        (
            "nncf_performance",
            {
                "up_relu": ("uint8", "int8", True),
                "up_plain": ("uint8", "int8", True),
                "up_skip": None,
                "up_residual": ("int8", "int8", True),
                "up_out": None,
            },
        ),
        (
            "torch_per_tensor",
            {"node_convolution": ("int8", "int8", False), "node_convolution_1": ("int8", "int8", False)},
        ),
        (
            "torch_per_channel",
            {"node_convolution": ("int8", "int8", True), "node_convolution_1": ("int8", "int8", True)},
        ),
        ("torch_x86", {"node_convolution": None, "node_convolution_1": None}),  # it quantises no deconv
    ],
)
def test_models_of_other_tools(name: str, wanted: dict[str, Any], tmp_path: Path) -> None:
    model = OnnxModel.load(STORED / f"{name}.onnx")
    assert {name: kind(site) for name, site in sites(model).items()} == wanted
    assert_every_form_is_proved(model)
    for form in forms(model) - {"qlinear"}:
        assert_whole_model_is_kept(model, form)
    if "qlinear" in forms(model):
        before, after = optimised(model, tmp_path), optimised(rewrite(model, "qlinear"), tmp_path)
        assert after.count("QLinearConv") > before.count("QLinearConv")


def stored(model: OnnxModel) -> int:
    """Bytes of all constants."""
    return sum(value.const_value.nbytes for value in model.ir.graph.initializers.values() if value.const_value)


def test_scales_of_input_channels_are_computed_in_float_with_the_weights_as_stored(tmp_path: Path) -> None:
    """PyTorch quantises a deconv's weights along axis 0, which are its input channels."""
    model = OnnxModel.load(STORED / "torch_per_channel.onnx")
    assert forms(model) == {"float"}
    rewritten = rewrite(model, "float")
    assert stored(rewritten) < 2 * stored(model)
    before, after = optimised(model, tmp_path), optimised(rewritten, tmp_path)
    # ONNX Runtime would quantise float weights anew that stand between DequantizeLinear and QuantizeLinear.
    assert after.count("QLinearConv") <= before.count("QLinearConv")
    assert all("no integer kernel" in site.notes[0] for site in sites(model).values())


def test_a_weight_only_model_keeps_its_integers() -> None:
    """Only the weights of up_skip and up_out are quantised: what is behind them stays real."""
    model = OnnxModel.load(STORED / "nncf_mixed.onnx")
    site = sites(model)["up_out"]
    program = lower(site.deconv, "NCHW", Candidate("split_phases", form="concat"))
    rewritten = model.splice({site.id: program})
    filters = [each for each in ir.to_proto(rewritten.ir).graph.initializer if each.name.startswith("up_out/weight")]
    stored = [each for each in filters if len(each.dims) == 4 and min(each.dims[:2]) > 1]
    assert {each.data_type for each in stored} == {onnx.TensorProto.INT8}
    values = np.sort(np.concatenate([numpy_helper.to_array(each).ravel() for each in stored]))
    original = {each.name: each for each in ir.to_proto(model.ir).graph.initializer}
    np.testing.assert_array_equal(values, np.sort(numpy_helper.to_array(original["q_output_w_up_out_1"]).ravel()))
    np.testing.assert_allclose(run(rewritten), run(model), atol=FLOAT_ROUNDING)


@pytest.mark.parametrize("quantiser", ["operators", "dynamic"])
def test_deconvs_that_a_quantiser_leaves_alone_are_float_ones(quantiser: str, tmp_path: Path) -> None:
    """ONNX Runtime has no integer deconv: its operator format and its dynamic quantiser do not touch deconvs."""
    if quantiser == "operators":
        model = quantise(tmp_path, {"activation": "QUInt8", "weight": "QInt8"}, QOPERATOR)
    else:
        onnx.save(network(), tmp_path / "float.onnx")
        quantization.quantize_dynamic(str(tmp_path / "float.onnx"), str(tmp_path / "dynamic.onnx"))
        model = OnnxModel.load(tmp_path / "dynamic.onnx")
    assert {kind(site) for site in sites(model).values()} == {None}
    np.testing.assert_allclose(run(rewrite(model, "")), run(model), atol=FLOAT_ROUNDING)


def test_scales_that_onnx_does_not_define_are_named() -> None:
    """NNCF compresses weights with scales of shape (channels, 1, 1), which no runtime takes."""
    skipped = OnnxModel.load(STORED / "nncf_weights.onnx").find().skipped
    assert len(skipped) == len(KERNELS)
    assert "the scales of its weights have the shape [6, 1, 1]" in skipped[0].reason


@pytest.mark.parametrize("name", ["nncf_mixed", "torch_per_tensor", "torch_per_channel", "torch_x86"])
def test_models_of_other_tools_are_converted_as_a_user_does(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where ONNX Runtime saturates in a convolution of the original that is not ours, and no longer afterwards."""
    out = tmp_path / "out.onnx"
    assert main(["convert", str(STORED / f"{name}.onnx"), str(out), "--target", "generic"]) == 0
    assert "sites bit-equal to the definition" in capsys.readouterr().out
    assert "ConvTranspose" not in {node.op_type for node in onnx.load(out).graph.node}
