"""Layers of a list as TFLite models: what is found in them is what the list says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import splitdeconv
from splitdeconv.deconv.layers import read_layers
from splitdeconv.deconv.spec import Deconv, Quant
from splitdeconv.errors import UsageError
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof.sites import prove_site
from splitdeconv.targets import target
from tests.formats.tflite.stretched_checks import operators

SMALL = {"in_channels": 4, "out_channels": 6, "in_size": [5, 4]}
CONV = {"kind": "conv", **SMALL}
LAYERS = {
    "upsampled": {**CONV, "kernel": 3, "upsample": 2, "pads": "same"},
    "unequal": {**CONV, "kernel": [3, 2], "upsample": [3, 2], "pad_begin": [0, 2], "pad_end": 1, "bias": False},
    "zeros": {**CONV, "kernel": 4, "insert_zeros": 2, "pad_begin": 2, "pad_end": 1},
    "zeros on one axis": {**CONV, "kernel": 3, "insert_zeros": [3, 1], "pad_begin": 1, "pad_end": 2},
    "zeros that are cut off": {**CONV, "kernel": 3, "insert_zeros": 3, "pad_begin": 1, "bias": False},
    "depthwise zeros": {
        **CONV,
        "out_channels": 4,
        "groups": 4,
        "kernel": 4,
        "insert_zeros": 2,
        "pad_begin": 2,
        "pad_end": 2,
    },
    "same": {**SMALL, "kernel": 4, "stride": 2, "pads": "same", "epilogue": ["Relu", "Tanh"]},
    "cropped": {**SMALL, "kernel": 4, "stride": 2, "pad_begin": 1, "pad_end": 2},
}
QUANT = Quant("uint8", "int8", per_channel=True)  # as `--dtype int8` asks for


def listed(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps([{**LAYERS[name], "name": name} for name in names]))
    return path


def deconv_of(tmp_path: Path, name: str) -> tuple[Deconv, tuple[str, ...]]:
    (layer,) = read_layers(listed(tmp_path, name)).layers
    return layer.deconv, layer.epilogue


@pytest.mark.parametrize("name", LAYERS)
def test_the_site_is_the_layer(name: str, tmp_path: Path) -> None:
    deconv, epilogue = deconv_of(tmp_path, name)
    model = TfliteModel.layer(deconv, epilogue)
    (site,) = model.find().sites
    assert site.deconv == replace(deconv, has_bias=site.deconv.has_bias)  # a CONV_2D always has a bias
    form = lower(site.deconv, "NHWC", Candidate("split", "full", "transpose"))
    assert prove_site(model, site, form, target("litert")).exact


def test_zeros_are_written_as_the_exporter_writes_upfirdn2d(tmp_path: Path) -> None:
    stored = (Path(__file__).parents[2] / "fixtures" / "stretched" / "torch_upfirdn2d.tflite").read_bytes()
    exported = [each for each in operators(stored) if each != "TRANSPOSE"]  # its maps have their channels first
    deconv, _ = deconv_of(tmp_path, "depthwise zeros")
    assert operators(TfliteModel.layer(deconv, ()).to_object()) == exported


@pytest.mark.parametrize("name", ["zeros", "depthwise zeros", "same"])
def test_int8_layers_have_weights_per_channel(name: str, tmp_path: Path) -> None:
    deconv, epilogue = deconv_of(tmp_path, name)
    (site,) = TfliteModel.layer(replace(deconv, quant=QUANT), epilogue).find().sites
    assert site.deconv.axes == deconv.axes
    assert site.weights.quant is not None
    assert (site.weights.quant.x_type, site.weights.quant.w_scale.size) == ("int8", deconv.out_channels)


def test_a_list_is_timed(tmp_path: Path) -> None:
    record = splitdeconv.bench(layers=listed(tmp_path, "upsampled"), target="litert", budget=1e-3)
    assert [layer.deconv.describe() for layer in record.layers] == ["4→6 3×3 after ×2 @5×4"]
    with pytest.raises(UsageError, match="layer 'upsampled': it is quantised: the sums of its weights"):
        splitdeconv.bench(layers=listed(tmp_path, "upsampled"), target="litert", dtype="int8", budget=1e-3)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"in_size": [4]}, "has two axes, float32 or int8; this has 1, float32"),
        ({"groups": 2}, "neither groups nor dilation"),
        ({"output_pad": 1}, "neither output_pad nor pads below 0"),
        ({"epilogue": ["Mish"]}, "epilogue 'Mish' is not known in TFLite; there are Relu, Clip"),
    ],
)
def test_what_tflite_has_no_operator_for_is_refused(changes: dict[str, object], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps([{**SMALL, "kernel": 4, "stride": 2, **changes}]))
    (layer,) = read_layers(path).layers
    with pytest.raises(UsageError, match=reason):
        TfliteModel.layer(layer.deconv, layer.epilogue)


def test_onnx_writes_no_quantised_stretched_layers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="quantised layers of this kind are written as TFLite only"):
        splitdeconv.bench(layers=listed(tmp_path, "zeros"), target="onnxruntime", dtype="int8")
