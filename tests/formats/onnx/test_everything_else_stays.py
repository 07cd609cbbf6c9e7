"""What a conversion has no business with is in the result as it was: also what onnx_ir does not carry."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import splitdeconv
from splitdeconv.cli import main
from tests.models import deconv_model
from tests.onnx_models import load

BY_RULE = "generic"


def sparse(name: str) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([1.5, 2.5], np.float32), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0, 3], np.int64), f"{name}_at"), [4])


def full_model(ir_version: int, opset: int, *, training: Sequence[str] = ()) -> onnx.ModelProto:
    """A deconv beside all that stays, and a training part that reads the values named."""
    model = deconv_model(strides=[2, 2], ir_version=ir_version, opset=opset)
    model.graph.initializer[0].metadata_props.add(key="of", value="the weight")
    scale = numpy_helper.from_array(np.array([2, 2, 2, 2], np.float32), "scale")
    scale.metadata_props.add(key="of", value="the scale")
    scale.doc_string = "twice"
    model.graph.initializer.append(scale)
    model.graph.sparse_initializer.append(sparse("rest"))
    nodes = [
        helper.make_node("Constant", [], ["c"], name="c", sparse_value=sparse("inner")),
        helper.make_node("Add", ["c", "rest"], ["sum"], name="sum"),
        helper.make_node("Mul", ["sum", "scale"], ["product"], name="product"),
        helper.make_node("F", ["product"], ["z"], domain="own", name="f"),
    ]
    model.graph.node.extend(nodes)
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [4]))
    note = model.graph.quantization_annotation.add(tensor_name="z")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    body = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Neg", ["t"], ["b"])]
    function = helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", opset)])
    function.value_info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, ["n"]))
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    for name in training:
        part = model.training_info.add()
        part.algorithm.name = "step"
        part.algorithm.node.append(helper.make_node("Neg", [name], [f"{name}_new"]))
        part.update_binding.add(key=name, value=f"{name}_new")
    return model


def beside(model: onnx.ModelProto) -> dict[str, list[bytes]]:
    """All of it as bytes."""
    graph = model.graph
    named = [node for node in graph.node if node.name in ("c", "sum", "product", "f")]
    return {
        "training": [part.SerializeToString() for part in model.training_info],
        "annotations": [each.SerializeToString() for each in graph.quantization_annotation],
        "functions": [each.SerializeToString() for each in model.functions],
        "sparse": [each.SerializeToString() for each in graph.sparse_initializer],
        "nodes": [each.SerializeToString() for each in named],
        "initializers": [each.SerializeToString() for each in graph.initializer if each.name == "scale"],
    }


@pytest.mark.parametrize(("ir_version", "opset"), [(8, 17), (10, 21)])
@pytest.mark.parametrize("form", ["file", "object", "external"])
def test_everything_else_stays(form: str, ir_version: int, opset: int, tmp_path: Path) -> None:
    model = full_model(ir_version, opset, training=["scale"])
    before = beside(model)
    path, out = tmp_path / "in.onnx", tmp_path / "out.onnx"
    if form == "object":
        after = splitdeconv.convert(model, target=BY_RULE).model
    else:
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        onnx.save(copy, path, save_as_external_data=form == "external", size_threshold=100)
        splitdeconv.convert(path, out, target=BY_RULE)
        after = onnx.load(out)
    assert isinstance(after, onnx.ModelProto)
    assert "ConvTranspose" not in [node.op_type for node in after.graph.node]
    assert beside(after) == before == beside(model)


def test_a_deconv_that_the_training_part_trains_is_left(tmp_path: Path) -> None:
    result = splitdeconv.convert(full_model(10, 21, training=["w"]), target=BY_RULE)
    (skipped,) = result.record.skipped
    assert "training_info trains its weights" in skipped.reason


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_cache_of_links_into_a_store(tmp_path: Path) -> None:
    """As Hugging Face's: model and data are links into one folder, under other names."""
    snapshot, store = tmp_path / "snapshots" / "1", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    store.mkdir()
    onnx.save(deconv_model(), tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    for name, blob in (("m.onnx", "a1"), ("m.data", "b2")):
        (tmp_path / name).rename(store / blob)
        (snapshot / name).symlink_to(store / blob)
    result = splitdeconv.convert(snapshot / "m.onnx", tmp_path / "out.onnx", target=BY_RULE)
    assert result.verdict.passed
    onnx.checker.check_model(str(tmp_path / "out.onnx"))
    splitdeconv.convert(snapshot / "m.onnx", tmp_path / "same.onnx", target=BY_RULE, skip=["*"])
    assert (tmp_path / "m.data").read_bytes() == (store / "b2").read_bytes()
    (snapshot / "m.data").unlink()
    (snapshot / "m.data").symlink_to("/etc/hostname")
    with pytest.raises(splitdeconv.InputError, match="outside of the model's folder"):
        splitdeconv.inspect(snapshot / "m.onnx")


def test_an_attached_archive_moves_without_being_unpacked() -> None:
    tflite = pytest.importorskip("splitdeconv.formats.tflite.file")
    before = io.BytesIO(b"F" * 100)
    with zipfile.ZipFile(before, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"labels"
        for name in ("a.txt", "b.txt"):
            archive.writestr(name, b"0" * 2_000_000)
    attached = before.getvalue()[100:]
    moved = b"F" * 777 + tflite._moved_archive(attached, 777)
    assert len(moved) == 777 + len(attached)
    with zipfile.ZipFile(io.BytesIO(moved)) as archive:
        assert [archive.read(name) for name in archive.namelist()] == [b"0" * 2_000_000] * 2
        assert struct.unpack_from("<I", moved, archive.start_dir + 42)[0] == 777


# Sites that cannot be rewritten do not stand in the others' way


def two_sites() -> onnx.ModelProto:
    model = deconv_model(strides=[2, 2])
    weight = numpy_helper.from_array(np.ones((3, 2, 1, 1, 1, 1), np.float32), "w4")
    model.graph.initializer.append(weight)
    model.graph.node.append(helper.make_node("ConvTranspose", ["x4", "w4"], ["y4"], name="four"))
    model.graph.input.append(helper.make_tensor_value_info("x4", TensorProto.FLOAT, [1, 3, 2, 2, 2, 2]))
    model.graph.output.append(helper.make_tensor_value_info("y4", TensorProto.FLOAT, [None] * 6))
    return model


@pytest.mark.parametrize("options", [[], ["--skip", "four"], ["--only", "up"]])
def test_a_site_with_four_axes_is_skipped(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(two_sites(), tmp_path / "m.onnx")
    command = ["convert", str(tmp_path / "m.onnx"), str(tmp_path / "o.onnx"), "--target", "generic"]
    assert main([*command, *options]) == 0
    shown = capsys.readouterr().out
    assert "skipped 'four' (graph): weight of 6 axes, wanted 3 to 5 (1-D, 2-D or 3-D deconv)" in shown
    assert "verified: 1 of 1 sites" in shown
    assert main([*command, "--layer", "four=split"]) == 2
    assert "--layer: site 'four' cannot be rewritten: weight of 6 axes" in capsys.readouterr().err


def test_deconvs_of_other_domains_are_listed_and_the_model_s_own_functions_are_not() -> None:
    model = deconv_model()
    model.graph.node.append(helper.make_node("FusedConvTranspose", ["x"], ["u"], domain="com.microsoft", name="other"))
    model.graph.node.append(helper.make_node("MyDeconv", ["x"], ["v"], domain="own", name="mine"))
    body = [helper.make_node("Relu", ["a"], ["b"])]
    model.functions.append(helper.make_function("own", "MyDeconv", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    model.opset_import.extend([helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("own", 1)])
    (skipped,) = splitdeconv.inspect(model).findings.skipped
    assert skipped.site == "other"
    assert skipped.reason == "com.microsoft::FusedConvTranspose is not rewritten: its meaning is not part of ONNX"


def test_deconvs_behind_one_of_which_runtimes_make_other_sizes_stay() -> None:
    """ONNX Runtime computes Shape beforehand, from sizes that inference found and that it does not make itself."""
    model = deconv_model(strides=[1, 3], auto_pad="SAME_UPPER", output_padding=[0, 2])
    weight = numpy_helper.from_array(np.ones((3, 2, 3, 3), np.float32), "w2")
    model.graph.initializer.append(weight)
    model.graph.node.append(helper.make_node("ConvTranspose", ["y", "w2"], ["z"], name="next"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [None] * 4))
    findings = load(model).find()
    assert [skipped.site for skipped in findings.skipped] == ["up", "next"]
    assert "runtimes make other sizes than they expect" in findings.skipped[1].reason
    assert not findings.sites


@pytest.mark.parametrize(("value", "said"), [(np.inf, "holds infinite values or NaN"), (1e38, "overflows in other")])
def test_inputs_that_overflow_are_said(value: float, said: str) -> None:
    given = {"x": np.full((1, 4, 5, 6), value, np.float32)}
    result = splitdeconv.convert(deconv_model(), target=BY_RULE, inputs=given)
    assert any(said in note for note in result.verdict.notes)
