"""Layers of a list as ONNX models: what is found in them is what the list says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from splitdeconv.deconv.layers import read_layers
from splitdeconv.formats.onnx.model import OnnxModel
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.proof.sites import prove_site
from splitdeconv.targets import target

CONV = {"kind": "conv", "in_channels": 4, "out_channels": 6}
LAYERS = {
    "deconv": {"in_channels": 4, "out_channels": 6, "in_size": [5, 4], "kernel": 4, "stride": 2, "pad_begin": 1},
    "upsampled": {**CONV, "in_size": [5, 4], "kernel": 3, "upsample": 2, "pads": "same"},
    "zeros": {**CONV, "in_size": [5, 4], "kernel": 4, "insert_zeros": 2, "pad_begin": 2, "pad_end": 2},
    "zeros in groups": {**CONV, "in_size": [5, 4], "kernel": 3, "insert_zeros": [3, 1], "groups": 2, "pad_end": 2},
    "zeros that are cut off": {
        **CONV,
        "in_size": [5, 4],
        "kernel": 3,
        "insert_zeros": 3,
        "pad_begin": 1,
        "bias": False,
    },
    "zeros in 1-D": {**CONV, "in_size": [5], "kernel": 4, "insert_zeros": 3, "dilation": 2, "pad_end": 3},
    "zeros in 3-D": {**CONV, "in_size": [3, 4, 2], "kernel": 3, "insert_zeros": 2, "pad_begin": 1, "pad_end": 2},
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_site_is_the_layer(name: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.json"
    path.write_text(json.dumps([{**LAYERS[name], "name": name}]))
    ((deconv, epilogue),) = [(each.deconv, each.epilogue) for each in read_layers(path).layers]
    model = OnnxModel.layer(deconv, epilogue)
    (site,) = model.find().sites
    assert site.deconv == deconv
    form = lower(deconv, "NCHW", Candidate("split", "full", "transpose"))
    assert prove_site(model, site, form, target("onnxruntime")).exact
