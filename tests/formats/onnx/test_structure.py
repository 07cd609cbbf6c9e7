"""What of a model must survive a rewrite: names, notes, positions, external data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.way_back import KEY
from tests.onnx_models import (
    build,
    conversions,
    convert,
    deconv_attributes,
    evaluate,
    load,
    programs,
    run,
    single,
    sites,
    tensor,
    written,
)
from tests.onnx_sites import DECONV, KNOWN, MAP, SHAPE, WANTED, WEIGHTS, X, assert_gone_and_equal, deconv_node


def test_what_people_wrote_is_preserved() -> None:
    model = single(DECONV, WEIGHTS, [helper.make_node("Softmax", ["y"], ["z"], name="last")], output="z")
    model.ir_version = 10
    model.doc_string, model.producer_name, model.producer_version = "a model", "somebody", "7.1"
    model.domain, model.model_version = "org.example", 5
    helper.set_model_props(model, {"author": "me"})
    graph = model.graph
    graph.name, graph.doc_string = "the graph", "its notes"
    graph.node[1].doc_string = "a Softmax"
    graph.node[1].metadata_props.add(key="k", value="v")
    graph.node[0].doc_string = "the deconv"
    graph.node[0].metadata_props.add(key="from", value="exporter")
    graph.input[0].doc_string = "pixels"
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.value_info.add().CopyFrom(helper.make_tensor_value_info("y", 1, ["batch", 2, 6, 12]))
    for candidate, found in conversions(model):
        for name in ("ir_version", "doc_string", "producer_name", "producer_version", "domain", "model_version"):
            assert getattr(found, name) == getattr(model, name)
        assert [each for each in found.metadata_props if each.key != KEY] == list(model.metadata_props)
        assert found.opset_import == model.opset_import
        assert (found.graph.name, found.graph.doc_string) == ("the graph", "its notes")
        assert found.graph.input == model.graph.input
        assert found.graph.output == model.graph.output
        (kept,) = [node for node in found.graph.node if node.name == "last"]
        assert kept == graph.node[1]
        (info,) = [value for value in found.graph.value_info if value.name == "y"]
        assert info == graph.value_info[0]
        if candidate.lowering != "native":
            check_notes(found)


def check_notes(found: onnx.ModelProto) -> None:
    """The convolutions keep the original node's attributes and notes."""
    for node in found.graph.node:
        assert node.name == "last" or node.name.startswith("site/")
        if node.op_type == "Conv":
            notes = {each.key: each.value for each in node.metadata_props}
            assert notes["from"] == "exporter"
            assert notes["splitdeconv.site"] == "site"
            original = json.loads(notes["splitdeconv.original"])
            assert original["name"] == "site"
            assert original["doc_string"] == "the deconv"
            assert original["attributes"] == deconv_attributes(DECONV)


@pytest.mark.parametrize("ir_version", [4, 9])
def test_before_nodes_had_metadata_the_original_is_in_the_doc_string(ir_version: int) -> None:
    model = single(
        DECONV, WEIGHTS, opset=9, ir_version=ir_version, attributes={**deconv_attributes(DECONV), "auto_pad": "NOTSET"}
    )
    for converted in assert_gone_and_equal(model):
        for node in converted.graph.node:
            assert not node.metadata_props
            if node.op_type == "Conv":
                original = json.loads(json.loads(node.doc_string)["splitdeconv.original"])
                assert original["attributes"] == {**deconv_attributes(DECONV), "auto_pad": "NOTSET"}


def test_unnamed_and_equally_named_nodes() -> None:
    nodes = [
        deconv_node(["x", "w", "b"], "y", ""),
        deconv_node(["x", "w", "b"], "z", "same"),
        deconv_node(["x", "w", "b"], "u", "same"),
        helper.make_node("Relu", ["y"], ["v"], name="same"),
        helper.make_node("Relu", ["z"], ["same/Conv"], name="same/Conv"),
    ]
    model = build(nodes, {"x": SHAPE}, {"v": MAP, "same/Conv": MAP, "u": MAP}, KNOWN)
    assert [site.id for site in sites(load(model))] == ["ConvTranspose@y", "same", "same#2"]
    for converted in assert_gone_and_equal(model, original=evaluate):  # the runtime wants unique names
        values = [name for node in converted.graph.node for name in node.output]
        assert len(set(values)) == len(values)


def test_two_deconvs_in_a_row_and_outputs_that_keep_their_names() -> None:
    nodes = [
        deconv_node(["x", "w", "b"], "y", "first"),
        helper.make_node("Relu", ["y"], ["r"]),
        deconv_node(["r", "w", "b"], "z", "second"),
        helper.make_node("Neg", ["z"], ["n"]),
    ]
    model = build(nodes, {"x": SHAPE}, {"z": MAP, "r": MAP, "n": MAP}, KNOWN)
    assert [site.epilogue for site in sites(load(model))] == [("Relu",), ()]
    for converted in assert_gone_and_equal(model):
        assert [value.name for value in converted.graph.output] == ["z", "r", "n"]


def test_a_deconv_behind_an_output_shape_below_its_input() -> None:
    """ONNX's inference loses the rank there; that is no reason to reject what follows."""
    cut = helper.make_node("ConvTranspose", ["x", "w", "b"], ["y"], name="cut", output_shape=[2, 2], strides=[1, 1])
    nodes = [cut, helper.make_node("Relu", ["y"], ["r"]), deconv_node(["r", "w", "b"], "z", "second")]
    model = build(nodes, {"x": SHAPE}, {"z": MAP}, KNOWN)
    found = sites(load(model))
    assert [site.deconv.in_sizes for site in found] == [DECONV.in_sizes, (2, 2)]
    np.testing.assert_array_equal(run(convert(model), {"x": X})["z"], evaluate(model, {"x": X})["z"])


