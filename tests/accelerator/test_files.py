"""Files that users write: architectures, energy tables, lists of layers, ONNX models. Each mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from splitdeconv.accelerator.arch import architectures, load_architecture
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.accelerator.layers import read_network
from splitdeconv.deconv.layers import Dense, PlainConv
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.errors import InputError, UsageError
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.lab.simulation.models import find_networks

GOOD = architectures()["dot-product-16x16"].read_text("utf-8")


@pytest.mark.parametrize("name", sorted(architectures()))
def test_every_architecture_that_comes_along_states_a_source_for_every_number(name: str) -> None:
    arch = load_architecture(name)
    assert arch.name == name
    assert all(stated.source for stated in arch.stated.values())
    assert load_energies(arch.energy).stated["source"].source


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "value = 256, unit",
            "value = -256, unit",
            "memory.maps_buffer.value: found -256, wanted a whole number above 0",
        ),
        ("value = 256, unit", "value = 0, unit", "memory.maps_buffer.value: found 0, wanted a whole number above 0"),
        ('unit = "KiB"', 'unit = "kilo"', "memory.maps_buffer.unit: found 'kilo', wanted B or KiB or MiB or GiB"),
        ("value = 256, ", "", "memory.maps_buffer.value: is missing"),
        ("maps_buffer =", "map_buffer =", "memory.maps_buffer: is missing"),
        (
            'value = "output"',
            'value = "input"',
            "behaviour.stationary.value: found 'input', wanted 'output' or 'weight'",
        ),
        ("[clock]", "[clock]\nboost = 3", "clock.boost: unknown key, wanted one of"),
        ('dot-product"\nenergy', 'tensor"\nenergy', "dataflow: found 'tensor', wanted one of dot-product"),
        ('value = 16, unit = "input channels"', 'value = 1.5, unit = "input channels"', "array.rows.value: found 1.5"),
        ("value = 8, unit", "value = true, unit", "arithmetic.data_width.value: found True"),
        ('source = "assumed: double buffering"', 'source = ""', "behaviour.overlapped.source: found ''"),
        ('unit = "MHz", source', 'unit = "MHz", why = 1, source', "clock.frequency.why: unknown key"),
        ("value = 800, unit", "value = inf, unit", "clock.frequency.value: found inf"),
        ("value = 800, unit", "value = nan, unit", "clock.frequency.value: found nan"),
        ('"activations", "weights"', '"activations", "sums"', "behaviour.skips.value: found ['activations', 'sums']"),
        ("[array]", "[array", "not TOML"),
    ],
)
def test_a_bad_architecture_file_is_one_line_with_file_key_and_what_was_wanted(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    assert old in GOOD
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(old, new, 1), "utf-8")
    with pytest.raises(InputError) as caught:
        load_architecture(str(path))
    text = str(caught.value)
    assert message in text
    assert text.startswith(str(path))
    assert "\n" not in text


def test_an_own_architecture_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace("value = 256, unit", "value = 1, unit"), "utf-8")
    assert int(load_architecture(str(path)).maps_buffer_bytes) == 1024


def test_an_unknown_architecture_or_table_names_those_that_exist() -> None:
    with pytest.raises(UsageError, match="no architecture is called 'tpu'; there are dot-product-16x16"):
        load_architecture("tpu")
    with pytest.raises(UsageError, match="no energy table is called 'x'; there are eyeriss-2016, horowitz-2014"):
        load_energies("x")
    with pytest.raises(InputError, match="cannot be read"):
        load_architecture("nowhere/none.toml")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "pool"}, 'layer 1: kind is "pool", wanted one of deconv, conv, dense'),
        ({"kind": "dense", "in_features": 3}, "has no out_features"),
        ({"kind": "dense", "in_features": 3, "out_features": 0}, "out_features is 0, wanted at least 1"),
        ({"kind": "dense", "in_features": 3, "size": 1}, "a dense has no 'size'"),
        (
            {"in_channels": 4, "out_channels": 4, "in_size": [8], "kernel": [3, 3], "stride": 2},
            "kernel has 2",
        ),
        (
            {"kind": "conv", "in_channels": 4, "out_channels": 4, "in_size": [8], "kernel": [3], "pads": [1]},
            'pads is [1], wanted "same"',
        ),
        (
            {"kind": "conv", "in_channels": 4, "out_channels": 3, "groups": 2, "in_size": [8], "kernel": [3]},
            "groups is 2",
        ),
    ],
)
def test_a_bad_layer_is_one_line(entry: dict[str, object], message: str, tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    path.write_text(json.dumps({"layer": [entry]}), "utf-8")
    with pytest.raises(InputError) as caught:
        read_network(path)
    assert message in str(caught.value)


def test_a_list_of_layers_in_json(tmp_path: Path) -> None:
    path = tmp_path / "net.json"
    layers = [
        {"kind": "dense", "in_features": 3, "out_features": 32},
        {
            "kind": "deconv",
            "in_channels": 2,
            "out_channels": 4,
            "in_size": [4, 3],
            "kernel": [3, 5],
            "stride": [2, 3],
            "pads": "same",
        },
        {
            "kind": "conv",
            "in_channels": 4,
            "out_channels": 1,
            "in_size": [8, 9],
            "kernel": 3,
            "stride": [2, 1],
            "pads": "same",
        },
    ]
    path.write_text(json.dumps({"name": "mine", "layer": layers}), "utf-8")
    dense, deconv, conv = (layer.spec for layer in read_network(path).layers)
    assert dense == Dense(3, 32)
    assert isinstance(deconv, Deconv)
    assert deconv.out_sizes == (8, 9)
    assert deconv.axes == (Axis(3, 2, 1, 0, 1, 0, 4), Axis(5, 3, 1, 1, 1, 0, 3))
    assert isinstance(conv, PlainConv)
    assert [(axis.pad_begin, axis.pad_end) for axis in conv.axes] == [(0, 1), (1, 1)]


def onnx_model(path: Path, **deconv: object) -> Path:
    """Conv, ConvTranspose, Flatten, Gemm; half of the deconv's weights are zero."""
    rng = np.random.default_rng(1)
    kernel = rng.random((8, 4, 4, 4), np.float32)
    kernel[:, :2] = 0
    tensors = {"a": rng.random((8, 3, 3, 3), np.float32) + 1, "b": kernel, "c": rng.random((4 * 64, 5), np.float32) + 1}
    nodes = [
        helper.make_node("Conv", ["x", "a"], ["h"], "first", auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("ConvTranspose", ["h", "b"], ["u"], "up", strides=[2, 2], **deconv),
        helper.make_node("Flatten", ["u"], ["f"]),
        helper.make_node("Gemm", ["f", "c"], ["y"], "last"),
    ]
    value = helper.make_tensor_value_info
    initializers = [helper.make_tensor(n, TensorProto.FLOAT, t.shape, t.ravel()) for n, t in tensors.items()]
    source, result = value("x", TensorProto.FLOAT, ["n", 3, 7, 8]), value("y", TensorProto.FLOAT, ["n", 5])
    graph = helper.make_graph(nodes, "g", [source], [result], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.mark.parametrize("how", [{"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_UPPER"}, {"output_shape": [8, 8]}])
def test_layers_of_an_onnx_model_with_the_zeros_of_its_weights(how: dict[str, object], tmp_path: Path) -> None:
    (network,) = find_networks(str(onnx_model(tmp_path / "m.onnx", **how)))
    first, up, last = network.layers
    assert isinstance(first.spec, PlainConv)
    assert [(axis.pad_begin, axis.pad_end) for axis in first.spec.axes] == [(1, 1), (0, 1)]
    assert isinstance(up.spec, Deconv)
    assert up.spec.out_sizes == (8, 8)
    assert [(axis.pad_begin, axis.pad_end) for axis in up.spec.axes] == [(1, 1), (1, 1)]
    assert up.nonzero is not None
    assert up.nonzero.mean() == 0.5
    assert last.spec == Dense(256, 5, 1)
    assert last.nonzero is not None
    assert last.nonzero.shape == (5, 256)


GEOMETRIES: list[dict[str, object]] = [
    {"strides": [2], "output_shape": [11]},
    {"strides": [2], "auto_pad": "SAME_UPPER", "output_shape": [11]},
    {"strides": [2], "auto_pad": "SAME_LOWER"},
    {"strides": [3], "auto_pad": "SAME_LOWER"},
    {"strides": [2], "output_shape": [13]},
    {"strides": [2], "output_shape": [9]},
]


@pytest.mark.parametrize("how", GEOMETRIES)
def test_a_deconv_is_simulated_with_the_pads_that_a_conversion_reads(how: dict[str, object], tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    kernel = helper.make_tensor("w", TensorProto.FLOAT, (2, 2, 4), np.ones(16, np.float32))
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "up", **how)
    source, result = value("x", TensorProto.FLOAT, [1, 2, 5]), value("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [source], [result], [kernel])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    model = OnnxModel.load(path)
    (site,) = model.find().sites
    operations = model.operations()
    assert operations is not None
    (counted,) = operations.layers
    assert isinstance(counted.spec, Deconv)
    assert counted.spec.axes == site.deconv.axes
    (network,) = find_networks(str(path))
    assert [layer.spec for layer in network.layers] == [site.deconv]


def test_an_onnx_model_with_open_sizes_asks_for_them(tmp_path: Path) -> None:
    path = onnx_model(tmp_path / "m.onnx", pads=[1, 1, 1, 1])
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "h"
    onnx.save(model, path)
    with pytest.raises(InputError, match=r"Conv 'first': found sizes .* use --input-shape"):
        find_networks(str(path))
    with pytest.raises(UsageError, match="the model has no input 'y'; it has 'x'"):
        find_networks(str(path), {"y": (1, 3, 7, 8)})
    (network,) = find_networks(str(path), {"x": (1, 3, 7, 8)})
    assert len(network.layers) == 3


def test_what_is_not_a_model_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(InputError, match="not a readable ONNX model"):
        find_networks(str(path))
    with pytest.raises(InputError, match="no such file or network; wanted artgan, dcgan"):
        find_networks("dcgam")


def test_real_models_have_the_deconvs_that_are_known(shared: Path) -> None:
    (fst,) = find_networks(str(shared / "models" / "fst_rain_princess_256.onnx"))
    assert [layer.spec.describe() for layer in fst.deconvs] == ["128→64 3×3/2 @64×64", "64→32 3×3/2 @128×128"]
    ours = read_network(Path(__file__).parents[2] / "src/splitdeconv/accelerator/networks/fst.toml")
    assert sum(layer.kind == "conv" for layer in ours.layers) == sum(layer.kind == "conv" for layer in fst.layers)


def test_a_network_is_the_same_in_both_formats(shared: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    onnx_one, tflite_one = (
        find_networks(str(shared / "models" / f"fst_rain_princess_256{suffix}"))[0] for suffix in (".onnx", ".tflite")
    )
    assert [(each.kind, each.spec.describe()) for each in onnx_one.layers] == [
        (each.kind, each.spec.describe()) for each in tflite_one.layers
    ]
