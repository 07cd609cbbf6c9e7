"""A 1×1 convolution of an interpolated map comes before the interpolation, in every format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

import torch.nn.functional as F  # noqa: E402, N812  # torch's own abbreviation
from torch import nn  # noqa: E402

import splitdeconv  # noqa: E402
from splitdeconv.deconv import interpolating  # noqa: E402
from splitdeconv.deconv.weights import Array  # noqa: E402
from splitdeconv.formats.model import Model, Site  # noqa: E402
from splitdeconv.formats.onnx import OnnxModel  # noqa: E402
from splitdeconv.formats.tflite import TfliteModel  # noqa: E402
from splitdeconv.formats.torch import ExportedModel  # noqa: E402
from splitdeconv.formats.written_convs import (  # noqa: E402
    CUT_OFF,
    INTERPOLATED,
    MAY_SHRINK,
    NO_LARGER,
    RANGE_INTERPOLATED,
    SUMS_INTERPOLATED,
    UNKNOWN_SIZE,
)
from splitdeconv.lowerings import candidates, lower  # noqa: E402
from splitdeconv.proof.sites import noise_of_site, prove_site  # noqa: E402
from splitdeconv.targets import target  # noqa: E402
from tests.formats.onnx import stretched_models as onnx_models  # noqa: E402
from tests.formats.onnx.stretched_models import node  # noqa: E402
from tests.formats.onnx.test_stretched_quantised import model_of as quantised_onnx  # noqa: E402
from tests.formats.tflite import stretched_models as tflite_models  # noqa: E402
from tests.formats.tflite.stretched_checks import run as run_tflite  # noqa: E402
from tests.onnx_models import load, run, written  # noqa: E402
from tests.tflite_models import loaded  # noqa: E402

RUNTIMES = {"onnx": "onnxruntime", "tflite": "litert", "torch": "torch"}
ONES = onnx_models.kernel_of((2, 3, 1, 1))


def onnx_model(factors: Any = (1, 1, 2, 2), *, sizes: Any = None, kernel: Array = ONES, **attributes: Any) -> Model:
    given = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", **attributes}
    front = onnx_models.resize(factors, **given)
    if sizes is not None:
        front = [node("Resize", ["x", "", "", "sizes"], "u", **given)], {"sizes": np.array(sizes)}
    after = [node("Relu", ["y"], "z")]
    return load(onnx_models.model_of(front, kernel=kernel, pads=[0] * 4, after=after, outputs={"z": [None] * 4}))


def tflite_model(*, corners: bool = False, centres: bool = False, **options: Any) -> Model:
    def write(front: Any) -> None:
        tflite_models.bilinear(front)
        resize = front.tree.graph.operators[-1].builtinOptions
        resize.alignCorners, resize.halfPixelCenters = corners, centres
        front.tree.root.operatorCodes[-1].version = 3

    return loaded(tflite_models.model_of(write, kernel=(1, 1), outs=2, activation=1, **options))


class Behind(nn.Module):
    def __init__(self, channels: int = 6, **options: Any) -> None:
        super().__init__()
        groups = options.pop("groups", 1)
        self.conv, self.options = nn.Conv2d(channels, 3 * groups, 1, groups=groups), {"mode": "bilinear", **options}

    def forward(self, x, *skip):
        up = F.interpolate(x, **self.options)
        return torch.relu(self.conv(torch.cat([skip[0], up, *skip[1:]], 1) if skip else up))


def torch_model(*skips: torch.Tensor, open_sizes: bool = False, **options: Any) -> Model:
    module = Behind(6 + sum(each.shape[1] for each in skips), **(options or {"scale_factor": 2})).eval()
    dims = ({0: torch.export.Dim("n"), 2: torch.export.Dim("h", min=3)},) if open_sizes else None
    return ExportedModel(torch.export.export(module, (torch.randn(2, 6, 5, 4), *skips), dynamic_shapes=dims))


def the_site(model: Model) -> Site:
    (site,) = model.find().sites
    return site


MODELS: Mapping[str, Callable[[], Model]] = {
    "linear": onnx_model,
    "cubic": lambda: onnx_model((1, 1, 3, 1.5), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    "corners": lambda: onnx_model(sizes=(1, 3, 11, 9), coordinate_transformation_mode="align_corners"),
    "asymmetric": lambda: onnx_model(coordinate_transformation_mode="asymmetric"),
    "tflite": tflite_model,
    "tflite centres": lambda: tflite_model(centres=True),
    "tflite corners": lambda: tflite_model(corners=True),
    "bilinear": torch_model,
    "open": lambda: torch_model(open_sizes=True, scale_factor=2),
    "bicubic": lambda: torch_model(mode="bicubic", scale_factor=1.5),
    "aligned": lambda: torch_model(size=(11, 9), align_corners=True),
    "area": lambda: torch_model(mode="area", size=(11, 9)),
    "tflite groups": lambda: loaded(
        tflite_models.model_of(
            tflite_models.bilinear, tflite_models.beside("v", "s"), kernel=(1, 1), outs=4, groups=2, activation=1
        )
    ),
    "groups": lambda: torch_model(torch.randn(2, 6, 10, 8), scale_factor=2, groups=2),
    "skip": lambda: torch_model(torch.randn(2, 2, 10, 8), torch.randn(2, 1, 10, 8), scale_factor=2),
}


def outputs(model: Model, feeds: Mapping[str, Array]) -> list[Array]:
    if isinstance(model, OnnxModel):
        return list(run(written(model), feeds).values())
    if isinstance(model, TfliteModel):
        return run_tflite(model.to_object(), feeds["x"])
    found = model.float64(feeds)
    assert not isinstance(found, str), found
    return list(found.values())


def feeds_of(model: Model) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        each.name: rng.standard_normal([n or 5 for n in each.shape or ()]).astype(np.float32) for each in model.inputs()
    }


SLOW = ("bicubic", "aligned", "tflite corners", "corners")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n in SLOW else n for n in MODELS])
def test_it_comes_first_and_changes_nothing_but_roundings(name: str) -> None:
    model = MODELS[name]()
    site, runner = the_site(model), target(RUNTIMES[model.format])
    assert site.deconv.written_out is not None
    assert site.deconv.written_out.stretch == "interpolate"
    assert {each.lowering for each in candidates(site.deconv, model.layout)[0]} == {"native", "convolve_first"}
    program = lower(site.deconv, model.layout, candidates(site.deconv, model.layout)[0][1])
    assert prove_site(model, site, program, runner).exact
    noise = noise_of_site(model, site, program, runner)
    assert noise is not None
    assert noise.passed
    feeds = feeds_of(model)
    wanted, found = outputs(model, feeds), outputs(model.splice({site.id: program}), feeds)
    for one, other in zip(wanted, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)  # of values about 10


@pytest.mark.parametrize("name", ["linear", "tflite", "skip"])
def test_a_file_is_converted_proved_and_restored(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    before, after, back = (tmp_path / f"{part}{model.suffix}" for part in ("a", "b", "c"))
    model.save(before)
    conversion = splitdeconv.convert(before, after, lowering="convolve_first", target="generic")
    assert conversion.verdict is not None
    assert conversion.verdict.passed
    assert not conversion.verdict.bit_equal()
    assert "1 within the roundings of an interpolation" in str(conversion)
    assert "interpolation in front of it" in " ".join(the_site(model).notes)
    if model.format != "torch":
        assert not splitdeconv.restore(after, back).record.skipped
        assert the_site(type(model).load(back)).deconv == the_site(model).deconv


def test_weights_that_do_not_sum_to_1_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The convolution's bias would be counted more than once."""
    model = onnx_model()
    site = the_site(model)
    program = lower(site.deconv, "NCHW", candidates(site.deconv, "NCHW")[0][1])
    plain = interpolating.weights_of
    monkeypatch.setattr(interpolating, "weights_of", lambda *args: plain(*args) * 1.01)
    assert not prove_site(model, site, program, target("onnxruntime"), seed=1).exact


