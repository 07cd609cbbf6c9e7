"""Skip connections: the convolution of a stretched map and of maps beside it becomes a sum of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from splitdeconv.deconv.spec import WrittenOut
from splitdeconv.deconv.weights import Array
from tests.formats.onnx import stretched_models as models
from tests.formats.onnx.stretched_checks import PAD, assert_rewritten, dense, emitted, integers, the_site
from tests.formats.onnx.stretched_models import CHANNELS, SIZES, model_of, node, numbers, resize, then
from tests.onnx_models import convert, load, run, sites


@pytest.mark.parametrize("order", [("v", "s"), ("s", "v"), ("t", "v", "s")])
def test_skip_connections_are_the_sum_of_two_convolutions(order: Sequence[str]) -> None:
    kernel = dense(3, 3, channels=CHANNELS * len(order))
    model = model_of(models.skip(order), kernel=kernel, pads=[1, 0, 2, 1])
    site = the_site(model)
    assert site.deconv.written_out == WrittenOut("repeat", (3, 3), (1, 1), CHANNELS * (len(order) - 1))
    assert site.deconv.native_macs() == kernel.size * 11 * 11
    assert_rewritten(model)


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [(dense(1, 1, channels=6), {"pads": [0] * 4}), (dense(5, 4, channels=6), {"pads": [2, 1, 2, 2]})],
)
def test_other_kernels_beside_skip_connections(kernel: Array, attributes: dict[str, Any]) -> None:
    assert_rewritten(model_of(models.skip(), kernel=kernel, **attributes))


def affine(count: int) -> models.Nodes:
    """BatchNormalization of ``count`` channels, each with numbers of its own, and an activation."""
    numbers_of = {"gain": 1 + np.arange(count), "shift": np.arange(count) - 2, "mean": np.arange(count) % 3}
    known = {name: values.astype(np.float32) for name, values in numbers_of.items()}
    make = [
        lambda x, y: node("BatchNormalization", [x, "gain", "shift", "mean", "variance"], y, epsilon=0.0),
        lambda x, y: node("Relu", [x], y),
    ]
    return make, {**known, "variance": np.full(count, 0.25, np.float32)}


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("order", [("v", "s"), ("t", "v", "s")])
def test_pads_behind_a_concatenation_go_onto_each_part(mode: str, order: Sequence[str]) -> None:
    nodes = [lambda x, y: node("Pad", [x, "pad"], y, mode=mode), lambda x, y: node("Relu", [x], y)]
    model = model_of(
        then(models.skip(order), nodes, {"pad": PAD}), kernel=dense(3, 3, channels=3 * len(order)), pads=[0] * 4
    )
    assert bool(the_site(model).deconv.written_out.around) == (mode != "constant")
    assert_rewritten(model, step=9)


@pytest.mark.parametrize("order", [("v", "s"), ("s", "v", "t")])
def test_each_part_has_its_own_numbers_of_what_is_done_to_all_channels(order: Sequence[str]) -> None:
    count = CHANNELS * len(order)
    model = model_of(then(models.skip(order), *affine(count)), kernel=dense(3, 3, channels=count))
    assert_rewritten(model, step=9)
    assert "BatchNormalization" in [each.op_type for each in emitted(model)["native"].graph.node]


def test_a_pad_before_the_concatenation_makes_the_other_map_larger() -> None:
    nodes, known = models.skip(("larger", "other"))
    more = [node("Pad", ["v", "inner"], "larger"), node("Pad", ["s", "inner"], "other")]
    front = [*nodes[:-1], *more, nodes[-1]], {**known, "inner": numbers(0, 0, 1, 2, 0, 0, 0, 1)}
    model = model_of(front, kernel=dense(3, 3, channels=6))
    assert the_site(model).deconv.written_out.around == ((1, 0), (2, 1))
    assert_rewritten(model, step=9)


def test_of_parts_with_several_factors_each_conversion_takes_one() -> None:
    nodes, known = models.skip(("v", "s", "t"), factor=4)
    again = resize((1, 1, 4, 1))
    again[0][0].output[0] = nodes[-1].input[1] = "tall"
    again[0][0].input[0], again[0][0].input[2] = "wide", "tall_scales"
    wide = node("Pad", ["x", "wider"], "wide")
    known |= {"tall_scales": np.array([1, 1, 4, 1], np.float32), "wider": numbers(*[0] * 7, 3 * SIZES[1])}
    model = model_of(([*nodes[:-1], wide, *again[0], nodes[-1]], known), kernel=dense(3, 3, channels=9))
    first = the_site(model)
    assert first.deconv.strides == (4, 4)
    assert "'tall' beside it stay upsampled in the other convolution" in first.notes[1]
    once = convert(model, "split_phases")
    (second,) = (site for site in sites(load(once)) if site.deconv.written_out)
    assert second.deconv.strides == (4, 1)
    feeds = {"x": integers(1, CHANNELS, *SIZES)}
    np.testing.assert_array_equal(run(convert(once, "split_phases"), feeds)["y"], run(model, feeds)["y"])


# the order of the parts, of 3 channels each, and the groups of all: which of them read one part, or two
GROUPS = [("vs", 2), ("sv", 6), ("vs", 3), ("tvs", 3), ("tvs", 9), ("stvs", 2), ("stvs", 6)]


@pytest.mark.parametrize(("order", "groups"), GROUPS)
def test_groups_read_one_map_each_or_are_sums(order: str, groups: int) -> None:
    total = CHANNELS * len(order)
    kernel, after = dense(3, 2, channels=total // groups, outs=2 * groups), [node("Relu", ["y"], "r")]
    options: dict[str, Any] = {"group": groups, "pads": [1, 0, 1, 1], "after": after, "outputs": {"r": [None] * 4}}
    model = model_of(models.skip(tuple(order)), kernel=kernel, **options)
    deconv = the_site(model).deconv
    assert (deconv.groups, deconv.in_channels, deconv.kernel_shape[1]) == (groups, CHANNELS, 2)
    assert deconv.native_macs() == kernel.size * 10 * 12
    assert_rewritten(model, step=5)


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups_behind_elementwise_nodes_and_pads(groups: int) -> None:
    make, known = affine(6)
    pad = [lambda x, y: node("Pad", [x, "pad"], y, mode="edge")]
    front = then(models.skip(), [*make, *pad], {**known, "pad": PAD})
    kernel = dense(3, 3, channels=6 // groups, outs=groups)
    assert_rewritten(model_of(front, kernel=kernel, pads=[0] * 4, group=groups), step=7)


def test_an_epilogue_behind_a_skip_connection_comes_behind_the_sum() -> None:
    after = [node("Relu", ["y"], "r")]
    model = model_of(models.skip(), kernel=dense(3, 3, channels=6), after=after, outputs={"r": [None] * 4})
    assert_rewritten(model)
    made = emitted(model)
    assert [each.op_type for each in made["native"].graph.node] == ["Resize", "Concat", "Conv", "Relu"]
    assert [value.name for value in made["native"].graph.input] == ["x", "x1"]
