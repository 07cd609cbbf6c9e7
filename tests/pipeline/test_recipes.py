"""What docs/pipelines.md says of exporters: LiteRT's for PyTorch, and optimum's for ONNX (if that is installed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

import splitdeconv
import splitdeconv.torch
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.tflite import TfliteModel

INPUT = torch.randn(1, 3, 6, 5, generator=torch.Generator().manual_seed(0))
ROUNDING = 2e-6  # relative: some hundred products in another order


def network(kernel: int, padding: int, output_padding: int) -> nn.Module:
    torch.manual_seed(0)
    deconv = nn.ConvTranspose2d(4, 5, kernel, 2, padding, output_padding)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), deconv, nn.ReLU()).eval()


def exported(module: nn.Module) -> bytes:
    """As a TFLite file."""
    litert_torch = pytest.importorskip("litert_torch")
    found: bytes = litert_torch.convert(module, (INPUT,)).model_content()
    return found


def run(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  # where the exporter is there

    made = Interpreter(model_content=content)
    made.allocate_tensors()
    made.set_tensor(made.get_input_details()[0]["index"], INPUT.numpy())
    made.invoke()
    return made.get_tensor(made.get_output_details()[0]["index"])


@pytest.mark.long
def test_what_litert_torch_exports_is_split_behind_it() -> None:
    module = network(4, 1, 0)
    before = exported(module)
    found = splitdeconv.convert(before, target="generic")
    assert found.verdict.passed
    model = TfliteModel.from_object(before)
    assert model is not None
    assert [[axis.kernel for axis in site.deconv.axes] for site in model.find().sites] == [[4, 4]]
    assert not found.rewritten.find().sites
    np.testing.assert_allclose(run(found.model), run(before), rtol=ROUNDING, atol=ROUNDING)


@pytest.mark.long
def test_what_litert_torch_refuses_is_exported_once_it_is_split() -> None:
    module = network(3, 1, 1)
    with pytest.raises(ValueError, match="failed to legalize"):
        exported(module)
    split = splitdeconv.torch.convert(module, (INPUT,), target="generic").eval()
    np.testing.assert_allclose(run(exported(split)), module(INPUT).detach().numpy(), rtol=ROUNDING, atol=ROUNDING)


def depth_network() -> tuple[Any, str]:
    from transformers import DPTConfig, DPTForDepthEstimation  # noqa: PLC0415  # where optimum is there

    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 64, "patch_size": 16}
    neck = {"neck_hidden_sizes": [8, 16, 16, 16], "fusion_hidden_size": 16, "backbone_out_indices": [0, 1, 2, 3]}
    config = DPTConfig(num_hidden_layers=4, is_hybrid=False, use_batch_norm_in_fusion_residual=False, **small, **neck)
    return DPTForDepthEstimation(config).eval(), "depth-estimation"


def speech_network() -> tuple[Any, str]:
    from transformers import VitsConfig, VitsModel  # noqa: PLC0415  # where optimum is there

    small = {"vocab_size": 20, "hidden_size": 16, "ffn_dim": 32, "flow_size": 16, "spectrogram_bins": 33}
    vocoder = {"upsample_initial_channel": 32, "upsample_rates": [8, 4], "upsample_kernel_sizes": [16, 8]}
    blocks = {"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3]], "depth_separable_num_layers": 1}
    ones = ("num_hidden_layers", "prior_encoder_num_flows", "posterior_encoder_num_wavenet_layers")
    more = dict.fromkeys((*ones, "prior_encoder_num_wavenet_layers", "duration_predictor_num_flows"), 1)
    return VitsModel(VitsConfig(num_attention_heads=2, **small, **vocoder, **blocks, **more)).eval(), "text-to-audio"


@pytest.mark.long
@pytest.mark.parametrize("made", [depth_network, speech_network])
def test_what_optimum_exports_is_split_before_and_after_simplification(made: Any, tmp_path: Path) -> None:
    optimum = pytest.importorskip("optimum.exporters.onnx")
    onnxslim = pytest.importorskip("onnxslim")
    torch.manual_seed(0)
    model, task = made()
    optimum.onnx_export_from_model(model, output=tmp_path, task=task, opset=18, do_validation=False)
    onnxslim.slim(str(tmp_path / "model.onnx"), str(tmp_path / "slim.onnx"))
    shapes = {"pixel_values": (1, 3, 64, 64)} if made is depth_network else {}
    ids = np.arange(1, 13, dtype=np.int64)[np.newaxis]
    given = {} if shapes else {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    for name in ("model", "slim"):
        path = tmp_path / f"{name}.onnx"
        found = splitdeconv.convert(path, target="generic", lowering="split", inputs=given, in_shapes=shapes)
        assert len(found.record.converted) == 2
        assert found.verdict.passed
        assert "ConvTranspose" not in {node.op_type for node in found.model.graph.node}
    assert len(onnx.load(path).graph.node) < len(onnx.load(tmp_path / "model.onnx").graph.node)
    assert all(site.deconv.written_out is None for site in OnnxModel.load(path).find().sites)
