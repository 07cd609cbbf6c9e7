"""Third-party models from beside the checkout, with every lowering and on their real inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import splitdeconv
from splitdeconv.deconv.weights import Array
from splitdeconv.lowerings import LOWERINGS
from splitdeconv.lowerings.candidate import NATIVE
from tests.models import op_types

# Both models compute the same float32 sums in two orders. An error of some hundred roundings (2⁻²⁴ ≈ 6e-8) of the
# largest value (1 for probabilities) is what networks of this depth show; a wrong tap shows as 1e-2 and more.
CLOSE = 2e-5

MODELS = ("fst_rain_princess_256", "phasenet_1d", "ppocr_det_v1.1", "deepbrain_v1_128")
EACH = [*MODELS[:-1], pytest.param(MODELS[-1], marks=pytest.mark.long)]  # the last takes half a minute


def sample(name: str, models: Path) -> dict[str, Array]:
    """A real input where there is one, else smooth values of the range that the network was trained for."""
    rng = np.random.default_rng(0)
    if name == "phasenet_1d":
        wave = np.load(models / "phasenet_sample.npz")["data"].T[np.newaxis]
        return {"x": ((wave - wave.mean(axis=2, keepdims=True)) / wave.std(axis=2, keepdims=True)).astype(np.float32)}
    if name == "ppocr_det_v1.1":
        from PIL import Image  # noqa: PLC0415  # only this sample is a picture

        with Image.open(models / "ppocr_sample.jpg") as picture:
            pixels = np.asarray(picture.convert("RGB").resize((320, 256)), np.float32)
        return {"image": ((pixels / 255 - 0.45) / 0.225).transpose(2, 0, 1)[np.newaxis].astype(np.float32)}
    if name == "fst_rain_princess_256":
        return {"input": (rng.random((1, 3, 256, 256)) * 255).astype(np.float32)}
    return {"img": rng.random((1, 1, 128, 128, 128), np.float32)}


def run(model: str | bytes, feeds: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options).run(None, feeds)


@pytest.mark.parametrize("name", EACH)
def test_every_lowering_gives_the_originals_result(name: str, shared: Path) -> None:
    path = shared / "models" / f"{name}.onnx"
    feeds = sample(name, shared / "models")
    wanted = run(str(path), feeds)
    tried = 0
    for lowering in LOWERINGS:
        conversion = splitdeconv.convert(path, target="generic", lowering=lowering, verify=False)
        deconvs = [choice for choice in conversion.plan.choices if choice.deconv.written_out is None]
        left = op_types(conversion.model).count("ConvTranspose")  # type: ignore[arg-type]
        if lowering == "native":
            assert left == len(deconvs)
            continue
        assert left == sum(choice.chosen.lowering != lowering for choice in deconvs)
        if all(choice.chosen == NATIVE for choice in conversion.plan.choices):
            continue
        tried += 1
        assert isinstance(conversion.model, onnx.ModelProto)
        onnx.checker.check_model(conversion.model, full_check=True)
        for found, expected in zip(run(conversion.model.SerializeToString(), feeds), wanted, strict=True):
            np.testing.assert_allclose(
                found, expected, rtol=0, atol=CLOSE * max(1.0, np.abs(expected).max()), err_msg=lowering
            )
    assert tried >= 4


@pytest.mark.parametrize("name", EACH)
def test_the_default_conversion_is_proved(name: str, shared: Path) -> None:
    conversion = splitdeconv.convert(shared / "models" / f"{name}.onnx", target="generic")
    assert conversion.verdict.passed
    assert "ConvTranspose" not in op_types(conversion.model)  # type: ignore[arg-type]
    rewritten = [choice for choice in conversion.plan.choices if choice.chosen != NATIVE]
    assert len(conversion.verdict.proofs) == len(rewritten)
    assert all(choice.chosen != NATIVE for choice in conversion.plan.choices if choice.deconv.written_out is None)
    assert conversion.verdict.outputs
