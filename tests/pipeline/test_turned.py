"""Sub-pixel convolutions become transposed ones where that is exact and faster, and only where it was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

import splitdeconv
from splitdeconv import codec
from splitdeconv.deconv.sub_pixel import SubPixel
from splitdeconv.deconv.weights import Array
from splitdeconv.pipeline import prepared, turned
from splitdeconv.pipeline.convert import Conversion
from splitdeconv.report import conversion
from splitdeconv.report.page import html
from splitdeconv.results.times import Measurement
from tests import invented_records as invented
from tests.formats.onnx.test_sub_pixel import sub_pixel_model
from tests.models import op_types
from tests.onnx_models import run
from tests.pages import parsed, words


@pytest.fixture
def as_deconv(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Milliseconds: of the convolution alone 10, ``alone`` as a deconv; of the model 10, ``whole`` when changed."""
    times = {"alone": 5.0, "whole": 5.0}

    def measure(_target: object, models: Mapping[str, object], *_: object) -> object:
        return dict(zip(models, map(invented.time, (10.0, times["alone"])), strict=True))

    def race(_target: object, models: Mapping[str, object], *_: object) -> dict[str, Measurement]:
        return {name: invented.time(10.0 if name == prepared.ORIGINAL else times["whole"]) for name in models}

    monkeypatch.setattr(turned, "measure_those_that_run", measure)
    monkeypatch.setattr(prepared, "race", race)
    return times


def model() -> tuple[onnx.ModelProto, Array, Array]:
    found, x, wanted = sub_pixel_model("DCR", alike=True)
    for dim, size in zip(found.graph.input[0].type.tensor_type.shape.dim, x.shape, strict=True):
        dim.dim_value = size
    return found, x, wanted


def convert(proto: onnx.ModelProto, **options: object) -> Conversion:
    chosen = {"lowering": "native", "target": "onnxruntime", **options}
    return splitdeconv.convert(proto, to_deconv=True, budget=0.5, cache=False, **chosen)  # type: ignore[arg-type]


def test_what_is_faster_as_a_deconv_becomes_one(as_deconv: dict[str, float]) -> None:
    proto, x, wanted = model()
    found = convert(proto)
    record = found.record
    assert op_types(found.model) == ["ConvTranspose"]
    np.testing.assert_array_equal(run(found.model, {"x": x})["y"], wanted)
    assert [(each.site, each.operators, each.after.median_ms) for each in record.turned] == [
        ("conv", ("Conv", "DepthToSpace"), as_deconv["alone"])
    ]
    text = str(found)
    assert "'conv' was Conv and DepthToSpace, 10 ms; as the deconv 3→2 6×6/2 @5×6: 2.00×" in text
    assert "verified: 1 of 1 sites bit-equal to the definition on onnxruntime" in text
    page = words(parsed(html(conversion.page(record))))
    assert "1 sub-pixel convolution became a transposed one, where that is faster." in page
    assert "bit-equal" in page
    assert splitdeconv.from_json(codec.run_to_json(record)) == record


def test_what_is_no_faster_stays(as_deconv: dict[str, float]) -> None:
    as_deconv["alone"] = 10.0
    found = convert(model()[0])
    assert op_types(found.model) == ["Conv", "DepthToSpace"]
    assert "site 'conv' stays Conv and DepthToSpace: as a deconv 1.00×" in str(found)


def test_the_whole_model_has_the_last_word(as_deconv: dict[str, float]) -> None:
    as_deconv["whole"] = 11.0
    found = convert(model()[0])
    assert op_types(found.model) == ["Conv", "DepthToSpace"]
    assert not found.record.turned
    assert "--to-deconv is taken back: not faster than the model as it came" in str(found)


@pytest.mark.usefixtures("as_deconv")
def test_a_wrong_deconv_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    right = SubPixel.deconv_kernel
    monkeypatch.setattr(SubPixel, "deconv_kernel", lambda spec, own: np.roll(right(spec, own), 1, axis=-1))
    found = convert(model()[0])
    assert op_types(found.model) == ["Conv", "DepthToSpace"]
    assert "as a deconv it is not exact" in str(found)


@pytest.mark.usefixtures("as_deconv")
def test_restore_gives_it_back_through_both_conversions(tmp_path: Path) -> None:
    proto, x, wanted = model()
    found = convert(proto, lowering="split:full:depth_to_space")
    assert op_types(found.model)[0] == "Conv"
    onnx.save(found.model, tmp_path / "out.onnx")
    again = splitdeconv.restore(tmp_path / "out.onnx").model
    assert op_types(again) == ["Conv", "DepthToSpace"]
    assert again.graph.initializer[0].raw_data in {each.raw_data for each in proto.graph.initializer}
    np.testing.assert_array_equal(run(again, {"x": x})["y"], wanted)


@pytest.mark.usefixtures("as_deconv")
def test_tflite_models_go_the_same_road(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from tests.formats.tflite.test_sub_pixel import result, sub_pixel_model  # noqa: PLC0415  # needs LiteRT

    plain, x, wanted = sub_pixel_model()
    source, out = tmp_path / "model.tflite", tmp_path / "out.tflite"
    plain.save(source)
    assert "--to-deconv tries 'conv' as a deconv: 3→2 6×4/2 @5×6" in str(splitdeconv.inspect(source))
    options = {"target": "litert", "lowering": "split", "budget": 0.5, "cache": False}
    found = splitdeconv.convert(source, out, to_deconv=True, **options)  # type: ignore[arg-type]
    assert [(each.site, each.operators) for each in found.record.turned] == [("conv", ("CONV_2D", "DEPTH_TO_SPACE"))]
    assert [choice.site for choice in found.plan.choices] == ["conv"]
    np.testing.assert_array_equal(result(found.rewritten, x), wanted)  # type: ignore[arg-type]
    restored = splitdeconv.restore(out).restored
    assert dict(restored.operator_counts()) == {"CONV_2D": 1, "DEPTH_TO_SPACE": 1}


@pytest.mark.usefixtures("as_deconv")
def test_exported_programs_go_the_same_road() -> None:
    torch = pytest.importorskip("torch")

    module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.PixelShuffle(2)).eval()
    x = torch.randn(1, 3, 5, 6)
    options = {"target": "torch", "lowering": "native", "budget": 0.5, "cache": False}
    found = splitdeconv.convert(torch.export.export(module, (x,)), to_deconv=True, **options)  # type: ignore[arg-type]
    assert [(each.site, each.operators) for each in found.record.turned] == [("0:conv2d", ("conv2d", "pixel_shuffle"))]
    torch.testing.assert_close(found.model.module()(x), module(x))  # type: ignore[attr-defined]


def test_without_a_target_it_is_refused_in_one_line() -> None:
    with pytest.raises(splitdeconv.UsageError, match="--to-deconv: what runs faster is measured; wanted a target"):
        convert(model()[0], target="generic")


def test_without_such_a_convolution_it_says_so() -> None:
    plain = onnx.helper.make_node("Relu", ["x"], ["y"])
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = onnx.helper.make_graph([plain], "g", value[:1], value[1:])
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    assert turned.NOTHING in convert(proto).record.notes


def test_inspect_tells_what_could_be_one() -> None:
    assert "--to-deconv tries 'conv' as a deconv: 3→2 6×6/2 @5×6" in str(splitdeconv.inspect(model()[0]))
