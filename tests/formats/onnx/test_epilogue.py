"""Element-wise nodes after a deconv: which move before the rearrangement, and that the numbers stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from onnx import helper

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from tests.examples import examples
from tests.onnx_models import OPSET, conversions, evaluate, load, passes_check, run, single, sites
from tests.strategies import deconvs, integer_tensors

# A function of one element, applied to bit-equal elements at other places: runtimes take another path for the last
# elements of a row than for full vectors, and the two may differ by a few roundings of float32 (2⁻²⁴ each).
ROUNDINGS = 16 * 2.0**-24
PLAIN = Deconv((Axis(3, 2, 1, 1, 0, 1, 4), Axis(4, 2, 1, 1, 1, 0, 3)), 3, 4, 1, 2, has_bias=True)


@dataclass(frozen=True)
class Link:
    """One node of a chain: input 0 is the map unless ``data_input`` says otherwise."""

    op_type: str
    parameters: tuple[Any, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    data_input: int = 0


def chain_model(
    deconv: Deconv, links: Sequence[Link], *, seed: int = 0, opset: int = OPSET, **options: Any
) -> tuple[onnx.ModelProto, Array]:
    """A deconv with ``links`` behind it, and an input of small integers."""
    x, weights = integer_tensors(deconv, seed, "float32")
    nodes, known, value = [], {}, "y"
    for number, link in enumerate(links):
        names = []
        for index, parameter in enumerate(link.parameters):
            names.append("" if parameter is None else f"p{number}_{index}")
            if parameter is not None:
                known[names[-1]] = np.asarray(parameter)
        inputs = [*names[: link.data_input], value, *names[link.data_input :]]
        value = f"y{number}"
        nodes.append(helper.make_node(link.op_type, inputs, [value], name=f"link{number}", **link.attributes))
    return single(deconv, weights, nodes, known, output=value, opset=opset, **options), x


def per_channel(channels: int, rank: int, seed: int = 0, axes: int | None = None) -> Array:
    """Whole numbers ``(C, 1, 1)``, or ``(1, C, 1, 1)`` with ``axes = rank``."""
    values = np.random.default_rng(seed).integers(-3, 4, channels).astype(np.float32)
    lead = () if axes is None else (1,)
    return values.reshape(*lead, channels, *(1,) * (rank - 2))


def norm(channels: int, opset: int = OPSET) -> Link:
    """BatchNormalization whose result is whole: variance 1, epsilon 0."""
    rng = np.random.default_rng(4)
    scale, bias, mean = (rng.integers(-3, 4, channels).astype(np.float32) for _ in range(3))
    return Link("BatchNormalization", (scale, bias, mean, np.ones(channels, np.float32)), {"epsilon": 0.0})


def links_of(channels: int, rank: int) -> list[Link]:
    """Nodes that keep whole numbers whole."""
    number = np.float32(2)
    one_each = per_channel(channels, rank)
    return [
        *(Link(name) for name in ("Abs", "Ceil", "Floor", "Identity", "Neg", "Relu", "Round", "Sign")),
        Link("Clip", (np.float32(-5), np.float32(6))),
        Link("Clip", (None, np.float32(6))),
        Link("Clip", (np.float32(0),)),
        Link("LeakyRelu", (), {"alpha": 2.0}),
        Link("PRelu", (one_each,)),
        Link("PRelu", (np.full(1, 3, np.float32),)),
        *(Link(name, (one_each,)) for name in ("Add", "Max", "Min", "Mul", "Sub")),
        *(Link(name, (one_each,), data_input=1) for name in ("Add", "Max", "Min", "Mul", "Sub")),
        *(Link(name, (number,)) for name in ("Add", "Div", "Max", "Min", "Mul", "Sub")),
        Link("Add", (per_channel(channels, rank, 2, axes=rank),)),
        Link("Mul", (per_channel(channels, rank, 3, axes=rank),), data_input=1),
        Link("Mul", (np.full((1,) * rank, 2, np.float32),)),
        Link("Add", (np.full((1, 1), 2, np.float32),)),
        norm(channels),
    ]


def assert_moved_and_equal(model: onnx.ModelProto, x: Array, names: Sequence[str]) -> None:
    """Every candidate gives the same bits, and the merged ones have ``names`` right behind their convolution."""
    assert passes_check(model)
    (site,) = sites(load(model))
    assert site.epilogue == tuple(names)
    (wanted,) = evaluate(model, {"x": x}).values()
    for candidate, converted in conversions(model):
        if candidate.lowering == "native":
            continue
        (found,) = run(converted, {"x": x}).values()
        np.testing.assert_array_equal(found, wanted, str(candidate))
        if candidate.lowering in ("split", "zero_insert") and candidate.window != "taps":  # its zeros come behind
            ops = [node.op_type for node in converted.graph.node]
            behind = ops.index("Conv") + 1
            assert ops[behind : behind + len(names)] == list(names)


@pytest.mark.parametrize("number", range(len(links_of(4, 4))))
def test_each_element_wise_node_moves(number: int) -> None:
    link = links_of(PLAIN.out_channels, 4)[number]
    model, x = chain_model(PLAIN, [link])
    assert_moved_and_equal(model, x, [link.op_type])


@given(st.data(), deconvs(negative_pads=False), st.integers(0, 2**32))
@examples(8, 250, *HealthCheck)
def test_random_chains_move(data: st.DataObject, deconv: Deconv, seed: int) -> None:
    offered = links_of(deconv.out_channels, len(deconv.axes) + 2)
    links = data.draw(st.lists(st.sampled_from(offered), min_size=1, max_size=4))
    open_sizes = ("N", deconv.in_channels, *(f"s{n}" for n in range(len(deconv.axes))))
    model, x = chain_model(deconv, links, seed=seed, in_dims=data.draw(st.sampled_from([None, open_sizes])))
    assert_moved_and_equal(model, x, [link.op_type for link in links])


@pytest.mark.parametrize("name", ["Elu", "Erf", "Exp", "HardSwish", "Mish", "Sigmoid", "Softplus", "Tanh", "Gelu"])
def test_functions_of_one_element_move(name: str) -> None:
    links = [Link("Mul", (np.float32(0.01),)), Link(name)]
    model, x = chain_model(PLAIN, links)
    (site,) = sites(load(model))
    assert site.epilogue == ("Mul", name)
    (wanted,) = run(model, {"x": x}).values()
    for candidate, converted in conversions(model):
        (found,) = run(converted, {"x": x}).values()
        np.testing.assert_allclose(found, wanted, rtol=ROUNDINGS, atol=ROUNDINGS, err_msg=str(candidate))


@pytest.mark.parametrize("opset", [7, 8, 9, 14, 15])
def test_batch_normalization_of_each_version_moves(opset: int) -> None:
    model, x = chain_model(PLAIN, [norm(4), Link("Relu")], opset=opset)
    assert_moved_and_equal(model, x, ["BatchNormalization", "Relu"])


def test_clip_with_attributes_moves() -> None:
    links = [Link("Clip", (), {"min": -2.0, "max": 9.0})]
    model, x = chain_model(PLAIN, links, opset=7)
    assert_moved_and_equal(model, x, ["Clip"])


@pytest.mark.parametrize(
    "link",
    [
        Link("Add", (np.arange(6, dtype=np.float32),)),  # along the width
        Link("Mul", (np.ones((9, 6), np.float32),)),
        Link("Add", (np.ones((2, 1, 1, 1), np.float32),)),  # per batch
        Link("Add", (np.ones((2, 4, 1, 1), np.float32),)),
        Link("Add", (np.ones((1, 2, 4, 9, 6), np.float32),)),  # adds an axis
        Link("Add", (np.ones((1, 1, 1, 1, 1), np.float32),)),  # adds an axis
        Link("Mul", (np.ones((4, 9, 6), np.float32),)),
        Link("PRelu", (np.ones((9, 6), np.float32),)),
        Link("Softmax", (), {"axis": 1}),
        Link("Transpose", (), {"perm": [0, 2, 3, 1]}),
    ],
)
def test_what_depends_on_the_place_stays_behind(link: Link) -> None:
    model, x = chain_model(
        PLAIN, [Link("Relu"), link, Link("Neg")], out_rank=max(4, *(p.ndim for p in link.parameters), 0)
    )
    (site,) = sites(load(model))
    assert site.epilogue == ("Relu",)
    (wanted,) = evaluate(model, {"x": x}).values()
    for candidate, converted in conversions(model):
        if candidate.lowering != "native":
            (found,) = run(converted, {"x": x}).values()
            np.testing.assert_allclose(found, wanted, rtol=ROUNDINGS, atol=ROUNDINGS, err_msg=str(candidate))


def more_readers(kind: str) -> tuple[onnx.ModelProto, Array]:
    """A Relu whose input, the deconv's output, something else wants too."""
    x, weights = integer_tensors(PLAIN, 0, "float32")
    nodes = [helper.make_node("Relu", ["y"], ["r"])]
    if kind == "second reader":
        nodes += [helper.make_node("Neg", ["y"], ["n"]), helper.make_node("Sub", ["r", "n"], ["z"])]
    elif kind == "the same reader twice":
        nodes = [helper.make_node("Mul", ["y", "y"], ["z"])]
    elif kind == "parameter from the map":
        nodes = [helper.make_node("GlobalMaxPool", ["y"], ["m"]), helper.make_node("Sub", ["y", "m"], ["z"])]
    elif kind == "run-time parameter":
        nodes = [
            helper.make_node("ReduceMax", ["x"], ["m"], keepdims=1),
            helper.make_node("Add", ["y", "m"], ["z"]),
        ]
    elif kind == "read by a body":
        body = helper.make_graph(
            [helper.make_node("Neg", ["y"], ["inner"])],
            "body",
            [],
            [helper.make_tensor_value_info("inner", 1, [None] * 4)],
        )
        condition = np.asarray(True)
        nodes.append(helper.make_node("If", ["c"], ["i"], then_branch=body, else_branch=body_of_relu()))
        nodes.append(helper.make_node("Sub", ["r", "i"], ["z"]))
        return single(PLAIN, weights, nodes, {"c": condition}, output="z"), x
    else:
        model = single(PLAIN, weights, nodes, output="r")
        model.graph.output.append(helper.make_tensor_value_info("y", 1, [None] * 4))
        return model, x
    return single(PLAIN, weights, nodes, output="z"), x