def cut_off() -> Model:
    nodes, known = onnx_models.resize(mode="linear")
    known = {**known, "cut": onnx_models.numbers(0, 0, -1, 0, 0, 0, 0, 0)}
    after = [node("Pad", ["y", "cut"], "z")]
    outputs: Any = {"z": [None] * 4}
    return load(onnx_models.model_of((nodes, known), kernel=ONES, pads=[0] * 4, after=after, outputs=outputs))


def computed_size() -> Model:
    nodes, known = onnx_models.recomputed_scale()
    resize = node("Resize", ["x", "", "", "sizes"], "u", mode="linear")
    return load(onnx_models.model_of(([*nodes[:-1], resize], known), kernel=ONES, pads=[0] * 4))


def quantised(weights: str) -> Model:
    return loaded(tflite_models.model_of(tflite_models.bilinear, kernel=(1, 1), weights=weights))


def qdq(around: Sequence[str], size: int = 1) -> Model:
    """A quantised convolution, with quantisers behind the nodes that make ``around``."""
    kernel = np.full((2, 3, size, size), 5)
    return load(quantised_onnx(onnx_models.resize(mode="linear"), around=around, kernel=kernel, pads=[0] * 4))


def between(kind: str) -> Model:
    front = onnx_models.then(onnx_models.resize(mode="linear"), [lambda x, y: node(kind, [x], y)], {})
    return load(onnx_models.model_of(front, kernel=ONES, pads=[0] * 4))