def test_the_output_that_bodies_read() -> None:
    branches = [
        helper.make_graph([helper.make_node(op, ["y"], [op])], op, [], [helper.make_tensor_value_info(op, 1, MAP)])
        for op in ("Neg", "Relu")
    ]
    nodes = [
        deconv_node(["x", "w", "b"], "y"),
        helper.make_node("If", ["c"], ["z"], then_branch=branches[0], else_branch=branches[1]),
    ]
    model = build(nodes, {"x": SHAPE}, {"z": MAP}, {**KNOWN, "c": np.asarray(True)})
    assert_gone_and_equal(model)


def test_a_deconv_whose_output_nothing_reads() -> None:
    nodes = [deconv_node(["x", "w", "b"], "y"), helper.make_node("Relu", ["x"], ["z"])]
    assert_gone_and_equal(build(nodes, {"x": SHAPE}, {"z": MAP}, KNOWN))


def test_an_epilogue_whose_parameters_stand_behind_it() -> None:
    """Parameters from Constant nodes that come later in the file than the deconv, and are shared."""
    nodes = [
        deconv_node(["x", "w", "b"], "y", "first"),
        deconv_node(["x", "w", "b"], "z", "second"),
        helper.make_node("Constant", [], ["c"], value=tensor("", np.array([2, 3], np.float32).reshape(2, 1, 1))),
        helper.make_node("Mul", ["y", "c"], ["m"]),
        helper.make_node("Add", ["c", "z"], ["a"]),
    ]
    model = build(nodes, {"x": SHAPE}, {"m": MAP, "a": MAP}, KNOWN)
    for converted in assert_gone_and_equal(model):
        assert "Constant" not in {node.op_type for node in converted.graph.node}


def test_a_model_without_deconvs_is_the_same() -> None:
    model = build([helper.make_node("Relu", ["x"], ["y"])], {"x": SHAPE}, {"y": MAP}, {"unused": X})
    loaded = load(model)
    assert sites(loaded) == ()
    found = written(loaded.splice({}))
    del found.graph.value_info[:]  # the types of initializers, which are stated twice now
    assert found == model


def test_the_original_model_is_not_changed() -> None:
    loaded = load(single(DECONV, WEIGHTS, [helper.make_node("Relu", ["y"], ["z"])], output="z"))
    before = written(loaded).SerializeToString(deterministic=True)
    (site,) = sites(loaded)
    for _, program in programs(loaded, site):
        loaded.splice({site.id: program})
        loaded.emit(site, program)
    assert written(loaded).SerializeToString(deterministic=True) == before


def test_every_candidate_alone_is_a_sound_model() -> None:
    loaded = load(single(DECONV, WEIGHTS, [helper.make_node("Relu", ["y"], ["z"])], output="z"))
    (site,) = sites(loaded)
    for candidate, program in programs(loaded, site):
        alone = onnx.load_from_string(loaded.emit(site, program).read())
        onnx.checker.check_model(alone, full_check=True)
        np.testing.assert_array_equal(run(alone, {"x": X})["y"], np.maximum(WANTED, 0), str(candidate))
        onnx.checker.check_model(onnx.load_from_string(loaded.emit(site, program, WEIGHTS).read()), full_check=True)


def external(folder: Path, model: onnx.ModelProto) -> Path:
    """The model with all tensors in a file beside it."""
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def test_external_data_stay_external(tmp_path: Path) -> None:
    more = {"big": np.arange(4096, dtype=np.float32)}
    model = single(DECONV, WEIGHTS, [helper.make_node("Neg", ["big"], ["n"])], more)
    model.graph.output.append(helper.make_tensor_value_info("n", 1, [None]))
    path = external(tmp_path, model)
    loaded = OnnxModel.load(path)
    (site,) = sites(loaded)
    for candidate, program in programs(loaded, site):
        out = tmp_path / "out" / "new.onnx"
        out.parent.mkdir(exist_ok=True)
        loaded.splice({site.id: program}).save(out)
        assert sorted(each.name for each in out.parent.iterdir()) == ["new.onnx", "new.onnx.data"]
        onnx.checker.check_model(out, full_check=True)
        plain = onnx.load(out, load_external_data=False)
        (big,) = [each for each in plain.graph.initializer if each.name == "big"]
        assert {each.key: each.value for each in big.external_data}["location"] == "new.onnx.data"
        found = run(onnx.load(out), {"x": X})
        np.testing.assert_array_equal(found["y"], WANTED, str(candidate))
        np.testing.assert_array_equal(found["n"], -more["big"])


def test_a_written_model_can_be_converted_again(tmp_path: Path) -> None:
    path = external(tmp_path, single(DECONV, WEIGHTS))
    OnnxModel.load(path).save(tmp_path / "again.onnx")
    (site,) = sites(OnnxModel.load(tmp_path / "again.onnx"))
    np.testing.assert_array_equal(site.weights.kernel, WEIGHTS.kernel)


def test_float64_evaluation_agrees_with_the_definition() -> None:
    (found,) = evaluate(single(DECONV, WEIGHTS), {"x": X}).values()
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, WANTED)


def test_initializers_are_read_in_every_storage_form() -> None:
    model = single(DECONV, WEIGHTS)
    typed = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=WEIGHTS.kernel.shape)
    typed.float_data.extend(WEIGHTS.kernel.ravel())
    model.graph.initializer[0].CopyFrom(typed)
    np.testing.assert_array_equal(numpy_helper.to_array(typed), WEIGHTS.kernel)
    assert_gone_and_equal(model)
