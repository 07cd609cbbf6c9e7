"""Trained models of other projects, rewritten and run in LiteRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from splitdeconv.deconv import reference
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import CompileError
from splitdeconv.formats.tflite import TfliteModel
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.targets.litert import LiteRtModel, interpreter


def rewritten(model: TfliteModel, *wanted: str) -> TfliteModel:
    """Every site under the first candidate that one of ``wanted`` names, else the first that is not native."""
    programs: dict[str, Program] = {}
    for site in model.find().sites:
        found = [each for each in candidates(site.deconv, "NHWC")[0] if each.lowering in ("split", "split_rows")]
        named = [each for name in wanted for each in found if each.matches(name)]
        usable = named or [each for each in found if each.form != "depth_to_space"]
        programs[site.id] = lower(site.deconv, "NHWC", usable[0])
    return model.splice(programs)


def started(model: TfliteModel, kernels: str) -> LiteRtModel:
    return LiteRtModel(interpreter(model.to_object(), kernels, 2))


def some_inputs(runner: LiteRtModel, seed: int) -> dict[str, Array]:
    """Random values over the whole range; the lowest and the highest value only, for two of the seeds."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for name, (shape, dtype) in runner.inputs.items():
        if dtype == "float32":
            inputs[name] = rng.standard_normal(shape).astype(np.float32)
            continue
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        values = {1: [low], 2: [high]}.get(seed, list(range(low, high + 1)))
        inputs[name] = rng.choice(values, shape).astype(dtype)
    return inputs


@pytest.mark.parametrize("lowering", ["split_rows", "split:rows"])
def test_an_int8_segmentation_model_keeps_its_bits(shared: Path, lowering: str) -> None:
    model = TfliteModel.load(shared / "models/prisma_int8.tflite")
    found = model.find()
    assert [site.deconv.describe() for site in found.sites] == [
        "128→128 3×3/2 @16×16",
        "128→64 3×3/2 @32×32",
        "64→32 3×3/2 @64×64",
        "32→8 3×3/2 @128×128",
        "8→1 1×1/1 @256×256",
    ]
    before, after = started(model, "xnnpack"), started(rewritten(model, lowering), "xnnpack")
    for seed in range(3):
        inputs = some_inputs(before, seed)
        np.testing.assert_array_equal(after.run(inputs)["Identity"], before.run(inputs)["Identity"])


@pytest.mark.parametrize("number", range(5))
def test_int16_models_give_their_golden_outputs(shared: Path, number: int) -> None:
    folder = shared / "models/seanet_int16"
    stem = f"transpose_conv{number}"
    model = TfliteModel.load(folder / f"{stem}.tflite")
    (site,) = model.find().sites
    assert "its output shape is an input of the model" in site.notes[0]
    x = np.loadtxt(folder / f"{stem}_input1_int16.csv", delimiter=",", dtype=np.int16)
    golden = np.loadtxt(folder / f"{stem}_golden_int16.csv", delimiter=",", dtype=np.int16)
    for kernels in ("xnnpack", "reference"):
        after = started(rewritten(model, "split_rows"), kernels)
        (name,) = (name for name, (_, dtype) in after.inputs.items() if dtype == "int16")
        (y,) = after.run({name: x.reshape(after.inputs[name][0])}).values()
        np.testing.assert_array_equal(y.reshape(-1), golden.reshape(-1))


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
def test_a_vocoder_keeps_its_state_from_call_to_call(shared: Path, kernels: str) -> None:
    """Int8 parts bit for bit; the two float32 deconvs within float32's rounding of the sums."""
    model = TfliteModel.load(shared / "models/lyragan.tflite")
    new = rewritten(model, "split_rows")
    assert len(model.find().sites) == 8
    before, after, fresh = started(model, kernels), started(new, kernels), started(new, kernels)
    outputs = []
    for seed in range(5):
        inputs = some_inputs(before, 10 + seed)
        (wanted,), (found,) = before.run(inputs).values(), after.run(inputs).values()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=64 * np.finfo(np.float32).eps * np.abs(wanted).max())
        outputs.append(found)
    (without_history,) = fresh.run(inputs).values()
    assert not np.array_equal(without_history, outputs[-1]), "the state has no effect, so the test shows nothing"
    assert new.root.signatureDefs == model.root.signatureDefs


def test_mediapipes_own_operator_becomes_one_of_tflites(shared: Path) -> None:
    """LiteRT's XNNPACK knows MediaPipe's operator, its other kernels do not."""
    model = TfliteModel.load(shared / "models/mediapipe_selfie_custom_op.tflite")
    (site,) = (site for site in model.find().sites if site.deconv.written_out is None)
    new = model.splice({site.id: lower(site.deconv, "NHWC", Candidate.parse("split:union:depth_to_space"))})
    before = LiteRtModel(interpreter(model.to_object(), "xnnpack", 1))
    x = some_inputs(before, 0)
    (wanted,) = before.run(x).values()
    own, other = 64 * np.finfo(np.float32).eps, 1e-3  # in other kernels the rest of the network rounds otherwise, too
    for kernels, bound in (("xnnpack", own), ("builtin", other)):
        (found,) = LiteRtModel(interpreter(new.to_object(), kernels, 1)).run(x).values()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=bound)
    with pytest.raises(CompileError, match="Convolution2DTransposeBias"):
        interpreter(model.to_object(), "builtin", 1)


@pytest.mark.parametrize("name", ["prisma_f32", "fst_rain_princess_256", "lyragan"])
def test_float_sites_are_bit_equal_to_the_definition(shared: Path, name: str) -> None:
    """Small integers as weights and input, so that every order of summation gives the same bits."""
    model = TfliteModel.load(shared / f"models/{name}.tflite")
    sites = [site for site in model.find().sites if site.deconv.quant is None]
    rng = np.random.default_rng(0)
    for site in sites[:3]:
        deconv = site.deconv
        kernel = rng.integers(-3, 4, deconv.kernel_shape).astype(np.float32)
        bias = rng.integers(-3, 4, deconv.out_channels).astype(np.float32) if deconv.has_bias else None
        weights = Weights(kernel, bias)
        x = rng.integers(-3, 4, (1, *deconv.in_sizes, deconv.in_channels)).astype(np.float32)  # type: ignore[arg-type]
        wanted = np.moveaxis(reference.deconv(np.moveaxis(x, -1, 1), weights, deconv), 1, -1)
        for candidate in candidates(deconv, "NHWC")[0]:
            content = model.emit(site, lower(deconv, "NHWC", candidate), weights).read()
            found = LiteRtModel(interpreter(content, "xnnpack", 2)).run({"x": x})["y"]
            np.testing.assert_array_equal(found, wanted, str(candidate))