def tflite_relu() -> Model:
    return loaded(tflite_models.model_of(tflite_models.bilinear, tflite_models.unary("RELU"), kernel=(1, 1)))


RELU = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()

STAY: Mapping[str, tuple[Callable[[], Model], str]] = {
    "extrapolated": (lambda: onnx_model(coordinate_transformation_mode="tf_crop_and_resize"), "sum to 1"),
    "smoothed": (lambda: onnx_model(antialias=1), "smoothed"),
    "smaller": (lambda: onnx_model((1, 1, 2, 0.5)), NO_LARGER),
    "3×3": (lambda: onnx_model(kernel=onnx_models.kernel_of((2, 3, 3, 3))), "its upsampling is linear"),
    "tflite 3×3": (lambda: loaded(tflite_models.model_of(tflite_models.bilinear)), "its upsampling is bilinear"),
    "fixed from open": (lambda: torch_model(size=(11, 9), open_sizes=True), MAY_SHRINK),
    "computed": (computed_size, UNKNOWN_SIZE),
    "cut off": (cut_off, CUT_OFF),
    "int8": (lambda: quantised("int8"), INTERPOLATED),
    "hybrid": (lambda: quantised("hybrid"), RANGE_INTERPOLATED),
    "qdq": (lambda: qdq(()), SUMS_INTERPOLATED),
    "qdq behind": (lambda: qdq(("u",)), INTERPOLATED),
    "qdq 3×3": (lambda: qdq(("u",), size=3), "its upsampling is linear: only"),
    "activation": (lambda: between("Relu"), "linear, with Relu behind: only a 1×1"),
    "tflite activation": (tflite_relu, "bilinear, with RELU behind: only a 1×1"),
    "torch activation": (lambda: ExportedModel(torch.export.export(RELU, (torch.randn(1, 6, 5, 4),))), "with relu"),
    "batches": (lambda: onnx_model((2, 1, 2, 2)), "its upsampling is linear"),
}


@pytest.mark.parametrize("name", STAY)
def test_what_stays_says_why(name: str) -> None:
    make, reason = STAY[name]
    found = make().find()
    assert not found.sites
    assert reason in found.skipped[0].reason


def test_several_interpolated_parts_go_one_after_the_other() -> None:
    """As SegFormer's heads have them: the largest gain first, and a note names the others."""

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fuse = nn.Conv2d(12, 4, 1)

        def forward(self, *maps):
            ups = [F.interpolate(each, size=maps[0].shape[2:], mode="bilinear") for each in maps[1:]]
            return self.fuse(torch.cat([maps[0], *ups], 1))

    maps = tuple(torch.randn(1, 4, 16 >> n, 16 >> n) for n in range(3))
    module = Heads().eval()
    model: Model = ExportedModel(torch.export.export(module, maps))
    for left in (2, 1):
        site = the_site(model)
        assert len(site.notes) == left
        assert site.deconv.in_sizes == ((4, 4), (8, 8))[2 - left]
        program = lower(site.deconv, "NCHW", candidates(site.deconv, "NCHW")[0][1])
        model = model.splice({site.id: program})
        assert isinstance(model, ExportedModel)
        assert torch.allclose(model.program.module()(*maps), module(*maps), atol=1e-5)
