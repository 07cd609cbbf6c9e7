"""Lists of layers: the benchmarks' own, and what is wrong with others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from splitdeconv.deconv.layers import ListedLayer, read_layers
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.errors import InputError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks" / "layers.json"
UP: dict[str, object] = {"name": "up", "in_channels": 4, "out_channels": 6, "in_size": [8, 9], "kernel": 4, "stride": 2}
CONV = {"kind": "conv", "in_channels": 4, "out_channels": 6, "in_size": [8, 9], "kernel": 3}


def test_the_benchmarks_list_doubles_or_multiplies_every_map_by_its_stride() -> None:
    layers = read_layers(BENCHMARKS).deconvs
    assert len(layers) == 16
    assert {layer.set for layer in layers} == {"image", "vocoder", "volume", "depthwise"}
    for layer in layers:
        for axis in layer.deconv.axes:
            assert axis.in_size is not None
            assert axis.out_size == axis.in_size * axis.stride, layer.name


def read(folder: Path, content: object) -> tuple[ListedLayer, ...]:
    path = folder / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return read_layers(path).layers


def test_defaults(tmp_path: Path) -> None:
    (layer,) = read(tmp_path, [UP])
    assert layer.deconv == Deconv((Axis(4, 2, in_size=8), Axis(4, 2, in_size=9)), 4, 6, batch=1, has_bias=True)
    assert (layer.name, layer.set, layer.epilogue) == ("up", "", ())


def test_convolutions_of_stretched_maps(tmp_path: Path) -> None:
    up, zeros = read(
        tmp_path,
        [
            {**CONV, "name": "up", "upsample": [2, 1], "pads": "same"},
            {**CONV, "name": "zeros", "insert_zeros": 2, "pad_begin": 2, "bias": False},
        ],
    )
    assert up.deconv.describe() == "4→6 3×3 after ×2×1 @8×9"
    assert up.deconv.out_sizes == (16, 9)
    assert up.deconv.has_bias
    assert zeros.deconv.describe() == "4→6 3×3 after zeros ×2 @8×9"
    assert zeros.deconv.out_sizes == (15, 17)
    assert not zeros.deconv.has_bias


def test_axes_of_their_own(tmp_path: Path) -> None:
    entry = UP | {"kernel": [3, 4], "stride": [1, 2], "dilation": [2, 1], "pad_begin": [1, 0], "pad_end": [0, 1]}
    entry |= {"output_pad": [0, 1], "groups": 2, "bias": False, "epilogue": ["Relu"], "set": "odd"}
    (layer,) = read(tmp_path, [entry])
    assert layer.deconv == Deconv((Axis(3, 1, 2, 1, 0, 0, 8), Axis(4, 2, 1, 0, 1, 1, 9)), 4, 6, groups=2)
    assert (layer.set, layer.epilogue) == ("odd", ("Relu",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "mine.json: is not JSON"),
        ("{}", "mine.json: wanted a list of layers"),
        ("[]", "mine.json: wanted a list of layers"),
        ("[3]", "layer 1: is 3, wanted an object"),
        ([{}], "layer 1: in_size is null"),
        ([UP, UP], "two layers are called 'up'"),
        ([UP | {"kernal": 4}], "layer 1 'up': a deconv has no 'kernal'; there are batch, bias, dilation"),
        ([UP | {"in_size": 8}], "in_size is 8, wanted a list"),
        ([UP | {"in_size": [8, "9"]}], 'in_size is "9", wanted a whole number'),
        ([UP | {"kernel": [4]}], "kernel has 1 numbers, in_size has 2"),
        ([UP | {"stride": 2.0}], "stride is 2.0, wanted a whole number"),
        ([UP | {"stride": True}], "stride is true, wanted a whole number"),
        ([UP | {"stride": 0}], "stride is 0, wanted at least 1"),
        ([{key: UP[key] for key in UP if key != "kernel"}], "has no kernel"),
        ([{key: UP[key] for key in UP if key != "in_channels"}], "has no in_channels"),
        ([UP | {"groups": 3}], "in_channels is 4, wanted a positive multiple of groups = 3"),
        ([{key: UP[key] for key in UP if key != "stride"}], "has no stride"),
        ([UP | {"pads": "same", "pad_begin": 1}], 'pads is "same", wanted "same", or pad_begin and pad_end instead'),
        ([UP | {"groups": 0}], "groups is 0, wanted at least 1"),
        ([UP | {"bias": 1}], "bias is 1, wanted true or false"),
        ([CONV | {"upsample": 2, "stride": 2}], "stride is [2, 2], wanted 1 behind upsample"),
        ([CONV | {"insert_zeros": [1, 1]}], "insert_zeros is [1, 1], wanted whole numbers from 1 on, one above 1"),
        ([CONV | {"bias": True}], "a conv without upsample or insert_zeros has no bias to state"),
        ([UP | {"epilogue": "Relu"}], 'epilogue is "Relu", wanted a list'),
    ],
)
def test_what_is_wrong_is_said(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, content)
    assert message in str(caught.value)
