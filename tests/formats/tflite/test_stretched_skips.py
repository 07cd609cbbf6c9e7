"""Skip connections: the convolution of a stretched map and of maps beside it becomes a sum of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from splitdeconv.proof.sites import prove_site
from tests.formats.tflite import stretched_models as models
from tests.formats.tflite.stretched_checks import assert_rewritten, forms, litert, operators, the_site
from tests.formats.tflite.stretched_models import CHANNELS, constant, keras, model_of, pad, resize, unary
from tests.tflite_models import loaded


@pytest.mark.parametrize("order", [("v", "s"), ("s", "v"), ("t", "v", "s")])
@pytest.mark.parametrize("between", [[], [pad(), unary("RELU")], [pad("SYMMETRIC")], [pad("REFLECT"), unary("RELU6")]])
def test_skip_connections_are_the_sum_of_two_convolutions(
    order: Sequence[str], between: Sequence[models.Write]
) -> None:
    content = model_of(resize(), models.beside(*order), *between, same=not between, activation=1)
    _, site = the_site(content)
    written = site.deconv.written_out
    assert written is not None
    assert written.beside == CHANNELS * (len(order) - 1)
    assert_rewritten(content, most=4)


@pytest.mark.parametrize("order", [("v", "s"), ("s", "v", "t")])
def test_each_part_has_its_own_numbers_of_what_is_done_to_all_channels(order: Sequence[str]) -> None:
    count = CHANNELS * len(order)
    affine = [constant("MUL", 1.0 + np.arange(count)), constant("ADD", np.arange(count) - 2.0)]
    content = model_of(keras(2, 3), models.beside(*order), *affine, unary("RELU"), kernel=(2, 4), weights="float16")
    assert_rewritten(content, most=4)


def test_skip_connections_of_three_axes_and_open_batches() -> None:
    dims = (1, 2, 3, 4, CHANNELS)
    writes = models.keras_3d, models.beside("s", "v")
    content = model_of(*writes, dims=dims, kernel=(3, 2, 3), kind="CONV_3D", dilations=(1, 1, 1))
    assert_rewritten(content, dims, most=3)
    assert_rewritten(model_of(keras(2, 3), models.beside("v", "s"), open_batch=True), most=3)


def test_a_pad_before_the_concatenation_makes_the_other_map_larger() -> None:
    content = model_of(resize(), pad(), models.beside("v", "s"))
    _, site = the_site(content)
    written = site.deconv.written_out
    assert written is not None
    assert written.around == ((1, 1), (1, 1))
    assert_rewritten(content, most=4)


@pytest.mark.parametrize("order", [("v", "s"), ("s", "v", "t")])
@pytest.mark.parametrize("options", [{"outs": 6, "groups": 3}, {"kind": "DEPTHWISE_CONV_2D", "outs": 2}])
def test_groups_read_one_map_each(order: Sequence[str], options: dict[str, Any]) -> None:
    content = model_of(resize(), models.beside(*order), pad(), same=False, activation=1, **options)
    model, site = the_site(content)
    assert site.deconv.groups > 1
    assert_rewritten(content, most=6)
    for _, program in list(forms(model, site))[::5]:
        assert prove_site(model, site, program, litert("xnnpack")).exact, program.name


def test_a_group_that_reads_both_maps_is_a_sum() -> None:
    assert_rewritten(model_of(resize(), models.beside("v", "s"), outs=6, groups=2, activation=1), most=6)


def test_native_alone_has_the_concatenation_where_the_model_has_it() -> None:
    model, site = the_site(model_of(resize(), models.beside("s", "v", "t"), pad(), unary("RELU"), same=False))
    made = {str(candidate): operators(model.emit(site, program).read()) for candidate, program in forms(model, site)}
    ends = ["STRIDED_SLICE", "STRIDED_SLICE"]
    assert made["native"] == ["RESIZE_NEAREST_NEIGHBOR", *ends, "CONCATENATION", "PAD", "RELU", "CONV_2D"]
    for _, program in list(forms(model, site))[::5]:
        assert prove_site(model, site, program, litert("xnnpack")).exact, program.name


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights": "int8"}, "would be rounded twice"),
        ({"weights": "int8", "kernel": (1, 1)}, "would be rounded twice"),
        ({"weights": "hybrid", "kernel": (1, 1)}, "would be rounded twice"),
    ],
)
def test_skip_connections_that_must_stay_stay_with_a_reason(changes: dict[str, Any], reason: str) -> None:
    found = loaded(model_of(resize(), models.beside("v", "s"), **changes)).find()
    assert not found.sites
    assert reason in found.skipped[0].reason
