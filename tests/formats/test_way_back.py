"""What was converted comes back: the same deconvs with the same weights, from nothing but the converted file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import numpy_helper

import splitdeconv
from splitdeconv import codec
from splitdeconv.cli import main
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Model
from splitdeconv.formats.way_back import KEY, SMALL, WayBack
from splitdeconv.lowerings import candidates, lower
from splitdeconv.pipeline.open import open_model
from tests.broken_runtime import break_runtime
from tests.examples import examples
from tests.models import deconv_model, op_types
from tests.onnx_models import build, single
from tests.strategies import deconvs, integer_tensors

FIXTURES = Path(__file__).parents[1] / "fixtures"
SPLIT = "split:union:transpose"
SUMMED = "the new filters hold sums of its weights"


def rewritten(model: Model, name: str) -> Model:
    """Every site in the first form of that name that can be written."""
    programs: dict[str, Program] = {}
    for site in model.find().sites:
        found = [each for each in candidates(site.deconv, model.layout)[0] if each.matches(name)]
        lowered = [lower(site.deconv, model.layout, each) for each in found]
        if usable := [each for each in lowered if model.refuse(site, each) is None]:
            programs[site.id] = usable[0]
    return model.splice(programs)


def restored(converted: Model) -> tuple[Model, tuple[Any, ...]]:
    read = open_model(converted.to_object())
    return read.undo(codec.from_object(WayBack, json.loads(read.way_back()), "the text"))


def assert_same_sites(before: Model, after: Model) -> None:
    wanted, found = ({site.id: site for site in model.find().sites} for model in (before, after))
    assert set(found) == set(wanted)
    for name, one in wanted.items():
        other = found[name]
        assert (other.deconv, other.epilogue, other.where) == (one.deconv, one.epilogue, one.where)
        for part in ("kernel", "bias"):
            left, right = getattr(one.weights, part), getattr(other.weights, part)
            assert (left is None) == (right is None)
            if left is not None:
                assert left.dtype == right.dtype
                assert left.tobytes() == right.tobytes()


def back_and_forth(source: object, *names: str) -> Iterator[str]:
    """The names of forms in which something was rewritten, and came back."""
    model = open_model(source)
    for name in names:
        converted = rewritten(model, name)
        if converted.way_back():
            after, stayed = restored(converted)
            assert not stayed
            assert_same_sites(model, after)
            assert not after.way_back()
            yield name


@pytest.mark.parametrize("name", ["phasenet_1d.onnx", "seanet_int16/transpose_conv3.tflite"])
def test_a_real_model_comes_back(shared: Path, name: str, tmp_path: Path) -> None:
    source, out = shared / "models" / name, tmp_path / ("out" + Path(name).suffix)
    splitdeconv.convert(source, out, target="generic", verify=False)
    found = splitdeconv.restore(out, tmp_path / ("back" + out.suffix), verify=False)
    assert not found.record.skipped
    assert_same_sites(open_model(source), open_model(tmp_path / ("back" + out.suffix)))


@pytest.mark.long
@pytest.mark.parametrize("lowering", ["split", "split_phases", "split_rows", "zero_insert", "col2im", "convolve_first"])
@pytest.mark.parametrize(
    "name",
    [
        *("deepbrain_v1_128.onnx", "fst_rain_princess_256.onnx", "phasenet_1d.onnx", "ppocr_det_v1.1.onnx"),
        *("fst_rain_princess_256.tflite", "prisma_f32.tflite", "prisma_int8.tflite", "lyragan.tflite"),
        "mediapipe_selfie_custom_op.tflite",
        *(f"seanet_int16/transpose_conv{number}.tflite" for number in range(5)),
    ],
)
def test_every_real_model_comes_back_with_the_same_outputs(shared: Path, name: str, lowering: str) -> None:
    source = shared / "models" / name
    converted = splitdeconv.convert(source, target="generic", lowering=lowering, verify=False)
    if not converted.record.converted:
        pytest.skip("no site has this form")
    found = splitdeconv.restore(converted.model)
    assert found.record.verdict is not None
    assert found.record.verdict.outputs
    assert not found.record.skipped
    assert_same_sites(open_model(source), found.restored)


@pytest.mark.parametrize("name", ["nncf_mixed", "torch_per_channel", "torch_x86"])
def test_quantised_deconvs_come_back(name: str) -> None:
    forms = ("split@qlinear", "split@qlinear_u8", "split@qdq", "split@float")
    assert list(back_and_forth(FIXTURES / "quantised" / f"{name}.onnx", "split", *forms))


SLOW = [pytest.param(name, marks=pytest.mark.long) for name in ("qdq", "float16")]


@pytest.mark.parametrize("name", ["torch_newer", "tf_keras", *SLOW])
def test_convolutions_behind_upsampling_come_back_while_their_weights_are_few(name: str) -> None:
    assert list(back_and_forth(FIXTURES / "stretched" / f"{name}.onnx", "split"))


@given(deconv=deconvs())
@examples(2, 50)
def test_every_form_of_any_deconv_holds_its_weights(deconv: Deconv) -> None:
    deconv = replace(deconv, dtype="float32")
    _, weights = integer_tensors(deconv, 0, "float32")
    model = single(deconv, weights)
    assert list(back_and_forth(model, "split", "split_phases", "zero_insert"))
    list(back_and_forth(model, "native:simplified"))


def test_bilinear_kernels_come_back_dense() -> None:
    line = np.array([1, 3, 3, 1], np.float32) / 4
    kernel = np.zeros((64, 64, 4, 4), np.float32)
    kernel[np.arange(64), np.arange(64)] = np.outer(line, line)
    assert kernel.nbytes > SMALL
    model = deconv_model((1, 64, 3, 5), kernel, bias=False, strides=[2, 2], pads=[1, 1, 1, 1])
    assert list(back_and_forth(model, "split")) == ["split"]


def test_weights_that_only_stand_in_sums_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel = np.random.default_rng(0).standard_normal((128, 128, 3, 3)).astype(np.float32)
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    nodes = [
        onnx.helper.make_node("Resize", ["x", "", "scales"], ["u"], mode="nearest", nearest_mode="floor",
                              coordinate_transformation_mode="asymmetric"),
        onnx.helper.make_node("Conv", ["u", "w"], ["y"], name="conv", pads=[1, 1, 1, 1]),
    ]  # fmt: skip
    infos = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", (1, 128, 2, 3)), ("y", (1, 128, 4, 6)))]
    graph = onnx.helper.make_graph(nodes, "g", infos[:1], infos[1:], [scales, numpy_helper.from_array(kernel, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    converted = splitdeconv.convert(model, target="generic", lowering="split", verify=False).model
    assert isinstance(converted, onnx.ModelProto)
    onnx.save(converted, tmp_path / "m.onnx")
    assert main(["restore", str(tmp_path / "m.onnx"), str(tmp_path / "o.onnx")]) == 2
    assert SUMMED in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()


def two_deconvs() -> onnx.ModelProto:
    kernel = np.random.default_rng(0).standard_normal((2, 2, 4, 4)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("ConvTranspose", [a, "w", "b"], [b], name=name, strides=[2, 2], pads=[1, 1, 1, 1])
        for a, b, name in (("x", "h", "one"), ("h", "y", "two"))
    ]
    return build(nodes, {"x": (1, 2, 3, 4)}, {"y": (1, 2, 12, 16)}, {"w": kernel, "b": np.ones(2, np.float32)})


def test_two_conversions_are_both_undone() -> None:
    model = open_model(two_deconvs())
    (split,) = {each for each in candidates(model.find().sites[0].deconv, "NCHW")[0] if str(each) == SPLIT}
    programs = {site.id: lower(site.deconv, "NCHW", split) for site in model.find().sites}
    first = open_model(model.splice({"two": programs["two"]}).to_object())
    both = first.splice({"one": programs["one"]})
    assert both.find().sites == ()
    after, stayed = restored(both)
    assert not stayed
    assert_same_sites(model, after)
    found = after.to_object()
    assert isinstance(found, onnx.ModelProto)
    onnx.checker.check_model(found, full_check=True)
    assert [value.name for value in found.graph.initializer] == ["w", "b"]


def test_what_was_changed_since_stays_with_the_reason() -> None:
    converted = splitdeconv.convert(two_deconvs(), target="generic", verify=False).model
    assert isinstance(converted, onnx.ModelProto)
    conv = next(node for node in converted.graph.node if node.op_type == "Conv" and node.name.startswith("two/"))
    for node in converted.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = "renamed" if name == conv.output[0] else name
    conv.output[0] = "renamed"
    found = splitdeconv.restore(converted)
    assert [(each.site, each.reason) for each in found.record.skipped] == [
        ("two", "the file was changed since it was converted")
    ]
    assert isinstance(found.model, onnx.ModelProto)
    assert "ConvTranspose" in op_types(found.model)
    assert "Conv" in op_types(found.model)
    assert open_model(found.model).way_back()  # of the other one


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "holds nothing of an original to restore"),
        ("{", "wanted a model of which splitdeconv convert has rewritten a deconv"),
        ('{"version": 9, "conversions": []}', "is of version 9, this version reads 1"),
        ('{"version": 1, "conversions": [{"sites": [], "parts": ["AA=="]}]}', "is damaged"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    text: str | None, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = deconv_model()
    if text is not None:
        model.metadata_props.add(key=KEY, value=text)
    onnx.save(model, tmp_path / "m.onnx")
    assert main(["restore", str(tmp_path / "m.onnx"), str(tmp_path / "o.onnx")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "o.onnx").exists()


def test_the_command_writes_the_model_and_its_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(deconv_model(then=("Relu",)), tmp_path / "m.onnx")
    splitdeconv.convert(tmp_path / "m.onnx", tmp_path / "c.onnx", target="generic", verify=False)
    files = [str(tmp_path / name) for name in ("c.onnx", "o.onnx")]
    assert main(["restore", *files, "--json", str(tmp_path / "run.json")]) == 0
    assert "verified: 1 output within the original's noise" in capsys.readouterr().out
    record = splitdeconv.from_json((tmp_path / "run.json").read_text())
    assert not isinstance(record, tuple)
    assert (record.command, [choice.site for choice in record.plan.choices]) == ("restore", ["up"])
    before, after = (onnx.load(tmp_path / name) for name in ("m.onnx", "o.onnx"))
    assert [node.SerializeToString() for node in after.graph.node] == [
        node.SerializeToString() for node in before.graph.node
    ]


def test_what_does_not_run_here_is_not_called_unequal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, after, back = (tmp_path / f"{name}.onnx" for name in ("before", "after", "back"))
    onnx.save(deconv_model(strides=[2, 2]), before)
    splitdeconv.convert(before, after, target="generic")
    break_runtime(monkeypatch, after.name)
    with pytest.raises(UsageError, match=r"does not run it \(no kernel\), only what is restored; --no-verify leaves"):
        splitdeconv.restore(after, back)
    assert not back.exists()
    splitdeconv.restore(after, back, verify=False)
    assert "ConvTranspose" in op_types(onnx.load(back))


def test_an_output_shape_that_is_an_input_is_known_again(shared: Path) -> None:
    source = shared / "models/seanet_int16/transpose_conv3.tflite"
    converted = splitdeconv.convert(source, target="generic", verify=False)
    verdict = splitdeconv.restore(converted.model).record.verdict
    assert verdict is not None
    assert len(verdict.outputs) == 1


def test_no_filter_is_stored_twice(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).standard_normal((64, 64, 4, 4)).astype(np.float32)
    converted = splitdeconv.convert(deconv_model((1, 64, 3, 5), kernel, strides=[2, 2]), target="generic", verify=False)
    assert converted.record.converted
    assert isinstance(converted.model, onnx.ModelProto)
    assert converted.model.ByteSize() < kernel.nbytes + 2**14