def body_of_relu() -> onnx.GraphProto:
    output = helper.make_tensor_value_info("other", 1, [None] * 4)
    return helper.make_graph([helper.make_node("Relu", ["y"], ["other"])], "else", [], [output])


@pytest.mark.parametrize(
    "kind",
    [
        "second reader",
        "the same reader twice",
        "parameter from the map",
        "run-time parameter",
        "read by a body",
        "graph output in between",
    ],
)
def test_what_others_read_stays_behind(kind: str) -> None:
    model, x = more_readers(kind)
    assert passes_check(model)
    (site,) = sites(load(model))
    assert site.epilogue == ()
    wanted = evaluate(model, {"x": x})
    for candidate, converted in conversions(model):
        if candidate.lowering != "native":
            found = run(converted, {"x": x})
            assert list(found) == list(wanted)
            for name, values in wanted.items():
                np.testing.assert_array_equal(found[name], values, f"{candidate} {name}")


def test_a_training_normalization_stays_behind() -> None:
    _, weights = integer_tensors(PLAIN, 0, "float32")
    known = {name: np.ones(4, np.float32) for name in ("s", "bb", "m", "v")}
    names = ["y", *known]
    node = helper.make_node("BatchNormalization", names, ["z", "mean", "var"], training_mode=1)
    assert sites(load(single(PLAIN, weights, [node], known, output="z")))[0].epilogue == ()
